"""Gaps, curves, and what a config plans."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from races import BASE_CONFIG, TARGETS, cliff, curve, ending, history_of

from hotlap.core.targets import Target, parse_target
from hotlap.search.curves import (
    Curve,
    CurveBuilder,
    Plan,
    Recordings,
    Scale,
    cheap_scale,
    interpolate,
    plan_of,
    shortfall,
)

ACCURACY = parse_target("eval_byte_accuracy > 0.75")
FIRST = {"eval_loss": 4.0, "eval_byte_accuracy": 0.05}


def test_a_gap_is_the_worst_of_the_targets_relative_to_the_start() -> None:
    scale = cheap_scale(FIRST, [*TARGETS, ACCURACY, parse_target("eval_chrf > 30")])
    assert [target.metric for target in scale.targets] == ["eval_loss", "eval_byte_accuracy"]
    assert scale.gap(FIRST) == 1
    assert scale.gap({"eval_loss": 0.5, "eval_byte_accuracy": 0.40}) == pytest.approx(0.5)
    assert scale.gap({"eval_loss": 0.5, "eval_byte_accuracy": 0.80}) == 0
    assert scale.gap({"eval_loss": math.nan}) == math.inf
    assert math.isnan(scale.gap({"train_loss": 2.0}))


def test_a_target_that_holds_from_the_start_is_no_measure() -> None:
    assert cheap_scale({**FIRST, "eval_byte_accuracy": 0.9}, [*TARGETS, ACCURACY]).targets == TARGETS


def test_without_a_cheap_target_the_loss_itself_is_raced_on() -> None:
    history, _ = history_of([("baseline", 0, curve())])
    scale = Recordings(lambda run_id: [FIRST]).scale(history, [parse_target("eval_chrf > 30")])
    assert scale.targets == (Target("eval_loss", "<", 0.0),) and scale.gap({"eval_loss": 1.0}) == 0.25


def test_without_an_evaluation_there_is_no_scale() -> None:
    assert cheap_scale({}, TARGETS) == cheap_scale({"eval_loss": math.nan}, TARGETS) == Scale()
    assert math.isnan(Scale().gap(FIRST)) and Scale().of_loss(0.03) == 0


def test_the_first_start_is_the_unit_whatever_runs_later() -> None:
    """Or all that is known of curves would have to be made anew."""
    runs = [("baseline", 0, ending(100.0)), ("screen", 1, curve(until=50)), ("baseline", 0, curve(lift=1.0))]
    history, points = history_of(runs)
    recordings, earlier = Recordings(points.__getitem__), replace(history, runs=history.runs[:2])
    scale = recordings.scale(earlier, TARGETS)
    known = recordings.curve(earlier, history.runs[1])
    assert recordings.scale(history, TARGETS) == scale and recordings.curve(history, history.runs[1]) is known
    assert scale.of_loss(scale.shortfalls[0]) == 1


def test_a_baseline_without_an_evaluation_is_passed_over() -> None:
    history, points = history_of([("baseline", 0, curve(until=2)), ("baseline", 0, ending(100.0))])
    points["r0001"] = [{"step": 1, "train_seconds": 0.1, "train_loss": 4.0}]
    assert Recordings(points.__getitem__).scale(history, TARGETS).shortfalls == pytest.approx((cliff(1.0) - 0.76,))


@given(st.floats(0.01, 10), st.floats(0.01, 10))
def test_better_metrics_never_have_a_larger_gap(one: float, other: float) -> None:
    for comparison, sign in (("<", 1), (">", -1)):
        target = Target("x", comparison, 5.0)
        gaps = [shortfall(target, {"x": value}) for value in sorted((one, other))]
        assert sign * (gaps[1] - gaps[0]) >= 0
        assert all(
            (gap == 0) or not target.holds({"x": value}) for gap, value in zip(gaps, sorted((one, other)), strict=True)
        )


@pytest.mark.parametrize(
    ("training", "position", "horizon"),
    [
        ({"lr_scheduler_type": "linear", "schedule_by": "steps", "max_steps": 500}, "step", 500.0),
        ({"lr_scheduler_type": "linear", "schedule_by": "tokens", "max_tokens": 9000}, "tokens", 9000.0),
        ({"lr_scheduler_type": "linear", "schedule_by": "seconds"}, "train_seconds", 60.0),
        ({"lr_scheduler_type": "linear", "max_steps": -1}, "step", math.nan),
        ({}, "step", math.nan),
    ],
)
def test_a_plan_says_what_drives_the_schedule_and_where_it_ends(
    training: dict[str, Any], position: str, horizon: float
) -> None:
    history, _ = history_of([("baseline", 0, curve())], base_config={"training": training, "budget": {"run": 60.0}})
    plan = plan_of(history, 0)
    assert plan.position == position
    assert plan.horizon == horizon or (math.isnan(plan.horizon) and math.isnan(horizon))
    share = plan.progress({"step": 50, "tokens": 900, "train_seconds": 6.0})
    assert math.isnan(share) if math.isnan(horizon) else share == pytest.approx(0.1)


def test_a_plan_follows_the_changes_of_its_candidate() -> None:
    history, _ = history_of([("baseline", 0, curve())], proposals=1, base_config=BASE_CONFIG)
    changed = replace(history.proposals[0], patch={"training.max_steps": 600, "training.lr_scheduler_type": "constant"})
    plan = plan_of(replace(history, proposals=(changed,)), 1)
    assert plan.horizon == 600 and plan.is_constant
    assert not plan_of(history, 0).is_constant


def test_curves_grow_with_their_points() -> None:
    builder = CurveBuilder(cheap_scale(FIRST, TARGETS), "train", Plan(schedule="linear", horizon=100.0))
    live = builder.curve
    assert not builder.add({"step": 5, "train_seconds": 1.0, "learning_rate": 3e-3, "train_loss": 3.0})
    assert builder.add({"step": 10, "train_seconds": 2.0, "eval_loss": 2.38})
    assert builder.add({"step": 20, "train_seconds": 4.0, "eval_loss": 0.76})
    assert list(live.seconds) == [2.0, 4.0] and live.gaps == pytest.approx([0.5, 0.0])
    assert list(live.shares) == [0.1, 0.2] and list(live.rates) == [3e-3, 3e-3]
    assert live.gap_at(3.0) == pytest.approx(0.25) and live.gap_at_share(0.15) == pytest.approx(0.25)
    assert live.until(1.9) == 0 and live.until(2.0) == 1 and live.until(9.0) == 2


def test_a_gap_was_first_as_small_between_two_evaluations() -> None:
    curve = Curve(seconds=(1.0, 2.0, 3.0, 5.0), gaps=(1.0, 0.8, 0.9, 0.1))
    assert [curve.first_at(gap) for gap in (1.2, 1.0, 0.9, 0.8)] == pytest.approx([1.0, 1.0, 1.5, 2.0])
    assert curve.first_at(0.5) == pytest.approx(4.0) and curve.first_at(0.05) == 5.0
    assert Curve(seconds=(1.0, 2.0), gaps=(math.inf, 0.5)).first_at(0.7) == 2.0


def test_a_place_is_that_of_the_best_evaluation_so_far() -> None:
    other = Curve(seconds=(1.0, 2.0, 4.0), gaps=(1.0, 0.5, 0.0))
    run = Curve(seconds=(2.0, 3.0, 4.0), gaps=(0.75, 0.85, 0.25))
    places = [run.place_in(other, seconds, 0.0) for seconds in (1.9, 2.0, 3.1, 4.0)]
    assert places == pytest.approx([0.0, 1.5, 1.5, 3.0])
    assert run.place_in(other, 2.0, 0.05) == pytest.approx(1.6)
    assert run.place_in(other, 3.75, 0.0) == pytest.approx(2.4), "a gap of 0.4, halfway in time to the next evaluation"
    assert run.place_in(Curve(), 2.0, 0.05) == 0


def test_the_rate_is_steady_from_where_it_became_what_it_is() -> None:
    builder = CurveBuilder(cheap_scale(FIRST, TARGETS), "train", Plan(schedule="constant_with_warmup"))
    for step, rate in enumerate((1e-4, 5e-4, 1e-3, 1e-3, 1.001e-3, 1e-3), start=1):
        builder.add({"step": step, "train_seconds": float(step), "learning_rate": rate, "eval_loss": 2.0})
    assert builder.curve.steady_from(6, Plan()) == 2
    assert builder.curve.steady_from(2, Plan()) == 1
    assert builder.curve.steady_from(0, Plan()) == 0


def test_where_no_rate_is_told_the_plan_says_whether_it_is_steady() -> None:
    builder = CurveBuilder(cheap_scale(FIRST, TARGETS), "train", Plan())
    for step in range(1, 4):
        builder.add({"step": step, "train_seconds": float(step), "eval_loss": 2.0})
    assert builder.curve.steady_from(3, Plan(schedule="constant")) == 0
    assert builder.curve.steady_from(3, Plan(schedule="linear")) == 3


def test_each_run_is_read_once() -> None:
    history, points = history_of([("baseline", 0, ending(100.0)), ("screen", 1, curve(until=50))])
    asked: list[str] = []

    def points_of(run_id: str) -> list[dict[str, Any]]:
        asked.append(run_id)
        return points[run_id]

    recordings = Recordings(points_of)
    for _ in range(3):
        recordings.scale(history, TARGETS)
        curves = [recordings.curve(history, run) for run in history.runs]
    assert [len(found.seconds) for found in curves] == [len(points["r0001"]), len(points["r0002"])]
    assert asked == ["r0001", "r0001", "r0002"], "once for the scale, once for each curve"


def test_another_scale_makes_the_curves_anew() -> None:
    history, points = history_of([("baseline", 0, ending(100.0))])
    recordings = Recordings(points.__getitem__)
    recordings.scale(history, TARGETS)
    before = recordings.curve(history, history.runs[0])
    recordings.scale(history, [parse_target("eval_loss < 2.0")])
    assert recordings.curve(history, history.runs[0]).gaps[-10] < before.gaps[-10]


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(-5, 5)), min_size=1, max_size=8), st.floats(-5, 50))
def test_interpolated_values_lie_between_the_given_ones(points: list[tuple[float, float]], x: float) -> None:
    xs, total = [], 0.0
    for step, _ in points:
        total += step
        xs.append(total)
    ys = [y for _, y in points]
    assert min(ys) - 1e-9 <= interpolate(xs, ys, x) <= max(ys) + 1e-9
    assert interpolate(xs, ys, xs[0]) == ys[0] and interpolate(xs, ys, 1e9) == ys[-1]
