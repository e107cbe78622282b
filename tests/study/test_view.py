"""A study seen from outside: its summary, and its journal with its picture."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from simulated_study import SimulatedStudy, noisy, proposal

from hotlap.config.load import config_from_values
from hotlap.core.errors import MissingExtraError
from hotlap.core.records import History
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.notes import append_note
from hotlap.study import view
from hotlap.study.settings import StudySettings
from hotlap.study.study import Study, open_study, study_protocol
from hotlap.study.view import study_summary, view_study, write_study_journal

CONFIG = config_from_values({"name": "toy", "targets": ["eval_loss < 0.76"]})
PROTOCOL = study_protocol(CONFIG, Path())
TRUE_SECONDS = {0: 100.0, 1: 130.0, 2: 60.0, 3: 59.5, 4: 30.0}


def simulated(true_seconds: dict[int, float] = TRUE_SECONDS) -> History:
    """Return the history of a study with two keeps, a loss and a tie."""
    settings = StudySettings(total_seconds=36000.0, run_seconds=900.0)
    study = SimulatedStudy(settings, noisy(true_seconds, 0.03, 3), [proposal(1) for _ in range(4)])
    study.history = replace(study.history, base_config=CONFIG.model_dump(mode="json"))
    study.run()
    return study.history


@pytest.fixture(scope="module")
def history() -> History:
    past = simulated()
    assert past.kept() == (2, 4) and past.claims[0].confirmed
    return past


def times(history: History, candidate: int) -> list[float]:
    return [run.clock_to_target("train") for run in history.unselected_runs(candidate) if run.outcome == "reached"]


def write_down(project: ProjectFolder, history: History) -> Study:
    """Fill ledger and run folders as if the simulated study had been a real one."""
    study = open_study(project, CONFIG)
    for run in history.runs:
        folder = RunFolder(project.runs_path / run.run_id)
        folder.path.mkdir(parents=True)
        facts = {"role": run.role, "candidate": run.candidate, "seed": run.seed}
        folder.write("command", {"driver": {}, "study": "toy", **facts})
        folder.write("result", {"step": run.steps, **asdict(run)})
        study.folder.append("run", {"run": run.run_id, "phase": "started", **facts})
    for record in (*history.proposals, *history.decisions, *history.claims):
        study.append(record)
    study.history = history
    return study


def test_the_document_holds_the_numbers_of_the_runs(history: History) -> None:
    document = study_summary(history, PROTOCOL).document()
    assert document["baseline_seconds"] == median(times(history, 0))
    assert document["incumbent_seconds"] == median(times(history, 4))
    assert document["record_seconds"] == history.claims[0].median_seconds
    assert document["record_seconds"] == median(
        r.train_seconds for r in history.runs if r.role == "record" and r.candidate
    )
    at_its_pace = history.claims[0].pace * document["baseline_seconds"]
    assert document["speedup"] == pytest.approx(at_its_pace / document["record_seconds"])
    assert 2.9 < document["speedup"] < 3.8
    assert not document["speedup_is_lower_bound"]
    assert (document["tries"], document["kept"]) == (4, 2)
    assert document["runs"] == len(history.runs)
    assert document["seconds_spent"] == history.seconds_spent
    assert document["budget_left_seconds"] == max(0.0, CONFIG.budget.total - history.seconds_spent)
    assert [row["number"] for row in document["ladder"]] == [0, 2, 4]
    json.dumps(document, allow_nan=False)


def test_leave_one_out_proposals_are_no_tries(history: History) -> None:
    ablation = proposal(5, 4, role="ablation")
    decisions = (*history.decisions, replace(history.decisions[0], proposal=5))
    longer = replace(history, proposals=(*history.proposals, ablation), decisions=decisions)
    with_it, without_it = study_summary(longer, PROTOCOL), study_summary(history, PROTOCOL)
    assert with_it.tries == without_it.tries == 4
    assert with_it.noise.expected_false_keeps == without_it.noise.expected_false_keeps > 0


def test_without_a_record_the_incumbent_is_what_was_won(history: History) -> None:
    document = study_summary(replace(history, claims=()), PROTOCOL).document()
    assert document["record_seconds"] is None
    assert document["speedup"] == pytest.approx(document["baseline_seconds"] / document["incumbent_seconds"])


def test_a_baseline_that_misses_gives_a_lower_bound() -> None:
    summary = study_summary(simulated({**TRUE_SECONDS, 0: 2000.0}), PROTOCOL)
    assert summary.is_lower_bound
    assert summary.document()["baseline_seconds"] is None
    assert summary.speedup == pytest.approx(900.0 / summary.record_seconds if summary.record_seconds else math.nan)


def test_a_study_that_has_not_begun_has_a_summary() -> None:
    summary = study_summary(History(clock="train", base_config={}), PROTOCOL)
    assert (summary.tries, summary.kept, summary.num_runs) == (0, 0, 0)
    assert summary.document()["speedup"] is None


def test_what_is_read_from_the_files_is_what_happened(project: ProjectFolder, history: History) -> None:
    write_down(project, history)
    read, summary = view_study(project, "toy")
    assert (read.runs, read.proposals, read.decisions) == (history.runs, history.proposals, history.decisions)
    assert read.claims == history.claims
    expected = study_summary(replace(history, seconds_spent=read.seconds_spent), PROTOCOL)
    assert summary == expected


Draw = Callable[[Any, Path], None]


def drawing(drawn: list[int]) -> Draw:
    """Return a stand-in for the drawing that notes how many bars it was given."""

    def draw(info: Any, path: Path) -> None:
        drawn.append(len(info.bars))
        path.parent.mkdir(exist_ok=True)
        path.write_text("<svg/>")

    return draw


def test_the_picture_is_drawn_when_a_rung_was_added_and_at_the_end(
    project: ProjectFolder, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(view, "draw_progress", drawing(drawn))
    study = write_down(project, history)
    study.history = replace(history, decisions=history.decisions[:2])
    path = write_study_journal(study)
    assert "](speedrun/toy.svg)" in path.read_text()
    assert drawn == [2]
    write_study_journal(study)
    study.history = replace(history, decisions=history.decisions[:3])
    write_study_journal(study)
    assert drawn == [2], "nothing was kept since"
    study.history = history
    write_study_journal(study)
    assert drawn == [2, 3]
    study.history = replace(history, ended="there are no ideas left")
    write_study_journal(study)
    assert drawn == [2, 3, 3]


def test_without_matplotlib_the_journal_says_so(
    project: ProjectFolder, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(info: Any, path: Path) -> None:
        raise MissingExtraError("matplotlib is not installed; run: pip install 'hotlap[report]'")

    monkeypatch.setattr(view, "draw_progress", draw)
    text = write_study_journal(write_down(project, history)).read_text()
    assert "*No picture: matplotlib is not installed; run: pip install 'hotlap[report]'*" in text
    assert ".svg" not in text


def test_notes_reach_the_journal(project: ProjectFolder, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "draw_progress", drawing([]))
    append_note(project, "r0001", "the fan was loud")
    assert "**Note** on r0001: the fan was loud" in write_study_journal(write_down(project, history)).read_text()
