"""Schedules against the values of Hugging Face's, worked out by hand from its formulas (trainer.md, section 2)."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.schedules import SCHEDULES, learning_rate_factor

SQRT_HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("name", "warmup", "steps", "kwargs", "factors"),
    [
        ("linear", 0, 4, {}, [1, 0.75, 0.5, 0.25, 0, 0]),
        ("linear", 2, 10, {}, [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0, 0]),
        ("linear", 4, 4, {}, [0, 0.25, 0.5, 0.75, 0]),
        ("cosine", 0, 4, {}, [1, (1 + SQRT_HALF) / 2, 0.5, (1 - SQRT_HALF) / 2, 0]),
        ("cosine", 2, 6, {}, [0, 0.5, 1, (1 + SQRT_HALF) / 2, 0.5, (1 - SQRT_HALF) / 2, 0]),
        ("cosine", 0, 4, {"num_cycles": 1}, [1, 0.5, 0, 0.5, 1]),
        ("constant", 3, 5, {}, [1, 1, 1, 1, 1]),
        ("constant_with_warmup", 4, 8, {}, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
    ],
)
def test_a_schedule_has_transformers_values(
    name: str, warmup: int, steps: int, kwargs: dict[str, Any], factors: list[float]
) -> None:
    found = [learning_rate_factor(name, step, warmup, steps, kwargs) for step in range(len(factors))]
    assert found == pytest.approx(factors, abs=1e-12)


@pytest.mark.parametrize(
    ("warmup", "steps", "kwargs", "factors"),
    [
        (0, 5, {}, [1, 1, (1 + SQRT_HALF) / 2, 0.5, (1 - SQRT_HALF) / 2, 0, 0]),
        (0, 4, {"num_decay_steps": 2, "num_cycles": 1}, [1, 1, 1, 0, 0]),
        (0, 4, {"decay_type": "1-sqrt"}, [1, 0.5, 1 - SQRT_HALF, 1 - math.sqrt(0.75), 0]),
        (2, 8, {"decay_type": "linear"}, [0, 0.5, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]),
        (2, 8, {"decay_type": "linear", "min_lr_ratio": 0.2}, [0.2, 0.6, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2]),
    ],
)
def test_warmup_stable_decay_stays_up_and_decays_at_the_end(
    warmup: int, steps: int, kwargs: dict[str, Any], factors: list[float]
) -> None:
    arguments = {"num_decay_steps": 4, **kwargs}
    found = [learning_rate_factor("warmup_stable_decay", s, warmup, steps, arguments) for s in range(len(factors))]
    assert found == pytest.approx(factors, abs=1e-12)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"constant"}))
def test_the_first_update_of_a_warm_up_has_factor_0(name: str) -> None:
    kwargs = {"num_decay_steps": 3} if name == "warmup_stable_decay" else {}
    assert learning_rate_factor(name, 0, 5, 20, kwargs) == 0
    assert learning_rate_factor(name, 5, 5, 20, kwargs) == 1


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    steps=st.integers(1, 500),
    warmup_share=st.floats(0, 1),
    decay_share=st.floats(0, 1),
    decay_type=st.sampled_from(["linear", "cosine", "1-sqrt"]),
    floor=st.floats(0, 1),
)
@settings(deadline=None)
def test_a_factor_lies_between_0_and_the_peak_and_rises_only_in_warm_up(
    name: str, steps: int, warmup_share: float, decay_share: float, decay_type: str, floor: float
) -> None:
    warmup = round(warmup_share * steps)
    kwargs: dict[str, Any] = {}
    if name == "warmup_stable_decay":
        decay = round(decay_share * (steps - warmup))
        kwargs = {"num_decay_steps": decay, "decay_type": decay_type, "min_lr_ratio": floor}
    factors = [learning_rate_factor(name, step, warmup, steps, kwargs) for step in range(steps + 1)]
    assert all(0 <= factor <= 1 for factor in factors)
    after = factors[warmup:]
    assert all(a >= b - 1e-12 for a, b in pairwise(after))
    if name != "constant":
        before = factors[: warmup + 1]
        assert warmup == steps or all(a <= b + 1e-12 for a, b in pairwise(before))
