"""Durations: every accepted form, the refused ones, and that what is written can be read again."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.durations import format_seconds, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("2d", 172800),
        ("1d2h3m4s", 93784),
        ("4:38", 278),
        ("1:02:03", 3723),
        ("  15M ", 900),
        ("12", 12),
        ("0.5", 0.5),
        (7, 7),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_read(text: str | float, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "15 minutes", "1h30", "5x", "-5s", "4:99", "1:2:3:4", "m", "1e3"])
def test_anything_else_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s, 15m, 1h30m or 4:38"):
        parse_seconds(text)


@pytest.mark.parametrize("value", [None, True, [1], {"minutes": 3}])
def test_what_is_neither_text_nor_a_number_is_refused_alike(value: object) -> None:
    with pytest.raises(ValueError, match="write 90s, 15m, 1h30m or 4:38"):
        parse_seconds(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (0.42, "0.42 s"), (9.311, "9.31 s"), (55.24, "55.2 s"), (291, "4:51"), (3723, "1:02:03")],
)
def test_a_duration_is_written_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize("seconds", [math.inf, math.nan])
def test_a_time_that_does_not_come_is_never(seconds: float) -> None:
    assert format_seconds(seconds) == "never"


@given(seconds=st.floats(0, 1e7))
@settings(deadline=None)
def test_a_written_duration_is_read_as_what_was_shown(seconds: float) -> None:
    resolution = 0.005 if seconds < 10 else 0.05 if seconds < 100 else 0.5
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, abs=resolution + 1e-9)


@given(
    parts=st.lists(st.tuples(st.integers(0, 999), st.sampled_from("smhd")), min_size=1, max_size=4),
    space=st.sampled_from(["", " "]),
)
@settings(deadline=None)
def test_parts_add_up(parts: list[tuple[int, str]], space: str) -> None:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    text = space.join(f"{number}{unit}" for number, unit in parts)
    assert parse_seconds(text) == sum(number * units[unit] for number, unit in parts)
