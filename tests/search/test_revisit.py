"""What reopens a change that was not kept."""

from dataclasses import replace

import pytest

from hotlap.core.records import Decision, History, Proposal, RunRecord, Verdict
from hotlap.search.judge import judge_repetition
from hotlap.search.revisit import earlier_try, is_reopened


def run(number: int, seconds: float, candidate: int = 0, role: str = "baseline") -> RunRecord:
    return RunRecord(
        run_id=f"r{number:04}",
        role=role,  # type: ignore[arg-type]
        candidate=candidate,
        seed=number,
        outcome="reached",
        steps=1000,
        train_seconds=seconds,
        time_to_target={"train": seconds, "wall": seconds, "step": 1000},
    )


def history(verdict: Verdict = "discard", keeps: int = 0, **conditions: float) -> History:
    """Return a history in which proposal 1 was decided and so many later ones were kept."""
    proposals = tuple(
        Proposal(
            number=n, parent=0, family="f", title="t", observation="o", hypothesis="h", patch={}, predicted_ratio=0.9
        )
        for n in range(1, keeps + 2)
    )
    first = Decision(proposal=1, verdict=verdict, reason="r", revisit_if=conditions)
    later = tuple(Decision(proposal=n, verdict="keep", reason="r") for n in range(2, keeps + 2))
    runs = tuple(run(n, 100.0) for n in range(1, 4))
    return History(clock="train", base_config={}, runs=runs, proposals=proposals, decisions=(first, *later))


@pytest.mark.parametrize(("keeps", "is_open"), [(0, False), (2, False), (3, True), (4, True)])
def test_an_old_ledger_waits_for_three_keeps(keeps: int, is_open: bool) -> None:
    assert is_reopened(history(keeps=keeps), 1) == is_open


def test_the_conditions_are_the_decisions_own() -> None:
    past = history()
    for keeps in (1, 2):
        found = replace(past, decisions=(replace(past.decisions[0], revisit_if={"keeps": 2.0}),))
        later = history(keeps=keeps)
        found = replace(found, proposals=later.proposals, decisions=(*found.decisions, *later.decisions[1:]))
        assert is_reopened(found, 1) == (keeps == 2)


@pytest.mark.parametrize(("sigma", "is_open"), [(0.04, False), (0.06, True)])
def test_less_noise_reopens_what_could_not_be_told_apart(sigma: float, is_open: bool) -> None:
    assert is_reopened(history("inconclusive", keeps=0, sigma_below=sigma), 1) == is_open


def test_what_ran_while_the_machine_changed_is_open() -> None:
    past = history()
    steady = replace(past, runs=(*past.runs, run(4, 130.0, 1, "screen")))
    assert not is_reopened(steady, 1)
    changed = replace(steady, runs=(*steady.runs, run(5, 130.0, 0, "incumbent"), run(6, 130.0, 0, "incumbent")))
    assert is_reopened(changed, 1)
    kept = replace(changed, decisions=(replace(past.decisions[0], verdict="keep"),))
    assert not is_reopened(kept, 1)


def test_what_is_not_decided_is_not_reopened() -> None:
    assert not is_reopened(replace(history(), decisions=()), 1)


def again(**conditions: float) -> tuple[History, Proposal]:
    """Return a history whose second proposal is the first once more, and that one."""
    past = history("inconclusive", **conditions)
    first = replace(past.proposals[0], patch={"training.learning_rate": 0.001})
    second = replace(first, number=2)
    return replace(past, proposals=(first, second)), second


def test_the_same_change_of_the_same_parent_is_not_tried_twice() -> None:
    past, second = again(sigma_below=0.001)
    assert earlier_try(past, second) == past.proposals[0]
    decision = judge_repetition(past, second)
    assert decision is not None and decision.verdict == "discard" and "#1 (inconclusive)" in decision.reason
    assert decision.revisit_if == {"sigma_below": 0.001}, "what reopens the first reopens both"
    assert judge_repetition(past, past.proposals[0]) is None
    for other in (replace(second, parent=1), replace(second, patch={"training.learning_rate": 0.002})):
        assert earlier_try(replace(past, proposals=(past.proposals[0], other)), other) is None


def test_what_is_open_again_may_be_tried_again() -> None:
    past, second = again(sigma_below=0.9)
    assert judge_repetition(past, second) is None
