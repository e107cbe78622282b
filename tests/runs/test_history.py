"""Folding ledgers into histories, killed drivers included."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotlap.core.errors import StudyError
from hotlap.core.processes import process_identity
from hotlap.core.records import Decision, History, Proposal, RecordClaim
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder, StudyFolder
from hotlap.runs.history import load_history, new_sitting, stamp, steady_clock

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def study(project: ProjectFolder) -> StudyFolder:
    return project.study("s").create()


def proposal(number: int) -> Proposal:
    return Proposal(
        number=number,
        parent=0,
        family="rate",
        title="higher rate",
        observation="it is low",
        hypothesis="higher is faster",
        patch={"training.learning_rate": 1e-3 * number},
        predicted_ratio=0.8,
    )


def run_event(folder: RunFolder, phase: str = "started", at: float = 0.0, **facts: Any) -> dict[str, Any]:
    return {"run": folder.run_id, "role": "screen", "candidate": 1, "seed": 7, "phase": phase, "at": at, **facts}


def load(project: ProjectFolder, study: StudyFolder) -> History:
    return load_history(project, study, {"name": "s"}, "train")


def test_a_new_study_has_an_empty_history(project: ProjectFolder, study: StudyFolder) -> None:
    assert load(project, study) == History(clock="train", base_config={"name": "s"})


def test_records_come_back_as_they_were(project: ProjectFolder, study: StudyFolder) -> None:
    decision = Decision(proposal=1, verdict="keep", reason="faster", statistics={"ratio": 0.8})
    claim = RecordClaim(
        look=1, candidate=1, against=0, p_value=0.014, alpha=0.017, confirmed=True, median_seconds=9.0, reason="4 of 4"
    )
    for event, record in (
        ("proposal", proposal(1)),
        ("proposal", proposal(2)),
        ("decision", decision),
        ("claim", claim),
    ):
        study.append(event, dataclasses.asdict(record))
    study.append("proposal", {**dataclasses.asdict(proposal(3)), **stamp("a"), "from_a_later_hotlap": 1})
    history = load(project, study)
    assert history.proposals == (proposal(1), proposal(2), proposal(3))
    assert history.decisions == (decision,)
    assert history.claims == (claim,)
    assert history.incumbent == 1


def test_runs_come_in_order_with_what_the_ledger_says(
    project: ProjectFolder, study: StudyFolder, make_run: MakeRun
) -> None:
    first, second = make_run(12.0), make_run(None)
    study.append("run", run_event(second, role="audit"))
    study.append("run", run_event(first))
    study.append("run", run_event(first, "ended", contaminated="a browser"))
    lost, disturbed = load(project, study).runs
    assert (lost.run_id, lost.role, lost.outcome) == (second.run_id, "audit", "lost")
    assert (disturbed.run_id, disturbed.contaminated) == (first.run_id, "a browser")


def test_a_run_that_goes_on_is_left_out(project: ProjectFolder, study: StudyFolder, make_run: MakeRun) -> None:
    folder = make_run(None)
    folder.write("worker", process_identity())
    study.append("run", run_event(folder))
    assert load(project, study).runs == ()


def test_a_run_whose_driver_died_before_the_start_is_lost(project: ProjectFolder, study: StudyFolder) -> None:
    study.append("run", run_event(RunFolder.create(project.runs_path)))
    study.append("run", run_event(RunFolder(project.runs_path / "r0099"), candidate=2))  # its folder was removed
    made, removed = load(project, study).runs
    assert (made.outcome, made.candidate, made.seed) == ("lost", 1, 7)
    assert (removed.outcome, removed.candidate) == ("lost", 2)


def test_time_between_sittings_does_not_count(project: ProjectFolder, study: StudyFolder) -> None:
    study.append("sitting", {"at": 100.0, "sitting": "a"})
    study.append("decision", dataclasses.asdict(Decision(proposal=1, verdict="keep", reason="x")))  # without a stamp
    study.append("ended", {"at": 160.0, "sitting": "a", "reason": "budget"})
    assert load(project, study).seconds_spent == 60.0
    study.append("sitting", {"at": 9000.0, "sitting": "b"})
    study.append("note", {"at": 9005.0, "sitting": "b"})
    assert load(project, study).seconds_spent == 65.0


def test_a_killed_driver_loses_no_more_than_its_last_point(
    project: ProjectFolder, study: StudyFolder, make_run: MakeRun
) -> None:
    folder = make_run(None)
    study.append("sitting", {"at": 100.0, "sitting": "a"})
    study.append("run", run_event(folder, at=110.0, sitting="a"))
    with study.ledger_path.open("a") as file:
        file.write('{"event": "run", "run": "r0001", "phase": "en')
    assert load(project, study).seconds_spent == 17.0


def test_a_new_sitting_opens_an_ended_study(project: ProjectFolder, study: StudyFolder) -> None:
    study.append("ended", {"reason": "out of ideas", **stamp("a")})
    assert load(project, study).ended == "out of ideas"
    study.append("sitting", stamp("b"))
    assert load(project, study).ended == ""


def test_a_gap_in_the_proposals_is_refused(project: ProjectFolder, study: StudyFolder) -> None:
    study.append("proposal", dataclasses.asdict(proposal(2)))
    with pytest.raises(StudyError, match=r"got the numbers \[2\]"):
        load(project, study)


def test_a_damaged_record_is_named(project: ProjectFolder, study: StudyFolder) -> None:
    study.append("decision", {"proposal": 1, "verdict": "keep"})
    with pytest.raises(StudyError, match="cannot read the decision"):
        load(project, study)


def test_sittings_have_ids_of_their_own() -> None:
    assert stamp(new_sitting()).keys() == {"at", "sitting"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**6)), max_size=12))
def test_time_spent_is_the_sum_over_sittings(
    project: ProjectFolder, study: StudyFolder, events: list[tuple[str, int]]
) -> None:
    study.ledger_path.unlink(missing_ok=True)
    for sitting, at in events:
        study.append("note", {"at": at, "sitting": sitting})
    by_sitting = {name: [at for sitting, at in events if sitting == name] for name, _ in events}
    expected = sum(max(times) - min(times) for times in by_sitting.values())
    assert load(project, study).seconds_spent == expected


def test_a_steady_clock_starts_with_the_time_of_day_and_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    now, jumped = time.time(), [0.0]
    clock = steady_clock()
    assert clock() == pytest.approx(now, abs=60)
    monkeypatch.setattr(time, "time", lambda: now + jumped[0])
    first = clock()
    jumped[0] = -1e9
    assert 0 <= clock() - first < 60
