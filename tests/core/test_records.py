"""Records and the history: who holds the best place, which runs count, what a candidate's config is."""

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any, get_args

import pytest

from hotlap.core.records import EXIT_CODES, Decision, History, Outcome, Proposal, RecordClaim, RunRecord, Verdict


def run(candidate: int = 0, **facts: Any) -> RunRecord:
    values = {"run_id": "r0001", "role": "baseline", "seed": 1, "outcome": "reached", "steps": 100}
    return RunRecord(**{**values, "candidate": candidate, **facts})


def proposal(number: int, parent: int = 0, **patch: Any) -> Proposal:
    return Proposal(
        number=number,
        parent=parent,
        family="toy",
        title=f"change {number}",
        observation="o",
        hypothesis="h",
        patch=patch,
        predicted_ratio=0.9,
    )


def history(*verdicts: tuple[int, Verdict], runs: tuple[RunRecord, ...] = (), proposals: int = 4) -> History:
    return History(
        clock="train",
        base_config={},
        runs=runs,
        proposals=tuple(proposal(number) for number in range(1, proposals + 1)),
        decisions=tuple(Decision(proposal=number, verdict=verdict, reason="r") for number, verdict in verdicts),
    )


def test_records_cannot_be_edited() -> None:
    record = run()
    with pytest.raises(FrozenInstanceError):
        record.steps = 0  # type: ignore[misc]


def test_every_outcome_has_an_exit_code() -> None:
    assert set(EXIT_CODES) == set(get_args(Outcome))
    assert [outcome for outcome, code in EXIT_CODES.items() if code == 0] == ["reached"]


def test_only_a_run_that_reached_has_a_time_to_target() -> None:
    times = {"train": 12.0, "wall": 15.0, "step": 90}
    assert run(time_to_target=times).clock_to_target("train") == 12
    assert run(time_to_target=times).clock_to_target("wall") == 15
    assert run(time_to_target=times, outcome="out_of_budget").clock_to_target("train") == math.inf
    assert run().clock_to_target("train") == math.inf


def test_seconds_per_step_is_not_a_number_before_the_first_step() -> None:
    assert run(train_seconds=5.0).seconds_per_step == 0.05
    assert math.isnan(run(steps=0).seconds_per_step)


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_only_what_the_machine_did_is_an_infrastructure_failure(outcome: Outcome) -> None:
    assert run(outcome=outcome).is_infrastructure_failure == (outcome in ("lost", "interrupted"))
    assert run(outcome=outcome, contaminated="another process used 1.4 cores").is_infrastructure_failure


def test_a_decision_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Decision(proposal=1, verdict="keep", reason="  ")


def test_nearly_equal_patches_on_one_parent_are_the_same_idea() -> None:
    first = proposal(1, 0, learning_rate=1e-3, layers=2)
    assert proposal(5, 0, layers=2, learning_rate=1.00001e-3).signature == first.signature
    assert proposal(5, 0, layers=2, learning_rate=1.001e-3).signature != first.signature
    assert proposal(5, 1, learning_rate=1e-3, layers=2).signature != first.signature
    assert proposal(5, 0, learning_rate=1e-3).signature != first.signature


def test_the_baseline_holds_the_best_place_until_something_is_kept() -> None:
    assert history().incumbent == 0
    assert history((1, "discard"), (2, "inconclusive"), (3, "crash")).incumbent == 0
    assert history((1, "keep"), (2, "discard"), (3, "keep")).incumbent == 3


def test_the_kept_changes_are_the_ladder_oldest_first() -> None:
    assert history((1, "keep"), (2, "discard"), (3, "keep")).kept() == (1, 3)


def test_a_withdrawn_keep_gives_the_place_back() -> None:
    withdrawn = history((1, "keep"), (2, "keep"), (2, "discard"))
    assert withdrawn.kept() == (1,)
    assert withdrawn.incumbent == 1
    last = withdrawn.verdict(2)
    assert last is not None
    assert last.verdict == "discard"
    assert withdrawn.verdict(3) is None


def test_a_later_decision_about_an_older_proposal_counts() -> None:
    assert history((1, "discard"), (2, "keep"), (1, "keep")).kept() == (1, 2)


def test_runs_of_a_candidate_leave_out_what_the_machine_spoiled() -> None:
    good, confirm = run(1, role="screen"), run(1, role="confirm")
    spoiled = [run(1, outcome="lost"), run(1, outcome="interrupted"), run(1, contaminated="busy")]
    recorded = history(runs=(good, *spoiled, run(2), confirm))
    assert recorded.runs_of(1) == (good, confirm)
    assert recorded.runs_of(1, "confirm") == (confirm,)
    assert recorded.runs_of(3) == ()


def test_only_runs_that_were_not_selected_enter_an_estimate() -> None:
    roles = ["baseline", "screen", "confirm", "incumbent", "record", "ablation", "audit", "manual"]
    runs = tuple(run(role=role) for role in roles)
    found = history(runs=(*runs, run(role="record", outcome="missed"))).unselected_runs(0)
    assert [(r.role, r.outcome) for r in found] == [
        ("baseline", "reached"),
        ("incumbent", "reached"),
        ("record", "reached"),
        ("record", "missed"),
    ]


def test_a_candidates_config_is_the_chain_of_its_ancestors_patches() -> None:
    chain = (proposal(1, 0, a=1, b=1), proposal(2, 0, a=2, z=9), proposal(3, 1, b=3), proposal(4, 3, c=4, a=0))
    recorded = History(clock="train", base_config={}, proposals=chain)
    assert recorded.config_of(0) == {}
    assert recorded.config_of(2) == {"a": 2, "z": 9}
    assert recorded.config_of(3) == {"a": 1, "b": 3}
    assert recorded.config_of(4) == {"a": 0, "b": 3, "c": 4}
    assert recorded.proposals[0].patch == {"a": 1, "b": 1}


def test_a_claim_reads_its_interval_from_a_ledger() -> None:
    facts = {"look": 1, "candidate": 1, "against": 0, "p_value": 0.01, "alpha": 0.02, "confirmed": True, "reason": "r"}
    claim = RecordClaim(**facts, median_seconds=5.0, speedup_interval=[1, 2])  # type: ignore[arg-type]
    assert claim.speedup_interval == (1.0, 2.0) and claim == RecordClaim(
        **facts,  # type: ignore[arg-type]
        median_seconds=5.0,
        speedup_interval=(1.0, 2.0),
    )


def test_what_is_remembered_of_a_history_is_not_inherited() -> None:
    past = history((1, "keep"))
    assert past.kept() == (1,) and past.kept() is past.kept()
    assert replace(past, decisions=()).kept() == () and replace(past) == past
    calls: list[int] = []
    assert [past.once("x", lambda: calls.append(1)) for _ in range(3)] == [None] * 3 and calls == [1]


def test_timing_runs_enter_no_estimate() -> None:
    past = history(runs=(run(), run(run_id="r0002", role="timing")))
    assert [found.run_id for found in past.unselected_runs(0)] == ["r0001"] and len(past.runs_of(0)) == 2
