"""Racing rules, one by one; the incumbent takes 100 s and its loss falls late and steeply."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.records import History, Proposal, RunRecord
from hotlap.core.targets import parse_target
from hotlap.search.race import RaceContext, race, race_context

TARGETS = (parse_target("eval_loss < 0.76"),)


def loss_at(seconds: float, total: float = 100.0) -> float:
    """A flat stretch, then a steep fall at 70 % of the time."""
    share = seconds / total
    return 4.0 - 1.7 * min(1.0, share / 0.2) if share < 0.7 else 2.3 - 1.6 * (share - 0.7) / 0.3


def curve(total: float = 100.0, until: float = 100.0, lift: float = 0.0) -> list[dict[str, Any]]:
    grid = [seconds for n in range(160) if (seconds := 1.03**n) <= until]
    return [
        {
            "step": round(10 * s),
            "train_seconds": s,
            "wall_seconds": s + 5,
            "tokens": round(1000 * s),
            "eval_loss": loss_at(s, total) + lift,
        }
        for s in grid
    ]


PROPOSAL = Proposal(
    number=1, parent=0, family="toy", title="t", observation="o", hypothesis="h", patch={}, predicted_ratio=0.9
)
BASELINE = RunRecord(
    run_id="r0001",
    role="baseline",
    candidate=0,
    seed=1,
    outcome="reached",
    steps=1000,
    train_seconds=100,
    wall_seconds=105,
    tokens=100_000,
    time_to_target={"train": 100, "wall": 105, "step": 1000},
)
HISTORY = History(clock="train", base_config={}, runs=(BASELINE,), proposals=(PROPOSAL,))
CONTEXT = race_context(HISTORY, PROPOSAL, {"r0001": curve()}, TARGETS)


def first_stop(points: list[dict[str, Any]], context: RaceContext = CONTEXT) -> tuple[float, str] | None:
    for number in range(1, len(points) + 1):
        if reason := race(points[:number], context):
            return points[number - 1]["train_seconds"], reason
    return None


def test_the_context_comes_from_the_history() -> None:
    assert CONTEXT.incumbent_seconds == 100 and CONTEXT.minimum_tokens == 100_000
    assert CONTEXT.cap_seconds == pytest.approx(100 * math.exp(-0.075) * 1.03)
    assert CONTEXT.initial_loss == pytest.approx(loss_at(1)) and len(CONTEXT.incumbent_curve) == len(curve())


def test_the_slowest_run_of_the_incumbent_is_the_measure() -> None:
    slow = replace(BASELINE, run_id="r0002", time_to_target={"train": 120, "wall": 125, "step": 1000})
    context = race_context(
        replace(HISTORY, runs=(BASELINE, slow)), PROPOSAL, {"r0001": curve(), "r0002": curve(120)}, TARGETS
    )
    assert context.incumbent_curve[50][1] == pytest.approx(curve(120)[50]["eval_loss"])


def test_a_run_like_the_incumbent_is_left_alone_until_the_cap() -> None:
    stop = first_stop(curve())
    assert stop is not None and stop[0] > CONTEXT.cap_seconds and "no longer beat" in stop[1]
    assert "eval_loss" in stop[1]


@pytest.mark.parametrize("total", [60.0, 85.0, 95.0])
def test_faster_runs_are_never_stopped_before_they_could_pass(total: float) -> None:
    assert first_stop(curve(total, until=min(total, 95.0))) is None


@pytest.mark.parametrize("name", ["train_loss", "eval_loss", "grad_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite_is_broken_at_once(name: str, value: float) -> None:
    points = [*curve(until=3), {"step": 40, "train_seconds": 3.5, name: value}, {"step": 41, "train_seconds": 3.6}]
    reason = race(points, CONTEXT)
    assert reason is not None and "broken" in reason and name in reason


def test_a_loss_above_the_initial_one_is_broken_after_warm_up() -> None:
    points = curve(until=30)
    for point in points:
        point["eval_loss"] = 4.0 if point["train_seconds"] < 5 else 6.0
    stop = first_stop(points)
    assert stop is not None and 20 < stop[0] < 21.5 and "broken" in stop[1]


def test_too_few_tokens_a_second_can_never_make_it() -> None:
    slow = [{**point, "tokens": point["tokens"] * 0.4} for point in curve(until=50)]
    stop = first_stop(slow)
    assert stop is not None and stop[0] < 4 and "400 tokens/s" in stop[1]
    assert first_stop([{**point, "tokens": point["tokens"] * 0.6} for point in curve(until=50)]) is None


def test_far_behind_is_stopped_late_and_only_twice_as_slow() -> None:
    behind = [{**point, "eval_loss": 4.0 - 0.004 * point["train_seconds"]} for point in curve()]
    stop = first_stop(behind)
    assert stop is not None and 60 < stop[0] < 66 and "far behind" in stop[1]


def test_one_bad_evaluation_is_not_enough() -> None:
    points = curve(until=63)
    points[-1]["eval_loss"] = 3.9
    assert race(points, CONTEXT) is None


def test_a_long_flat_stretch_is_not_far_behind() -> None:
    late = [{**point, "eval_loss": max(2.32, point["eval_loss"])} for point in curve(until=95)]
    assert first_stop(late) is None


def test_exempt_families_may_start_slowly() -> None:
    exempt = replace(CONTEXT, exempt_until=0.8)
    behind = [{**point, "eval_loss": 4.0 - 0.004 * point["train_seconds"]} for point in curve()]
    stop = first_stop(behind, exempt)
    assert stop is not None and stop[0] > 80
    slow = [{**point, "tokens": point["tokens"] * 0.4} for point in curve(until=70)]
    assert first_stop(slow, exempt) is None


def test_an_incumbent_that_misses_sets_no_cap() -> None:
    missed = replace(BASELINE, outcome="missed", time_to_target=None, train_seconds=400.0)
    context = race_context(replace(HISTORY, runs=(missed,)), PROPOSAL, {"r0001": curve(400)}, TARGETS)
    assert context.cap_seconds == math.inf and context.reference_seconds == 400
    assert first_stop(curve(1000, until=500), context) is None
    assert race([{"step": 1, "train_seconds": 90.0, "eval_loss": math.nan}], context) is not None


def test_a_run_that_has_just_reached_is_not_stopped() -> None:
    assert race([*curve(until=90), {"step": 9, "train_seconds": 120.0, "eval_loss": 0.7}], CONTEXT) is None


def test_the_wall_clock_is_read_where_it_is_judged() -> None:
    context = race_context(replace(HISTORY, clock="wall"), PROPOSAL, {"r0001": curve()}, TARGETS)
    assert context.incumbent_seconds == 105
    point = {"step": 5, "train_seconds": 80.0, "wall_seconds": 130.0}
    assert race([point], context) is not None and race([point], CONTEXT) is None


def test_nothing_measured_stops_nothing() -> None:
    assert race([], CONTEXT) is None
    assert race([{"step": 1}], CONTEXT) is None


@given(st.floats(0, 1), st.floats(20, 90))
def test_a_lower_loss_is_never_stopped_earlier(drop: float, until: float) -> None:
    behind = [{**point, "eval_loss": 4.0 - 0.004 * point["train_seconds"]} for point in curve(until=until)]
    better = [{**point, "eval_loss": point["eval_loss"] - drop} for point in behind]
    if race(behind, CONTEXT) is None:
        assert race(better, CONTEXT) is None
