"""What a study does about a machine that changes its speed, step by step."""

from dataclasses import replace

from simulated_study import proposal, run_record

from hotlap.core.records import Decision, History, Outcome, Role, RunRecord
from hotlap.study.plan import Action, Decide, Propose, StartRun, next_action
from hotlap.study.settings import StudySettings

SETTINGS = StudySettings(total_seconds=36000.0, run_seconds=900.0)


def run(
    number: int, role: Role, candidate: int, seconds: float, speed: float = 1.0, outcome: Outcome = "reached"
) -> RunRecord:
    """Return a run on a machine whose steps take `speed` times as long."""
    steady = run_record(number, role, candidate, seconds, outcome)
    times = {"train": speed * seconds, "wall": speed * seconds + 2.0, "step": steady.steps}
    return replace(
        steady,
        train_seconds=speed * seconds,
        wall_seconds=speed * seconds + 2.0,
        time_to_target=times if outcome == "reached" else None,
    )


def history(*runs: RunRecord, proposals: int = 1, discarded: int = 0) -> History:
    baselines = tuple(run(n, "baseline", 0, seconds) for n, seconds in ((1, 100.0), (2, 102.0), (3, 98.0)))
    return History(
        clock="train",
        base_config={},
        runs=(*baselines, *runs),
        proposals=tuple(proposal(n) for n in range(1, proposals + 1)),
        decisions=tuple(Decision(proposal=n, verdict="discard", reason="slow") for n in range(1, discarded + 1)),
    )


def role_of(action: Action) -> tuple[str, int]:
    assert isinstance(action, StartRun), action
    return action.role, action.candidate


def screens(*numbers: int, seconds: float = 130.0, speed: float = 1.0) -> tuple[RunRecord, ...]:
    return tuple(run(10 + n, "screen", n, seconds, speed) for n in numbers)


def test_a_screen_that_passed_waits_for_a_look_at_the_machine() -> None:
    passed = (*screens(1, 2), run(20, "screen", 3, 90.0))
    past = history(*passed, proposals=3, discarded=2)
    assert role_of(next_action(past, SETTINGS)) == ("incumbent", 0)
    same = replace(past, runs=(*past.runs, run(21, "incumbent", 0, 101.0)))
    assert role_of(next_action(same, SETTINGS)) == ("confirm", 3)


def test_it_does_not_wait_where_the_incumbent_just_ran_or_the_gain_is_beyond_a_drift() -> None:
    assert role_of(next_action(history(run(20, "screen", 1, 90.0)), SETTINGS)) == ("confirm", 1)
    big = history(*screens(1, 2), run(20, "screen", 3, 50.0), proposals=3, discarded=2)
    assert role_of(next_action(big, SETTINGS)) == ("incumbent", 3), "which counts as a fresh run of it"


def test_a_faster_machine_is_no_faster_recipe() -> None:
    """Steps have become a fifth shorter: the screen that passed on them is made again, and is held against today."""
    past = history(*screens(1, 2), run(20, "screen", 3, 100.0, 0.8), proposals=3, discarded=2)
    suspicion = replace(past, runs=(*past.runs, run(21, "incumbent", 0, 100.0, 0.8)))
    action = next_action(suspicion, SETTINGS)
    assert role_of(action) == ("incumbent", 0)
    assert isinstance(action, StartRun) and "0.80 times as long" in action.why
    drift = replace(suspicion, runs=(*suspicion.runs, run(22, "incumbent", 0, 101.0, 0.8)))
    assert role_of(next_action(drift, SETTINGS)) == ("screen", 3)
    again = replace(drift, runs=(*drift.runs, run(23, "screen", 3, 100.0, 0.8)))
    decided = next_action(again, SETTINGS)
    assert isinstance(decided, Decide) and decided.decision.verdict == "inconclusive"


def test_a_disturbance_is_no_drift() -> None:
    past = history(*screens(1, 2, 3, 4, 5, 6, 7, 8), proposals=8, discarded=8)
    assert role_of(next_action(past, SETTINGS)) == ("incumbent", 0)
    out = replace(past, runs=(*past.runs, run(21, "incumbent", 0, 100.0, 1.3)))
    assert role_of(next_action(out, SETTINGS)) == ("incumbent", 0)
    back = replace(out, runs=(*out.runs, run(22, "incumbent", 0, 100.0)))
    assert next_action(back, SETTINGS) == Propose()
