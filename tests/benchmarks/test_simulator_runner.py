"""Whole studies over simulated tasks: the real loop, planner, race and judge."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from simulator.families import FAMILIES, START_SECONDS, STUDY_SECONDS
from simulator.play import Timeline, _claimed_ratio, ladder_lines, play_study
from simulator.runner import MemoryProject, Silence, SimulatedRunner, VirtualClock

from hotlap.core.records import History, RecordClaim
from hotlap.policies.rules import candidate_config
from hotlap.study.loop import run_study
from hotlap.study.study import open_study

Finished = tuple[Timeline, History]


@pytest.fixture(scope="module", params=list(FAMILIES))
def finished(request: pytest.FixtureRequest) -> Finished:
    """A study over one task of each family."""
    return play_study(FAMILIES[request.param].task(1))


def test_a_study_uses_its_budget_and_ends(finished: Finished) -> None:
    history = finished[1]
    assert history.ended
    assert 0.3 * STUDY_SECONDS < history.seconds_spent <= STUDY_SECONDS + 1
    assert history.seconds_spent == pytest.approx(sum(run.wall_seconds for run in history.runs), abs=0.1)
    assert [run.run_id for run in history.runs] == [f"r{number:04}" for number in range(1, len(history.runs) + 1)]


def test_it_is_the_real_plan(finished: Finished) -> None:
    history = finished[1]
    assert [run.role for run in history.runs[:3]] == ["baseline", "baseline", "screen"], "a first idea of the noise"
    assert all(proposal.observation and proposal.diff for proposal in history.proposals)
    for number in history.kept():
        roles = [
            run.role for run in history.runs if run.candidate == number and history.proposal(number).role != "ablation"
        ]
        assert not roles or [role for role in roles if role != "confirm"][:2] == ["screen", "incumbent"]
    decided = {decision.proposal for decision in history.decisions}
    assert len(decided) >= len(history.proposals) - 1


def test_it_is_the_real_race(finished: Finished) -> None:
    history = finished[1]
    raced = [run for run in history.runs if run.outcome == "raced"]
    assert raced
    for run in raced:
        assert run.role == "screen"
        assert run.kill is not None and run.reason == run.kill.reason
        verdict = history.verdict(run.candidate)
        assert verdict is not None and verdict.verdict != "keep"


def test_a_record_without_a_speedup_is_held_against_nothing() -> None:
    task = FAMILIES["decay"].task(1)
    history = History(clock="train", base_config=task.start.model_dump(mode="json"))
    facts = {"look": 1, "candidate": 0, "against": 0, "p_value": 0.01, "alpha": 0.05, "median_seconds": 50.0}
    claim = RecordClaim(**facts, confirmed=True, reason="the baseline missed")  # type: ignore[arg-type]
    assert math.isnan(_claimed_ratio(task, replace(history, claims=(claim,))))
    assert _claimed_ratio(task, replace(history, claims=(replace(claim, speedup=1.1),))) == pytest.approx(1.1)


def test_it_finds_something_and_the_timeline_tells_when(finished: Finished) -> None:
    timeline, history = finished
    assert timeline.num_runs == len(history.runs)
    assert timeline.at(0.0) == pytest.approx(START_SECONDS, rel=0.01)
    assert timeline.at(STUDY_SECONDS) == timeline.moments[-1][1] < 0.9 * START_SECONDS
    moments = [moment for moment, _ in timeline.moments]
    assert moments == sorted(moments)


def test_the_same_task_and_policy_give_the_same_study() -> None:
    first, again = (play_study(FAMILIES["cliff"].task(2))[1] for _ in range(2))
    assert repr(first.runs) == repr(again.runs)  # repr, since a diverged loss is not equal to itself
    assert first.proposals == again.proposals
    assert first.decisions == again.decisions


def test_nothing_is_written_and_time_is_virtual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: pytest.fail("it made a folder"))
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waited"))
    task, clock = FAMILIES["power_law"].task(0), VirtualClock()
    study = open_study(MemoryProject(), task.start, clock)
    run_study(study, Silence(), lambda study: None, SimulatedRunner(task, clock))
    assert clock.seconds - 1.8e9 == pytest.approx(study.history.seconds_spent, abs=0.01)
    assert not list(tmp_path.iterdir())


def test_the_ledger_holds_what_the_history_says() -> None:
    task, clock, project = FAMILIES["decay"].task(0), VirtualClock(), MemoryProject()
    study = open_study(project, task.start, clock)
    runner = SimulatedRunner(task, clock)
    run_study(study, Silence(), lambda study: None, runner)
    events = project.study(task.name).ledger()
    ended = [event for event in events if event["event"] == "run" and event["phase"] == "ended"]
    assert [(e["run"], e["outcome"]) for e in ended] == [(run.run_id, run.outcome) for run in study.history.runs]
    assert events[-1]["event"] == "ended"
    assert list(runner.points) == [run.run_id for run in study.history.runs]
    for run in study.history.runs:
        if run.outcome == "reached":
            assert run.time_to_target is not None
            assert run.time_to_target["train"] == runner.points[run.run_id][-1]["train_seconds"] == run.train_seconds


def test_the_ladder_tells_what_every_proposal_truly_did(finished: Finished) -> None:
    history = finished[1]
    name = str(history.base_config["name"])
    family, seed = name.rsplit("-", 1)
    task = FAMILIES[family].task(int(seed))
    lines = ladder_lines(task, history)
    assert len(lines) == len(history.proposals)
    best = candidate_config(history, history.incumbent)
    assert task.true_seconds(best) < START_SECONDS
