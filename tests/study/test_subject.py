"""What is analysed and reported: a study by its own metric, imported runs by what their source was about."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from hotlap.config.load import config_from_values
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.foreign import ForeignRun, ForeignSource
from hotlap.core.records import History, Proposal, RunRecord
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.markdown_report import write_markdown
from hotlap.runs.imports import import_runs
from hotlap.study.report_view import report_data
from hotlap.study.study import SWEEP_SCHEMA
from hotlap.study.subject import Subject, analysis_of, metric_of, read_subject

RUNS = 24


def foreign(number: int, figure: str = "value", **changes: object) -> ForeignRun:
    """Return a run whose figure is its learning rate, and a little of its optimizer."""
    rate, optim = 10 ** (-4 + 0.1 * number), ("muon", "sgd")[number % 2]
    value = 100 * rate + 0.001 * (optim == "sgd")
    made = ForeignRun(
        own_id=f"t{number}",
        identity=f"test:{number}",
        name=f"run-{number}",
        outcome="missed",
        reason="complete there",
        config={"lr": rate, "optim": optim, "layers": 2},
        metrics={figure: value},
        points=tuple({"step": 10 * step, figure: value + 1 / step} for step in (1, 2, 4)),
        started_at="2026-11-13T09:48:11",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def source(*runs: ForeignRun, label: str = "there", **facts: object) -> ForeignSource:
    told = tuple(replace(run, facts=facts) for run in runs)
    return ForeignSource(kind="test", place=f"{label}.csv", label=label, runs=told)


@pytest.fixture
def swept(project: ProjectFolder) -> Subject:
    import_runs(project, source(*map(foreign, range(RUNS)), directions={"value": "minimize"}))
    return read_subject(project)


def test_settings_that_hardly_differ_are_settings_that_differ(project: ProjectFolder) -> None:
    configs = ({"lr": 0.30001, "bf16": True, "layers": 2}, {"lr": 0.30002, "bf16": False, "layers": 2})
    import_runs(project, source(*(foreign(number, config=config) for number, config in enumerate(configs))))
    found = report_data(project, read_subject(project))
    assert found.runs.headers[-2:] == ("lr", "bf16")
    assert {key: after for key, _, after in found.differences} == {"lr": "0.3", "bf16": "true"}


def test_the_last_import_is_the_subject_where_there_is_no_study(project: ProjectFolder, swept: Subject) -> None:
    assert (swept.name, len(swept.history.runs), len(swept.imported)) == ("there@import", RUNS, RUNS)
    import_runs(project, source(foreign(RUNS), label="later"))
    assert read_subject(project).name == "later@import"
    assert read_subject(project, "there@import").imported.keys() == swept.imported.keys()


def test_imported_runs_are_analysed_by_what_their_source_optimised(swept: Subject) -> None:
    found = analysis_of(swept)
    assert found.table.score_name == "value"
    assert [column.name for column in found.table.parameters] == ["lr", "optim"]
    assert [one.parameter for one in found.importances.visible] == ["lr"]
    assert found.differences == ()
    assert found.best is not None and found.best.run_id == "r0001"


def test_a_source_that_maximised_ranks_the_other_way_round(project: ProjectFolder) -> None:
    import_runs(project, source(*map(foreign, range(RUNS)), directions={"value": "maximize"}))
    subject = read_subject(project)
    assert metric_of(subject) == ("value", True)
    assert (best := analysis_of(subject).best) is not None and best.run_id == f"r{RUNS:04}"
    assert report_data(project, subject).places[0].label == f"r{RUNS:04} run-{RUNS - 1}"


def test_a_run_that_failed_is_not_the_best_however_good_its_last_value(project: ProjectFolder) -> None:
    broken = foreign(0, identity="broken", outcome="crashed", metrics={"value": -1.0})
    import_runs(project, source(broken, *map(foreign, range(1, RUNS))))
    subject = read_subject(project)
    data, best = report_data(project, subject), analysis_of(subject).best
    assert best is not None and data.places[0].label == f"{best.run_id} run-1"


def test_a_metric_that_is_named_goes_first(swept: Subject) -> None:
    assert metric_of(swept, "other", maximize=True) == ("other", True)
    with pytest.raises(ConfigError, match="other"):
        analysis_of(swept, "other")
    with pytest.raises(ConfigError, match="name that, too"):
        analysis_of(swept, maximize=True)


def test_where_nobody_knows_the_metric_its_name_is_asked_for(project: ProjectFolder) -> None:
    import_runs(project, source(*(foreign(number, "f1_score") for number in range(RUNS))))
    subject = read_subject(project)
    with pytest.raises(ConfigError, match=r"--metric; its runs have: f1_score"):
        analysis_of(subject)
    assert analysis_of(subject, "f1_score", maximize=True).table.score_name == "-f1_score"
    data = report_data(project, subject)
    assert data.places == () and len(data.runs.rows) == RUNS


def test_a_name_that_is_not_there_is_told(project: ProjectFolder, swept: Subject) -> None:
    with pytest.raises(StudyError, match="there are: there@import"):
        read_subject(project, "elsewhere@import")
    with pytest.raises(StudyError, match="no study 'elsewhere'"):
        read_subject(project, "elsewhere")


def test_nothing_at_all_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study yet"):
        read_subject(ProjectFolder(tmp_path))


def test_the_report_on_imported_runs_claims_no_clock(project: ProjectFolder, swept: Subject, tmp_path: Path) -> None:
    data = replace(report_data(project, swept), analysis=analysis_of(swept))
    assert data.kind == "import" and data.axis == "steps"
    assert data.curves[0].seconds == (10.0, 20.0, 40.0) and data.curves[0].kind == "best"
    assert all(math.isnan(place.low) for place in data.places)
    assert data.runs.headers == ("run", "name", "outcome", "steps", "value", "lr", "optim")
    assert len(data.runs.rows) == RUNS
    text = write_markdown(data, tmp_path / "report.md").read_text(encoding="utf-8")
    assert "# there@import: imported runs" in text and "| lr | 0.0001 |" in text
    assert "baseline" not in text.replace("best config", "") and "None of hotlap's" in text


def record(number: int, candidate: int, loss: float, **changes: object) -> RunRecord:
    made = RunRecord(
        run_id=f"r{number:04}",
        role="screen" if candidate else "baseline",
        candidate=candidate,
        seed=42,
        outcome="out_of_budget",
        evaluations=({"step": 10, "eval_loss": loss},),
        metrics={"eval_loss": loss, "train_loss": 1.1 * loss},
        config={"training": {"learning_rate": candidate / 10}},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def sweep(runs: list[RunRecord], points: int) -> Subject:
    base = config_from_values({"name": "swept"}).model_dump(mode="json")
    blank = {"observation": "", "hypothesis": "", "predicted_ratio": 1.0, "parent": 0, "family": "sweep", "title": ""}
    proposals = tuple(
        Proposal(number=number, patch={"training.learning_rate": number / 10}, **blank)  # type: ignore[arg-type]
        for number in range(1, points + 1)
    )
    history = History(clock="train", base_config=base, runs=tuple(runs), proposals=proposals)
    protocol = {
        **{"schema": SWEEP_SCHEMA, "config": base, "metric": "eval_loss", "goal": "minimize", "slots": 1},
        **{"space": {"parameters": [{"key": "training.learning_rate"}]}, "spending": {"top": 2, "seeds": 3}},
    }
    return Subject("swept", history, protocol)


def test_a_point_counts_once_however_often_it_was_repeated_and_the_baseline_of_a_sweep_not_at_all() -> None:
    runs = [record(1, 0, 9.0), *(record(1 + n, n, 5.0 - n / 10) for n in range(1, 6))]
    repeats = [record(7 + n, 5, 4.6 + n / 10, role="confirm", seed=43 + n) for n in range(2)]
    found = analysis_of(sweep([*runs, *repeats], 5))
    assert found.table.run_ids == ("r0002", "r0003", "r0004", "r0005", "r0006")
    assert found.table.scores == pytest.approx((4.9, 4.8, 4.7, 4.6, 4.6))
    assert found.best is not None and (found.best.run_id, found.best.runs) == ("r0006", 3)
    assert "median of 3 runs" in found.words and "repeat it" not in found.words


def test_the_best_is_the_point_that_the_sweep_names_and_no_lucky_run_whose_repetitions_failed() -> None:
    runs = [record(1, 0, 9.0), record(2, 1, 3.0), record(3, 2, 4.0)]
    failed = [record(4 + n, 1, 0.0, role="confirm", seed=43 + n, outcome="crashed", evaluations=()) for n in range(2)]
    again = [record(6 + n, 2, 4.1, role="confirm", seed=43 + n) for n in range(2)]
    found = analysis_of(sweep([*runs, *failed, *again], 2))
    assert found.best is not None and found.best.run_id == "r0003"


def test_what_failed_is_no_measurement() -> None:
    runs = [record(1, 0, 9.0), record(2, 1, 3.0), record(3, 2, 0.0, outcome="diverged"), record(4, 3, 4.0)]
    found = analysis_of(sweep(runs, 3))
    assert found.table.imputed == ("r0003",)
    assert "1 of 3 runs failed or never told eval_loss and counts as worse than the others." in found.words
