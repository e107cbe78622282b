"""What a study does about a machine that changes its speed, step by step."""

from dataclasses import replace

import pytest
from simulated_study import proposal, run_record

from hotlap.config.schema import RunConfig
from hotlap.core.records import Decision, History, Outcome, RecordClaim, Role, RunRecord
from hotlap.policies.evidence import gather_evidence
from hotlap.search.drift import comparable_runs
from hotlap.search.ladder import proposals_since_incumbent_ran
from hotlap.search.noise import estimate
from hotlap.study.plan import Action, Claim, Decide, End, Propose, StartRun, next_action
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


def kept_past(speed: float = 1.0) -> History:
    """Return a study that has kept its first change, which needs 60 s; its fresh runs had this speed."""
    runs = [run(n, "incumbent" if n > 21 else "screen", 1, 60.0, speed) for n in (20, 22, 23)]
    keep = Decision(proposal=1, verdict="keep", reason="fast")
    return replace(history(*runs), decisions=(keep,))


@pytest.mark.parametrize("before", [1.0, 1.2])
def test_a_drift_in_a_record_look_neither_breaks_it_nor_reopens_the_keep(before: float) -> None:
    """The machine is a fifth slower since the look's second run, or was so since the baseline ran."""
    past, started = kept_past(before), list[tuple[str, int]]()
    while isinstance(action := next_action(past, SETTINGS, ideas_left=False), StartRun):
        started.append(role_of(action))
        seconds, speed = (60.0, before if len(started) == 1 else 1.2) if action.candidate else (100.0, 1.2)
        past = replace(past, runs=(*past.runs, run(30 + len(started), action.role, action.candidate, seconds, speed)))
    assert started == [("record", candidate) for candidate in (1, 0, 0, 1, 1, 0, 0, 1)]
    assert isinstance(action, Claim) and action.claim.confirmed
    assert isinstance(next_action(replace(past, claims=(action.claim,)), SETTINGS, ideas_left=False), End)
    assert len(comparable_runs(past, 1, "incumbent")) == 2, "its next run has told on which side of the drift they were"
    assert estimate(past, 1).median_seconds == pytest.approx(72.0)


def test_a_claim_is_in_seconds_of_one_machine_where_it_drifted_within_the_look() -> None:
    """Most runs of the new side were made before, the last pair of the old side after: a speedup of 100 over 60."""
    past, started = kept_past(), 0
    while isinstance(action := next_action(past, SETTINGS, ideas_left=False), StartRun):
        started += 1
        seconds, speed = 60.0 if action.candidate else 100.0, 1.2 if started > 5 else 1.0
        past = replace(past, runs=(*past.runs, run(30 + started, action.role, action.candidate, seconds, speed)))
    assert isinstance(action, Claim) and started == 8
    assert action.claim.median_seconds == pytest.approx(72.0)
    assert action.claim.speedup == pytest.approx(100 / 60)


def test_what_was_claimed_is_not_run_afresh_again() -> None:
    """A drift has left one fresh run of the two, after the look."""
    past = kept_past()
    claim = RecordClaim(
        look=1, candidate=1, against=0, p_value=0.01, alpha=0.02, confirmed=True, median_seconds=60.0, reason="r"
    )
    past = replace(past, runs=past.runs[:-1], claims=(claim,))
    assert next_action(past, SETTINGS) == Propose()


def test_leave_one_out_is_judged_in_seconds_of_the_machine_as_it_is_now() -> None:
    """Without the kept change it takes 3 % longer; steps take a fifth longer since the middle of it.

    Runs from before that count with what the machine has become, those of which nobody knows are made again.
    """
    past = replace(kept_past(), proposals=(proposal(1), replace(proposal(2, parent=1), role="ablation")))
    early = (run(24, "ablation", 2, 61.8), run(25, "ablation", 2, 61.8), run(26, "incumbent", 1, 60.0))
    slow = (run(27, "ablation", 2, 60.0), run(28, "incumbent", 1, 60.0, 1.2), run(29, "incumbent", 1, 60.0, 1.2))
    past, started = replace(past, runs=(*past.runs, *early, *slow)), list[tuple[str, int]]()
    while isinstance(action := next_action(past, SETTINGS), StartRun):
        started.append(role_of(action))
        runs = (*past.runs, run(30 + len(started), action.role, action.candidate, 61.8, 1.2))
        past = replace(past, runs=runs)
    assert started == [("ablation", 2)] * 2
    assert isinstance(action, Decide) and action.decision.verdict == "inconclusive"
    assert action.decision.statistics["ablation_seconds"] == pytest.approx(1.2 * 61.8)


def test_blind_runs_do_not_put_off_the_next_look_at_the_machine() -> None:
    """The baseline's record runs have shown a drift, and nobody knows how fast the incumbent is on it."""
    look = (run(24, "record", 1, 60.0), *(run(n, "record", 0, 100.0, 1.2) for n in (25, 26)))
    past = replace(kept_past(), proposals=tuple(proposal(n) for n in (1, 2, 3)))
    past = replace(past, runs=(*past.runs, *screens(2), *look, *screens(3, speed=1.2)))
    assert not comparable_runs(past, 1) and proposals_since_incumbent_ran(past) == 2
    evidence = gather_evidence(past, RunConfig())
    assert [found.run_id for found in evidence.runs] == ["r0022", "r0023", "r0024"], "there are no others"
    disturbed = run(40, "incumbent", 1, 60.0, 2.0)  # which tells nothing of the others
    after = gather_evidence(replace(past, runs=(*past.runs, disturbed)), RunConfig())
    assert [found.run_id for found in after.runs] == ["r0040"]
