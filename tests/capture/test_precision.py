"""Rounded numbers that cannot decide a target."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.capture.precision import verdict, verdict_of_all
from hotlap.capture.printed import Number, parse_general, parse_number
from hotlap.core.targets import Target, parse_target

comparisons = st.sampled_from(["<", "<=", ">", ">="])
numbers = st.floats(-1e6, 1e6, allow_nan=False)


def target(text: str) -> Target:
    return parse_target(text, is_any_metric=True)


@pytest.mark.parametrize(
    ("condition", "value", "decimals", "expected"),
    [
        ("val_loss <= 3.28", 3.28, 2, None),
        ("val_loss <= 3.28", 3.27, 2, True),
        ("val_loss <= 3.28", 3.29, 2, False),
        ("val_loss <= 3.28", 3.28, 3, None),
        ("val_loss <= 3.28", 3.2798, 4, True),
        ("val_loss <= 3.28", 3.28, None, True),
        ("val_loss < 3.28", 3.28, None, False),
        ("val_loss < 3.275", 3.28, 2, False),
        ("val_loss <= 3.275", 3.28, 2, None),
        ("accuracy >= 0.5", 0.5, 4, None),
        ("accuracy > 0.5", 1, 0, None),
        ("accuracy >= 0.5", 1, 0, True),
        ("tokens > 12000", 12350, -1, True),
        ("tokens > 12000", 12000, -3, None),
        ("val_loss < 1", math.nan, 4, False),
        ("accuracy > 1", math.inf, None, False),
    ],
)
def test_the_digits_decide_or_they_do_not(
    condition: str, value: float, decimals: int | None, expected: bool | None
) -> None:
    assert verdict(target(condition), value, decimals) is expected


@given(numbers, numbers, comparisons, st.integers(0, 8))
def test_a_verdict_is_that_on_the_number_before_rounding(
    value: float, limit: float, comparison: str, decimals: int
) -> None:
    condition = Target("m", comparison, limit)
    printed = parse_number(f"{value:.{decimals}f}")
    assert printed is not None and printed.decimals == decimals
    told = verdict(condition, printed.value, printed.decimals)
    assert told is None or told is condition.holds({"m": value})


@given(numbers, st.integers(-3, 3), comparisons, st.integers(1, 8))
def test_the_same_with_general_formats_at_the_limit_itself(
    value: float, distance: int, comparison: str, digits: int
) -> None:
    shown = f"{value:.{digits}g}"
    printed = parse_general(shown, digits)
    assert printed is not None
    limit = float(shown) + distance * 10.0 ** -(printed.decimals or 0) / 2
    told = verdict(Target("m", comparison, limit), printed.value, printed.decimals)
    assert told is None or told is Target("m", comparison, limit).holds({"m": value})


@given(numbers, st.integers(0, 6), st.sampled_from([1e-3, 60.0, 3600.0, 1e3]))
def test_another_unit_never_claims_more_digits(value: float, decimals: int, factor: float) -> None:
    number = Number(value, decimals).times(factor)
    assert number.decimals is not None
    assert 10.0**-number.decimals >= 10.0**-decimals * factor * (1 - 1e-9)


@given(numbers, numbers, comparisons)
def test_a_number_with_all_digits_always_decides(value: float, limit: float, comparison: str) -> None:
    condition = Target("m", comparison, limit)
    assert verdict(condition, value, None) is condition.holds({"m": value})


def test_all_targets_together() -> None:
    both = [target("val_loss <= 3.28"), target("accuracy > 0.5")]
    assert verdict_of_all(both, {"val_loss": 3.2, "accuracy": 0.6}, {"val_loss": 1, "accuracy": 1}) is True
    assert verdict_of_all(both, {"val_loss": 3.3, "accuracy": 0.6}, {"val_loss": 1, "accuracy": 1}) is None
    assert verdict_of_all(both, {"val_loss": 3.3, "accuracy": 0.4}, {"val_loss": 1, "accuracy": 1}) is False
    assert verdict_of_all(both, {"val_loss": 3.2}, {}) is False
    assert verdict_of_all(both, {"val_loss": 3.2, "accuracy": 0.6}, {}, {"accuracy": "told twice"}) is None
    assert verdict_of_all([], {"val_loss": 3.2}, {}) is False
