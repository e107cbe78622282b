"""Graded scores: every ending has its place, and nearer misses are better."""

import math
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.records import Decision, History, Kill, Proposal, RunRecord
from hotlap.search.score import extrapolated_seconds, score_candidates, score_run, yardstick_of

CAP = 300.0
NUMBERS = count(1)


def evaluations(
    end: float, start_loss: float = 5.5, end_loss: float = 2.0, number: int = 8
) -> tuple[dict[str, float], ...]:
    """A loss that falls in a line over log time from one second on."""
    found = []
    for index in range(number):
        share = index / (number - 1)
        seconds = end**share
        loss = start_loss + share * (end_loss - start_loss)
        found.append({"step": 10 * seconds, "train_seconds": seconds, "wall_seconds": seconds + 5, "eval_loss": loss})
    return tuple(found)


def run(seconds: float, outcome: str = "reached", loss: float = 2.0, **facts: Any) -> RunRecord:
    values: dict[str, Any] = {
        "run_id": f"r{next(NUMBERS):04}",
        "role": "screen",
        "candidate": 1,
        "seed": 0,
        "outcome": outcome,
        "steps": 10,
        "train_seconds": seconds,
        "wall_seconds": seconds + 5,
        "time_to_target": {"train": seconds, "wall": seconds + 5, "step": 10} if outcome == "reached" else None,
        "metrics": {"eval_loss": 0.7 if outcome == "reached" else loss},
        "evaluations": evaluations(seconds, end_loss=loss),
        **facts,
    }
    return RunRecord(**values)


def proposal(number: int) -> Proposal:
    return Proposal(
        number=number,
        parent=0,
        family="f",
        title="t",
        observation="o",
        hypothesis="h",
        patch={"training.learning_rate": 0.1 * number},
        predicted_ratio=0.9,
    )


def study(*runs: RunRecord, proposals: int = 3) -> History:
    base = {"targets": ["eval_loss < 0.76", "eval_sacrebleu > 0.3"], "budget": {"run": CAP}}
    baseline = run(100.0, "missed", 1.5, role="baseline", candidate=0, run_id="r0000")
    return History(
        clock="train",
        base_config=base,
        runs=(baseline, *runs),
        proposals=tuple(proposal(number) for number in range(1, proposals + 1)),
    )


def value(record: RunRecord) -> float:
    history = study(record)
    return score_run(record, history, yardstick_of(history)).value


def test_the_endings_stand_in_the_order_of_their_worth() -> None:
    endings = [
        run(40.0),
        run(52.0),
        run(50.0, "raced", 0.9),  # a near miss is worth more than a slow hit
        run(90.0),
        run(50.0, "raced", 3.0),
        run(50.0, "diverged", 3.0),
        run(50.0, "diverged", math.nan),
    ]
    values = [value(record) for record in endings]
    assert values == sorted(values)
    assert len(set(values)) == len(values)
    assert values[0] == pytest.approx(math.log(40))
    assert values[-1] == pytest.approx(math.log(20 * CAP) + 1)


def test_a_near_miss_is_better_than_a_far_one() -> None:
    assert math.log(200) < value(run(200.0, "missed", 0.8)) < value(run(200.0, "missed", 1.2)) <= math.log(200) + 3


@given(st.floats(1, CAP), st.floats(0.77, 5.0))
def test_what_was_stopped_needs_longer_than_where_it_was_stopped(seconds: float, loss: float) -> None:
    record = run(seconds, "raced", loss)
    history = study(record)
    score = score_run(record, history, yardstick_of(history))
    assert not score.is_reached
    assert math.log(seconds) < score.value <= math.log(20 * CAP)


def test_what_is_still_falling_is_extrapolated() -> None:
    record = run(50.0, "raced", 2.0)  # 5.5 - 3.5 at 50 s: 0.76 after log(50) · 4.74 / 3.5
    assert value(record) == pytest.approx(math.log(50) * 4.74 / 3.5, rel=1e-6)


def test_without_a_curve_a_stopped_run_counts_as_missed() -> None:
    record = run(50.0, "out_of_budget", 2.0, evaluations=())
    assert value(record) == pytest.approx(math.log(50) + min(3, 1 + 4 * (2.0 - 0.76) / (5.5 - 0.76)))


