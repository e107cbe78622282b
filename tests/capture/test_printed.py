"""Numbers as they are printed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.capture.names import is_metric, tidy, without_chatter
from hotlap.capture.printed import Digits, Number, in_unit, parse_clock, parse_general, parse_number


@pytest.mark.parametrize(
    ("text", "value", "decimals"),
    [
        ("3.28", 3.28, 2),
        ("3.2800", 3.28, 4),
        ("-12", -12, 0),
        ("1,234,567", 1234567, 0),
        ("1.5e-05", 1.5e-5, 6),
        ("1.235e+04", 12350, -1),
        (".5", 0.5, 1),
        ("5.", 5, 0),
        ("inf", math.inf, None),
    ],
)
def test_numbers_are_read_with_their_digits(text: str, value: float, decimals: int | None) -> None:
    assert parse_number(text) == Number(value, decimals)


@pytest.mark.parametrize("text", ["", "abc", "1.2.3", "0x10", "--1", "1e", "e5"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert parse_number(text) is None


@given(st.text())
def test_no_text_breaks_the_reading_of_numbers(text: str) -> None:
    for number in (parse_number(text), parse_clock(text)):
        assert number is None or isinstance(number.value, float)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 10))
def test_a_general_format_tells_how_far_off_a_number_may_be(value: float, digits: int) -> None:
    number = parse_general(f"{value:.{digits}g}", digits)
    assert number is not None
    if math.isfinite(number.value):
        half = 0.5 * 10.0**-number.decimals if number.decimals is not None else 0.0
        assert abs(number.value - value) <= half * (1 + 1e-9) + abs(value) * 1e-15


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("ms", ("time_seconds", Number(0.0125, 4))),
        ("s", ("time_seconds", Number(12.5, 1))),
        ("m", ("time_seconds", Number(750.0, -1))),
        ("h", ("time_seconds", Number(45000.0, -3))),
        ("%", ("time_percent", Number(12.5, 1))),
        ("k", ("time", Number(12500.0, -2))),
        ("GiB", ("time_gib", Number(12.5, 1))),
        (None, ("time", Number(12.5, 1))),
    ],
)
def test_units_move_into_the_name(unit: str | None, expected: tuple[str, Number]) -> None:
    assert in_unit("time", Number(12.5, 1), unit) == expected


def test_a_name_that_has_its_unit_keeps_it() -> None:
    assert in_unit("eta_seconds", Number(1.0, 0), "s")[0] == "eta_seconds"


def test_lengths_of_time() -> None:
    assert parse_clock("0:01:02.31") == Number(62.31, 2)
    assert parse_clock("1 day, 2:00:00.00") == Number(93600.0, 2)
    assert parse_clock("12:30") is None


def test_a_metric_that_has_shown_many_digits_is_whole() -> None:
    digits = Digits()
    assert digits.judge("json", "acc", 0.5) == Number(0.5, 1)
    assert digits.judge("json", "acc", 0.725) == Number(0.725, 3)
    assert digits.judge("json", "acc", 0.5) == Number(0.5, 3)
    assert digits.judge("json", "acc", 0.123456789) == Number(0.123456789)
    assert digits.judge("json", "acc", 0.5) == Number(0.5)
    assert digits.judge("csv", "acc", 0.5) == Number(0.5, 1)


def test_words_of_metrics() -> None:
    assert all(map(is_metric, ["loss", "val_loss", "eval/loss", "valLoss", "trainloss", "val.acc", "Test BLEU"]))
    assert not any(map(is_metric, ["lr", "loss_weight", "lossFn", "target_loss", "epoch", "closs_type", "accelerate"]))
    assert [tidy(name) for name in ("Val Loss", "val loss", "Loss", "num_params_M")] == [
        "val_loss",
        "val_loss",
        "loss",
        "num_params_M",
    ]
    assert without_chatter("saved the best val loss") == "best val loss"
    assert without_chatter("INFO done loss") == "loss"
