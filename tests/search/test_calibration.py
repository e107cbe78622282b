"""The metric at a fixed reading of the clock."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.records import History, RunRecord
from hotlap.search.calibration import calibrate, value_at

EMPTY = History(clock="train", base_config={"targets": ["eval_byte_accuracy > 0.5", "eval_loss < 1"]})


def run(number: int, *points: tuple[float, float], metric: str = "eval_byte_accuracy") -> RunRecord:
    evaluations = tuple({"train_seconds": s, "wall_seconds": s + 5, metric: value} for s, value in points)
    return RunRecord(
        run_id=f"r{number:04}", role="baseline", candidate=0, seed=number, outcome="reached", evaluations=evaluations
    )


def test_the_first_targets_metric_where_all_runs_still_have_it() -> None:
    past = replace(EMPTY, runs=(run(1, (0.0, 0.0), (100.0, 0.5)), run(2, (0.0, 0.0), (50.0, 0.5))))
    found = calibrate(past)
    assert found is not None
    assert (found.metric, found.reading_seconds, found.runs) == ("eval_byte_accuracy", 50.0, 2)
    assert found.mean == pytest.approx(0.375) and found.sigma == pytest.approx(0.25 / 2**0.5)
    assert found.slope_per_second == pytest.approx((0.005 + 0.01) / 2)


def test_without_targets_it_is_the_loss() -> None:
    runs = tuple(run(n, (1.0, 3.0), (10.0, 2.0), metric="eval_loss") for n in (1, 2))
    found = calibrate(replace(EMPTY, base_config={}, runs=runs))
    assert found is not None and found.metric == "eval_loss" and found.slope_per_second < 0 and found.sigma == 0


def test_too_few_runs_or_evaluations_say_nothing() -> None:
    assert calibrate(EMPTY) is None
    assert calibrate(replace(EMPTY, runs=(run(1, (1.0, 0.1), (2.0, 0.2)),))) is None
    assert calibrate(replace(EMPTY, runs=(run(1, (1.0, 0.1)), run(2, (1.0, 0.1))))) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-5, 5)), min_size=1, max_size=8), st.floats(-10, 200))
def test_a_value_between_evaluations_lies_between_theirs(points: list[tuple[float, float]], seconds: float) -> None:
    curve = sorted(points)
    value = value_at(curve, seconds)
    assert min(v for _, v in curve) - 1e-9 <= value <= max(v for _, v in curve) + 1e-9
