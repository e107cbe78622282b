"""Numbers as they are printed: their value, how many digits they have, their unit."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

NUMBER: Final = (
    r"[-+]?(?:(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
    r"|[nN]a[nN]|NAN|[iI]nf(?:inity)?|INF)"
)
"""What a number looks like, with commas between thousands or without; for an expression with re.ASCII."""
UNIT: Final = r"(?:%|(?:[mun]|µ)?s\b|secs?\b|seconds?\b|m(?:in(?:ute)?s?)?\b|h(?:rs?|ours?)?\b|[KMG]i?B\b|[kKM]\b)"

_TIMES: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0}
_TIMES_BY_START: Final = {"second": 1.0, "m": 60.0, "h": 3600.0}
_THOUSANDS: Final = {"k": 1e3, "K": 1e3, "M": 1e6}
_CLOCK: Final = re.compile(r"(?:(\d+) days?, )?(\d+):(\d{1,2}):(\d{1,2}(?:\.(\d+))?)", re.ASCII)
_LONGEST_EXPONENT: Final = 5
_MOST_NAMES: Final = 10_000
_CLEAR_DIGITS: Final = 8
"""With that many digits a number was not rounded for the eye; a number of float32 has as many."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number that was printed."""

    value: float
    decimals: int | None = None
    """Digits after the point that it is good for, fewer than none for thousands; None: all of its digits are there."""

    def times(self, factor: float) -> "Number":
        """Return it in another unit; the digits that it is good for move along."""
        value = float(f"{self.value * factor:.15g}")
        if self.decimals is None or not math.isfinite(value):
            return Number(value)
        return Number(value, math.floor(self.decimals - math.log10(factor) + 1e-9))


def parse_number(text: str) -> Number | None:
    """Read a number with as many digits as stand there; None for any other text."""
    plain = text.replace(",", "")
    try:
        value = float(plain)
    except ValueError:
        return None
    if not math.isfinite(value):
        return Number(value)
    mantissa, _, exponent = plain.lower().partition("e")
    after_point = len(mantissa.partition(".")[2])
    if len(exponent) > _LONGEST_EXPONENT:
        return Number(value)  # nothing but zero is that small
    return Number(value, after_point - (int(exponent) if exponent else 0))


def parse_general(text: str, digits: int) -> Number | None:
    """Read a number that was printed by a format such as `.4g`, which leaves zeros at the end out."""
    shown = parse_number(text)
    if shown is None or shown.decimals is None:
        return shown
    if shown.value == 0:
        return Number(0.0)  # anything else would have been printed with its digits
    order = Decimal(text.replace(",", "")).adjusted()
    return Number(shown.value, max(shown.decimals, digits - 1 - order))


def parse_clock(text: str) -> Number | None:
    """Read a length of time such as `0:01:23.45` as seconds; None for any other text."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes = (int(part or 0) for part in match.group(1, 2, 3))
    return Number(((days * 24 + hours) * 60 + minutes) * 60 + float(match[4]), len(match[5] or ""))


def in_unit(name: str, number: Number, unit: str | None) -> tuple[str, Number]:
    """Return name and number of a figure without its unit: times in seconds, others told by the end of the name."""
    if not unit:
        return name, number
    seconds = _TIMES.get(unit) or next((value for start, value in _TIMES_BY_START.items() if unit.startswith(start)), 0)
    if seconds:
        return ended(name, "seconds"), number.times(seconds)
    if unit in _THOUSANDS:
        return name, number.times(_THOUSANDS[unit])
    return ended(name, "percent" if unit == "%" else unit.lower()), number


def ended(name: str, unit: str) -> str:
    """Return a name that ends with its unit."""
    return name if name.endswith(f"_{unit}") or name == unit else f"{name}_{unit}"


class Digits:
    """Tells of figures written by repr, as in JSON, whether they were rounded before: by the longest one so far.

    0.5 may be all of a number or what is left of 0.5234; once a metric has shown many digits, all of its numbers are
    taken for whole ones.
    """

    def __init__(self) -> None:
        self._most: dict[tuple[str, str], int | None] = {}

    def judge(self, source: str, name: str, value: float) -> Number:
        """Return a figure with the digits that it is good for."""
        if not math.isfinite(value):
            return Number(value)
        key = source, name
        most = self._most.get(key, 0)
        if len(self._most) > _MOST_NAMES:
            self._most.clear()  # a log that goes on inventing names may not fill the memory
        if most is None:
            return Number(value)
        shown = repr(value)
        if len(shown.partition("e")[0].strip("-0.").replace(".", "")) >= _CLEAR_DIGITS:
            self._most[key] = None
            return Number(value)
        number = parse_number(shown)
        assert number is not None and number.decimals is not None
        self._most[key] = max(most, number.decimals)
        return Number(value, self._most[key])
