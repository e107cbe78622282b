"""The brief form of a run's evaluations."""

import math

from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.evaluations import MOST_EVALUATIONS, brief_evaluations


def evaluation(step: int, loss: float = 1.0) -> dict[str, float]:
    return {
        "step": step,
        "train_seconds": step / 10,
        "wall_seconds": step / 10 + 2,
        "tokens": 8 * step,
        "eval_loss": loss,
    }


def test_only_evaluations_and_only_what_targets_may_name() -> None:
    points = [{"step": 1, "train_seconds": 0.1, "train_loss": 3.0}, {**evaluation(2), "grad_norm": 0.5}]
    assert brief_evaluations(points) == ({"step": 2, "train_seconds": 0.2, "wall_seconds": 2.2, "eval_loss": 1.0},)


def test_what_is_not_finite_is_left_out() -> None:
    assert "eval_loss" not in brief_evaluations([evaluation(1, math.nan)])[0]
    assert "eval_loss" not in brief_evaluations([{**evaluation(1), "eval_loss": "far"}])[0]
    assert brief_evaluations([]) == ()


@given(st.integers(1, 300))
def test_first_and_last_stay_and_the_order(number: int) -> None:
    brief = brief_evaluations([evaluation(step) for step in range(1, number + 1)])
    steps = [each["step"] for each in brief]
    assert len(steps) == min(number, MOST_EVALUATIONS)
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, number)
