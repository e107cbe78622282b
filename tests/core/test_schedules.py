"""Schedules against the values of Hugging Face's: by hand from its formulas, and its own where it is installed."""

import math
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.schedules import SCHEDULE_ARGUMENTS, SCHEDULES, learning_rate_factor

SQRT_HALF = math.sqrt(0.5)
FALL = [(1 + SQRT_HALF) / 2, 0.5, (1 - SQRT_HALF) / 2, 0]
"""Half a cosine in four steps."""
PEAK = 2e-3
MIN_LR = "cosine_warmup_with_min_lr"
WSD = "warmup_stable_decay"

NEEDED: dict[str, dict[str, Any]] = {
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    MIN_LR: {"min_lr_rate": 0.1},
    WSD: {"num_decay_steps": 3},
    "step_down": {"at": 0.5},
}
"""Arguments without which a schedule cannot be computed."""


@pytest.mark.parametrize(
    ("name", "warmup", "steps", "kwargs", "factors"),
    [
        ("linear", 0, 4, {}, [1, 0.75, 0.5, 0.25, 0, 0]),
        ("linear", 2, 10, {}, [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0, 0]),
        ("linear", 4, 4, {}, [0, 0.25, 0.5, 0.75, 0]),
        ("cosine", 0, 4, {}, [1, *FALL]),
        ("cosine", 2, 6, {}, [0, 0.5, 1, *FALL]),
        ("cosine", 0, 4, {"num_cycles": 1}, [1, 0.5, 0, 0.5, 1]),
        ("cosine_with_restarts", 0, 4, {}, [1, *FALL, 0]),
        ("cosine_with_restarts", 1, 5, {"num_cycles": 2}, [0, 1, 0.5, 1, 0.5, 0]),
        ("polynomial", 0, 4, {"lr_end": 0.2}, [1, 0.8, 0.6, 0.4, 0.2, 0.2]),
        ("polynomial", 1, 5, {"lr_end": 0, "power": 2}, [0, 1, 9 / 16, 4 / 16, 1 / 16, 0, 0]),
        ("constant", 3, 5, {}, [1, 1, 1, 1, 1]),
        ("constant_with_warmup", 4, 8, {}, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        ("inverse_sqrt", 2, 99, {}, [0, 0.5, 1, math.sqrt(2 / 3), SQRT_HALF]),
        ("inverse_sqrt", 0, 99, {"timescale": 1}, [1, SQRT_HALF, math.sqrt(1 / 3), 0.5]),
        ("cosine_with_min_lr", 2, 6, {"min_lr": 0.2}, [0, 0.5, 1, *(0.8 * factor + 0.2 for factor in FALL)]),
        (MIN_LR, 2, 6, {"min_lr_rate": 0}, [0.5, 1, *FALL]),
        (MIN_LR, 3, 7, {"min_lr_rate": 0.5, "warmup_lr_rate": 0.2}, [0.2, 0.6, 1, 0.75 + SQRT_HALF / 4, 0.75]),
        ("triangular", 9, 4, {}, [0, 0.5, 1, 0.5, 0, 0]),
        ("triangular", 0, 8, {"num_cycles": 2, "min_lr_ratio": 0.2}, [0.2, 0.6, 1, 0.6, 0.2, 0.6, 1, 0.6, 0.2]),
        ("step_down", 2, 6, {"at": 4}, [0, 0.5, 1, 1, 0.1, 0.1, 0.1]),
        ("step_down", 0, 8, {"at": 0.25, "to": 0, "smooth": 4}, [1, 1, 1, *FALL]),
        ("step_down", 0, 8, {"at": 2, "to": 0.5, "smooth": 0.25}, [1, 1, 1, 0.75, 0.5, 0.5]),
    ],
)
def test_a_schedule_has_the_values_worked_out_by_hand(
    name: str, warmup: int, steps: int, kwargs: dict[str, Any], factors: list[float]
) -> None:
    found = [learning_rate_factor(name, step, warmup, steps, kwargs) for step in range(len(factors))]
    assert found == pytest.approx(factors, abs=1e-12)


@pytest.mark.parametrize(
    ("warmup", "steps", "kwargs", "factors"),
    [
        (0, 5, {}, [1, 1, *FALL, 0]),
        (0, 4, {"num_decay_steps": 2, "num_cycles": 1}, [1, 1, 1, 0, 0]),
        (0, 4, {"decay_type": "1-sqrt"}, [1, 0.5, 1 - SQRT_HALF, 1 - math.sqrt(0.75), 0]),
        (2, 8, {"decay_type": "linear"}, [0, 0.5, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]),
        (2, 8, {"decay_type": "linear", "min_lr_ratio": 0.2}, [0.2, 0.6, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2]),
        (2, 8, {"warmup_type": "1-sqrt", "num_decay_steps": 0.5}, [0, 1 - SQRT_HALF, 1, 1, 1, *FALL]),
        (2, 9, {"warmup_type": "cosine", "num_decay_steps": 1, "num_stable_steps": 2}, [0, 0.5, 1, 1, 1, 0, 0]),
    ],
)
def test_warmup_stable_decay_stays_up_and_decays_at_the_end(
    warmup: int, steps: int, kwargs: dict[str, Any], factors: list[float]
) -> None:
    arguments = {"num_decay_steps": 4, **kwargs}
    found = [learning_rate_factor(WSD, s, warmup, steps, arguments) for s in range(len(factors))]
    assert found == pytest.approx(factors, abs=1e-12)


def test_a_learning_rate_as_floor_is_compared_with_the_peak() -> None:
    assert learning_rate_factor("polynomial", 4, 0, 4, {"lr_end": 1e-4}, PEAK) == pytest.approx(0.05)
    assert learning_rate_factor("cosine_with_min_lr", 4, 0, 4, {"min_lr": 1e-4}, PEAK) == pytest.approx(0.05)


@pytest.mark.parametrize("kwargs", [{}, {"min_lr": 1e-4, "min_lr_rate": 0.1}])
@pytest.mark.parametrize("name", ["cosine_with_min_lr", MIN_LR])
def test_a_floor_is_given_exactly_once(name: str, kwargs: dict[str, float]) -> None:
    with pytest.raises(TypeError, match="min_lr or min_lr_rate"):
        learning_rate_factor(name, 5, 0, 10, kwargs)


def test_an_argument_of_another_schedule_is_refused() -> None:
    for name in SCHEDULES:
        with pytest.raises(TypeError):
            learning_rate_factor(name, 5, 0, 10, {**NEEDED.get(name, {}), "gamma": 1})
    with pytest.raises(KeyError):
        learning_rate_factor("exponential", 5, 0, 10)


def test_the_table_of_arguments_names_what_the_schedules_take() -> None:
    assert SCHEDULE_ARGUMENTS.keys() == SCHEDULES.keys()
    assert SCHEDULE_ARGUMENTS["linear"] == SCHEDULE_ARGUMENTS["constant"] == ()
    assert SCHEDULE_ARGUMENTS["polynomial"] == ("lr_end", "power")
    assert SCHEDULE_ARGUMENTS["step_down"] == ("at", "to", "smooth")
    assert set(SCHEDULE_ARGUMENTS[WSD]) == {
        "num_decay_steps",
        "num_stable_steps",
        "warmup_type",
        "decay_type",
        "min_lr_ratio",
        "num_cycles",
    }


# The same numbers as transformers', where it is installed.

CASES: list[tuple[str, dict[str, Any]]] = [
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 2}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {}),
    ("polynomial", {"lr_end": 1e-4, "power": 2.0}),
    ("polynomial", {"lr_end": 0.0, "power": 0.5}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 50}),
    ("cosine_with_min_lr", {"min_lr": 1e-4}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.3, "num_cycles": 1.5}),
    (MIN_LR, {"min_lr": 1e-4}),
    (MIN_LR, {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2}),
    (WSD, {"num_decay_steps": 4, "num_stable_steps": 3}),
    *[
        (WSD, {"num_decay_steps": 4, "warmup_type": rise, "decay_type": fall, "min_lr_ratio": floor})
        for rise, fall, floor in product(("linear", "cosine", "1-sqrt"), ("linear", "cosine", "1-sqrt"), (0.0, 0.1))
    ],
]


