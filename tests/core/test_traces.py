"""Traces of the training loss."""

import math

import pytest

from hotlap.core.traces import MOST_POINTS, brief_trace, trace_difference


def test_the_first_lines_of_figures_make_the_trace() -> None:
    points = [{"step": 50, "eval_loss": 3.0}, *({"step": 100 * n, "train_loss": 3.0 / n} for n in range(1, 20))]
    found = brief_trace(points)
    assert found[0] == (100, 3.0) and len(found) == MOST_POINTS


def test_a_trace_ends_before_what_is_no_number() -> None:
    points = [{"step": 1, "train_loss": 2.0}, {"step": 2, "train_loss": math.nan}, {"step": 3, "train_loss": 1.0}]
    assert brief_trace(points) == ((1, 2.0),)
    assert brief_trace([{"train_loss": 2.0}, {"step": "x", "train_loss": 2.0}]) == ()


def test_common_steps_are_compared() -> None:
    left, right = ((1, 2.0), (2, 1.0), (3, 0.5)), ((1, 2.0), (2, 1.01))
    assert trace_difference(left, right) == pytest.approx(0.01 / 1.01)
    assert trace_difference(left, left) == 0.0
    assert math.isnan(trace_difference(((1, 2.0),), ((2, 2.0),))) and math.isnan(trace_difference((), ()))
