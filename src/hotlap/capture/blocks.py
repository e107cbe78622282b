"""Figures that are printed one under the other: the Trainer's final metrics, `key: value` blocks, METRIC lines.

What stands together is one reading, so that targets on two of its figures can hold at once.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

from hotlap.capture.names import is_metric
from hotlap.capture.printed import NUMBER, UNIT, Number, in_unit, parse_clock, parse_number
from hotlap.capture.ranks import without_logger
from hotlap.capture.reading import Found
from hotlap.core.trainer_names import metric_name

_TRAINER_HEAD: Final = re.compile(r".{0,80}?\*{3,} (\w+) metrics \*{3,}\s*", re.ASCII)
_TRAINER_LINE: Final = re.compile(r"\s*([\w./@-]+)\s+=\s+(\S+)\s*", re.ASCII)
_TRAINER_DECIMALS: Final = 4
_PLAIN_HEAD: Final = re.compile(r"-{3,}\s*")
_PLAIN_LINE: Final = re.compile(rf"\s*([A-Za-z_][\w./@-]*)(?:\s*:|\s*=)\s*({NUMBER})\s?({UNIT})?[,;]?\s*", re.ASCII)
_METRIC: Final = re.compile(rf"(?<![\w./@-])([A-Za-z_][\w./@-]{{0,80}})=({NUMBER})({UNIT})?(?=\s|$)", re.ASCII)
_STEP_KEYS: Final = ("step", "global_step", "iteration", "iter", "num_steps")
_MISSES: Final = 1
"""Lines of something else that may be printed into a block of the Trainer."""


class Block:
    """Figures that belong together, for as long as lines of their kind come."""

    def __init__(self, kind: str, at_seconds: float, *, is_marked: bool) -> None:
        self.kind = kind
        self.at_seconds = at_seconds
        self._is_marked = is_marked
        self._numbers: dict[str, Number] = {}
        self._misses = 0

    def take(self, numbers: Mapping[str, Number], at_seconds: float) -> bool:
        """Add figures; False where one of them is there already, so that they belong to the next block."""
        if not self._numbers.keys().isdisjoint(numbers):
            return False
        self._numbers.update(numbers)
        self.at_seconds, self._misses = at_seconds, 0
        return True

    def miss(self) -> bool:
        """Take note of a line that is none of its own; say whether the block is over."""
        self._misses += 1
        return self.kind != "trainer" or self._misses > _MISSES

    def found(self) -> Found | None:
        """Return what it held; None for figures of which none is a metric, such as a config that was printed."""
        numbers = dict(self._numbers)
        if not numbers or not (self._is_marked or any(map(is_metric, numbers))):
            return None
        step = None
        for key in _STEP_KEYS:
            if key in numbers and math.isfinite(numbers[key].value) and numbers[key].value.is_integer():
                step = int(numbers.pop(key).value)
                break
        return Found(source=self.kind, numbers=numbers, step=step) if numbers else None


def trainer_head(line: str) -> bool:
    """Say whether a line opens the Trainer's block: `***** eval metrics *****`."""
    return "*** " in line and _TRAINER_HEAD.fullmatch(line) is not None


def plain_head(line: str) -> bool:
    """Say whether a line is the `---` that opens a block of keys and values."""
    return line.startswith("---") and _PLAIN_HEAD.fullmatch(line) is not None


def trainer_line(line: str) -> dict[str, Number] | None:
    """Read a line of the Trainer's block; None for one of something else, empty for a figure that is no number."""
    match = _TRAINER_LINE.fullmatch(line)
    if match is None:
        return None
    number = parse_clock(match[2]) or parse_number(match[2])
    if number is None:
        return {}
    if number.decimals is not None:  # a whole number is a count, everything else was rounded to four digits
        is_count = number.decimals == 0 and "." not in match[2]
        number = Number(number.value, None if is_count else max(number.decimals, _TRAINER_DECIMALS))
        if ":" in match[2]:
            number = Number(number.value, 1)  # its hundredths are cut off, not rounded
    return {metric_name(match[1]): number}


def plain_line(line: str) -> dict[str, Number] | None:
    """Read a line that is a key and a value and nothing else; None for any other."""
    match = _PLAIN_LINE.fullmatch(line) or _PLAIN_LINE.fullmatch(without_logger(line))
    if match is None or (number := parse_number(match[2])) is None:
        return None
    name, number = in_unit(match[1], number, match[3])
    return {name: number}


def metric_line(line: str) -> dict[str, Number] | None:
    """Read `METRIC name=value`, which may have several; None for any other line. Whole numbers are counts."""
    at = line.find("METRIC ")
    if at < 0 or (at and line[at - 1].isalnum()):
        return None
    numbers = {}
    for name, text, unit in _METRIC.findall(line, at + len("METRIC")):
        number = parse_number(text)
        if number is not None:
            number = Number(number.value) if text.lstrip("+-").isdigit() else number
            name, number = in_unit(name, number, unit)
            numbers[name] = number
    return numbers or None
