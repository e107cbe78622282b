"""Spaces: whatever is drawn lies within the bounds, and scales go both ways."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.search.space import Choice, Number, Space

RATE = Number(name="rate", low=1e-4, high=1e-1, is_log=True, prior=1e-3, spread=0.1)
LAYERS = Number(name="layers", low=1, high=8, is_whole=True)
OPTIM = Choice(name="optim", values=("adamw", "muon", "sgd"), prior="muon")
SPACE = Space((RATE, LAYERS, OPTIM))


def is_inside(point: dict[str, Any]) -> bool:
    return (
        list(point) == ["rate", "layers", "optim"]
        and RATE.low <= point["rate"] <= RATE.high
        and point["layers"] in range(1, 9)
        and point["optim"] in OPTIM.values
    )


@given(st.integers(0, 10_000), st.floats(0.1, 20))
def test_draws_lie_within_the_bounds(seed: int, width: float) -> None:
    generator = random.Random(seed)
    point = SPACE.sample_prior(generator, width)
    assert is_inside(point)
    moved = SPACE.mutate(point, generator, 0.3, width)
    assert is_inside(moved)
    assert point == SPACE.sample_prior(random.Random(seed), width)


@given(st.floats(0, 1))
def test_positions_and_values_go_both_ways(position: float) -> None:
    for number in (RATE, Number(name="share", low=-1, high=3)):
        value = number.value_at(position)
        assert number.low <= value <= number.high
        assert number.position(value) == pytest.approx(position, abs=1e-9)


def test_what_leaves_the_range_comes_back_from_its_bound() -> None:
    number = Number(name="share", low=0, high=10)
    assert [number.value_at(p) for p in (-0.1, 1.1, 2.3, -1.2)] == pytest.approx([1, 9, 3, 8])


def test_values_outside_are_clipped() -> None:
    assert SPACE.clip({"rate": math.inf, "layers": 3.6, "optim": "lion", "other": 1}) == {
        "rate": 1e-1,
        "layers": 4,
        "optim": "adamw",
    }


def test_the_prior_lies_around_the_experts_guess() -> None:
    generator = random.Random(0)
    points = [SPACE.sample_prior(generator) for _ in range(400)]
    middle = sorted(point["rate"] for point in points)[200]
    assert middle == pytest.approx(1e-3, rel=0.2)
    assert 0.6 < sum(point["optim"] == "muon" for point in points) / 400 < 0.85
    wide = [SPACE.sample_prior(generator, 5.0) for _ in range(400)]
    assert sum(point["optim"] == "muon" for point in wide) < sum(point["optim"] == "muon" for point in points)
    assert max(point["rate"] for point in wide) > max(point["rate"] for point in points)


def test_a_mutation_stays_near_and_moves_at_least_one() -> None:
    generator = random.Random(1)
    start = {"rate": 1e-2, "layers": 4.0, "optim": "sgd"}
    moved = [SPACE.mutate(start, generator, 0.25) for _ in range(300)]
    rates = [point["rate"] for point in moved if point["rate"] != 1e-2]
    assert 0.2 < len(rates) / 300 < 0.7
    assert sum(1e-3 < rate < 1e-1 for rate in rates) > 0.95 * len(rates)


def test_distances() -> None:
    left, right = {"rate": 1e-4, "layers": 1.0, "optim": "muon"}, {"rate": 1e-1, "layers": 1.0, "optim": "sgd"}
    assert SPACE.distance(left, right) == pytest.approx(math.sqrt(2))
    assert SPACE.distance(left, left) == 0
    assert SPACE.is_near(left, {**left, "rate": 1.01e-4}, 0.01)
    assert not SPACE.is_near(left, {**left, "rate": 2e-4}, 0.01)
    assert not SPACE.is_near(left, {**left, "optim": "sgd"}, 0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 1.0, "high": 1.0},
        {"low": 0.0, "high": 1.0, "is_log": True},
        {"low": 0.0, "high": math.inf},
        {"low": 0.5, "high": 2.0, "is_whole": True},
    ],
)
def test_bounds_that_make_no_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs"):
        Number(name="n", **wrong)


def test_choices_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="distinct"):
        Choice(name="c", values=())
    with pytest.raises(ValueError, match="distinct"):
        Choice(name="c", values=(1, 1))