@pytest.mark.parametrize("rule", ["broken", "throughput"])
def test_what_no_second_would_mend_is_hopeless(rule: str) -> None:
    kill = Kill(rule=rule, reason="because", at_seconds=50.0)
    assert value(run(50.0, "raced", 2.0, kill=kill)) > value(run(50.0, "raced", 5.4))


def test_generated_text_counts_once_the_cheap_targets_hold() -> None:
    far = run(50.0, "missed", 2.0, metrics={"eval_loss": 2.0, "eval_sacrebleu": 0.0})
    near = run(50.0, "missed", 0.7, metrics={"eval_loss": 0.7, "eval_sacrebleu": 0.2})
    history = study(far, near)
    gap = yardstick_of(history).gap
    assert gap(far.metrics) == pytest.approx((2.0 - 0.76) / (5.5 - 0.76))
    assert gap(near.metrics) == pytest.approx(0.1 / 0.3)
    assert gap(run(50.0, "missed", 0.7).metrics) == 1.0  # it was never measured


def test_a_share_of_the_way_is_never_more_than_all_of_it() -> None:
    gap = yardstick_of(study()).gap
    assert gap({"eval_loss": 9.0}) == gap({"eval_loss": math.nan}) == gap({}) == 1.0


def test_generated_text_alone_is_a_measure() -> None:
    history = replace(study(), base_config={"targets": ["eval_sacrebleu > 0.3"]})
    assert yardstick_of(history).gap({"eval_loss": 0.7, "eval_sacrebleu": 0.2}) == pytest.approx(0.1 / 0.3)
    assert yardstick_of(history).cap_seconds == 100.0, "without a budget the longest run"


def test_a_candidate_has_the_value_in_the_middle_of_its_runs() -> None:
    screened = [run(seconds, run_id=f"r{seconds}") for seconds in (30.0, 50.0)]
    history = study(*screened, run(60.0, candidate=2, role="incumbent"), run(9.0, candidate=2))
    scores = score_candidates(history, yardstick_of(history))
    assert list(scores) == [0, 1, 2]
    assert scores[1].value == pytest.approx((math.log(30) + math.log(50)) / 2)
    assert scores[2].value == pytest.approx(math.log(60))  # the screen was selected, so it does not count
    assert not scores[0].is_reached


def test_a_run_from_before_a_drift_was_seen_has_no_score() -> None:
    quick, slow = ([run(s, role="baseline", candidate=0) for _ in range(3)] for s in (50.0, 80.0))
    screen = run(30.0)
    for runs, is_scored in (((*quick, screen), True), ((*quick, screen, *slow), False)):
        history = replace(study(), runs=runs)
        assert (1 in score_candidates(history, yardstick_of(history))) == is_scored


@pytest.mark.parametrize("facts", [{"outcome": "lost"}, {"contaminated": "a browser"}, {"role": "timing"}])
def test_what_says_nothing_about_a_config_has_no_score(facts: dict[str, Any]) -> None:
    record = run(**{"seconds": 30.0, **facts})
    history = study(record)
    assert 1 not in score_candidates(history, yardstick_of(history))


@given(st.floats(0.05, 0.5), st.floats(0.6, 1.0), st.integers(4, 24))
def test_a_line_over_log_time_is_continued_to_zero(slope: float, start: float, number: int) -> None:
    end = math.exp(0.8 * start / slope)
    curve = [(end ** (i / (number - 1)), start - slope * math.log(end ** (i / (number - 1)))) for i in range(number)]
    assert extrapolated_seconds(curve) == pytest.approx(math.exp(start / slope), rel=1e-3)


def test_curves_that_say_nothing() -> None:
    assert math.isnan(extrapolated_seconds([(1, 0.9), (2, 0.8), (3, 0.7)]))
    assert extrapolated_seconds([(float(i), 0.9) for i in range(1, 9)]) == math.inf
    assert extrapolated_seconds([(1.0, 0.9)] * 8) == math.inf


def test_decisions_do_not_change_scores() -> None:
    """A discard is worth what its run was worth."""
    history = study(run(30.0))
    decided = History(
        clock="train",
        base_config=history.base_config,
        runs=history.runs,
        proposals=history.proposals,
        decisions=(Decision(proposal=1, verdict="discard", reason="r"),),
    )
    assert score_candidates(history, yardstick_of(history)) == score_candidates(decided, yardstick_of(decided))