@pytest.fixture(scope="module")
def optimization() -> ModuleType:
    """Return transformers' module of schedules."""
    module: ModuleType = pytest.importorskip("transformers.optimization", exc_type=ImportError)
    return module


def their_factors(optimization: ModuleType, name: str, warmup: int, steps: int, kwargs: dict[str, Any]) -> Any:
    """Return transformers' function from the step to the factor."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "inverse_sqrt":  # the only one whose arguments get_scheduler leaves out
            return optimization.get_inverse_sqrt_schedule(optimizer, warmup, **kwargs).lr_lambdas[0]
        return optimization.get_scheduler(name, optimizer, warmup, steps, kwargs).lr_lambdas[0]


@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 7), (1, 12), (3, 20), (20, 20), (50, 60)])
@pytest.mark.parametrize(("name", "kwargs"), CASES)
def test_factors_are_those_of_transformers(
    optimization: ModuleType, name: str, kwargs: dict[str, Any], warmup: int, steps: int
) -> None:
    theirs: Callable[[int], float] = their_factors(optimization, name, warmup, steps, kwargs)
    for step in range(steps + 3):
        if name == "polynomial" and step == warmup == steps:
            continue  # theirs divides by zero
        found = learning_rate_factor(name, step, warmup, steps, kwargs, PEAK)
        assert found == pytest.approx(theirs(step), abs=1e-12), step


# What holds for all of them.


@st.composite
def curves(draw: st.DrawFn) -> tuple[str, float, float, dict[str, Any]]:
    """Draw a schedule that falls after its warm-up, with its arguments, over a continuous horizon."""
    name = draw(st.sampled_from(sorted(SCHEDULES)))
    horizon = draw(st.floats(1, 1e9))
    warmup = horizon * draw(st.floats(0.01, 0.4))
    kwargs: dict[str, Any] = dict(NEEDED.get(name, {}))
    for key, values in {
        "min_lr_rate": st.floats(0, 1),
        "min_lr_ratio": st.floats(0, 1),
        "num_decay_steps": st.floats(0.05, 0.5),
        "decay_type": st.sampled_from(["linear", "cosine", "1-sqrt"]),
        "warmup_type": st.sampled_from(["linear", "cosine", "1-sqrt"]),
        "warmup_lr_rate": st.floats(0, 1),
        "power": st.floats(1, 3),
        "lr_end": st.floats(0, 1),
        "at": st.floats(0.45, 0.6),
        "to": st.floats(0, 1),
        "smooth": st.floats(0.05, 0.3),
    }.items():
        if key in SCHEDULE_ARGUMENTS[name]:
            kwargs[key] = draw(values)
    return name, warmup, horizon, kwargs


def floor_of(name: str, kwargs: dict[str, Any]) -> float:
    """Return where a schedule ends."""
    keys = ("min_lr_rate", "min_lr_ratio", "lr_end", "to")
    return next((kwargs[key] for key in keys if key in kwargs), 0.0)


ENDLESS = {"constant", "constant_with_warmup", "inverse_sqrt"}


@given(curve=curves(), share=st.floats(0, 1))
@settings(deadline=None)
def test_a_factor_lies_between_0_and_1(curve: tuple[str, float, float, dict[str, Any]], share: float) -> None:
    name, warmup, horizon, kwargs = curve
    assert -1e-12 <= learning_rate_factor(name, share * horizon, warmup, horizon, kwargs, stride=0) <= 1 + 1e-12


@given(curve=curves(), beyond=st.floats(0, 1))
@settings(deadline=None)
def test_a_continuous_schedule_ends_exactly_at_its_horizon(
    curve: tuple[str, float, float, dict[str, Any]], beyond: float
) -> None:
    name, warmup, horizon, kwargs = curve
    if name not in ENDLESS:
        end = learning_rate_factor(name, horizon, warmup, horizon, kwargs, stride=0)
        assert end == pytest.approx(floor_of(name, kwargs), abs=1e-12)
        assert learning_rate_factor(name, horizon * (1 + beyond), warmup, horizon, kwargs, stride=0) == end


@given(curve=curves(), share=st.floats(0, 0.999))
@settings(deadline=None)
def test_a_continuous_schedule_has_no_jumps(curve: tuple[str, float, float, dict[str, Any]], share: float) -> None:
    name, warmup, horizon, kwargs = curve
    here, there = (
        learning_rate_factor(name, place * horizon, warmup, horizon, kwargs, stride=0)
        for place in (share, share + 1e-6)
    )
    assert abs(here - there) < 0.02


@given(curve=curves(), shares=st.lists(st.floats(0, 1), min_size=2, max_size=9))
@settings(deadline=None)
def test_factors_rise_in_the_warm_up_and_then_only_fall(
    curve: tuple[str, float, float, dict[str, Any]], shares: list[float]
) -> None:
    name, warmup, horizon, kwargs = curve
    if name == "triangular":
        warmup = horizon / 2

    def factors(low: float, high: float) -> Iterator[float]:
        for share in sorted(shares):
            position = min(low + share * (high - low), high)
            yield learning_rate_factor(name, position, warmup, horizon, kwargs, stride=0)

    assert all(a <= b + 1e-9 for a, b in pairwise(factors(0, warmup)))
    assert all(a >= b - 1e-9 for a, b in pairwise(factors(warmup, horizon)))
    assert learning_rate_factor(name, warmup, warmup, horizon, kwargs, stride=0) == pytest.approx(1)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"constant", MIN_LR}))
def test_the_first_update_of_a_warm_up_has_factor_0(name: str) -> None:
    assert learning_rate_factor(name, 0, 5, 20, NEEDED.get(name, {})) == 0


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_short_budget_in_seconds_is_used_to_its_end(name: str) -> None:
    """A span below 1 is one like any other where the unit is not steps."""
    kwargs = {**NEEDED.get(name, {}), **({"num_decay_steps": 0.4} if name == WSD else {})}
    middle, end = (learning_rate_factor(name, place, 0.1, 0.6, kwargs, stride=0) for place in (0.25, 0.6))
    if name not in ENDLESS:
        assert end == pytest.approx(kwargs.get("min_lr_rate", 0.1 if name == "step_down" else 0.0), abs=1e-6)
        assert end < middle
