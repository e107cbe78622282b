"""Decides what becomes a reading: what was told twice, by another process, with fewer digits, or against itself."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hotlap.capture.printed import Number, ended
from hotlap.capture.reading import CLOCK, Found, Reading

MAX_METRICS: Final = 2000
"""Names that are kept; a log that goes on inventing names may not fill the memory."""
_REMEMBERED: Final = 5000
"""Printed readings that wait for a file that tells the same with all digits."""
_CLOCKS: Final = {
    "modded_nanogpt": "train_time_seconds",
    "nanochat": "total_time_seconds",
    "block": "training_seconds",
    "log": "train_seconds",
}
"""Figures that are known to be seconds of training so far, by the form of the line."""
_CLOCK_UNITS: Final = {"_ms": 1e-3, "_minutes": 60.0, "_min": 60.0, "_hours": 3600.0}
_POSITION_KEY: Final = "epoch"
Position = tuple[int | None, float | None]


@dataclass(slots=True)
class _Told:
    position: Position
    number: Number
    rank: int | None
    is_last_word: bool
    is_certain: bool
    """Whether the step stands in the line itself: without that nobody can tell whether two lines are of one step."""


@dataclass(slots=True)
class _Printed:
    numbers: dict[str, Number]
    at_seconds: float
    clock: Number | None


class Ledger:
    """Remembers what was read, as far as it is needed to judge what comes.

    A metric that was told twice for one step, with different values, is in doubt from then on: several processes seem
    to print their own ones.
    """

    def __init__(self, clock_key: str | None = None, own_names: frozenset[str] = frozenset()) -> None:
        self._clock_key = clock_key
        self._own_names = own_names
        self._told: dict[str, _Told] = {}
        self._doubts: dict[str, str] = {}
        self._last_words: set[str] = set()
        self._ranks: dict[str, int] = {}
        self._clock: tuple[Position, Number] | None = None
        self._printed: deque[_Printed] = deque(maxlen=_REMEMBERED)

    def reading(self, found: Found, rank: int | None, at_seconds: float | None) -> Reading | None:
        """Return the reading that something found amounts to; None for what is known already.

        `at_seconds` is None for what a file told.
        """
        epoch = found.numbers.get(_POSITION_KEY)
        position: Position = found.step, epoch.value if epoch is not None else None
        is_certain = found.step is not None and found.is_step_told
        kept: dict[str, Number] = {}
        for name, number in found.numbers.items():
            told = _Told(position, number, rank, found.is_last_word, is_certain)
            if self._is_wanted(name, found, rank) and self._is_new(name, told):
                kept[name] = number
        if not kept.keys() - {_POSITION_KEY}:
            return None
        doubts = {name: self._doubts[name] for name in kept if name in self._doubts}
        clock = self._clock_of(found, position, doubts)
        if at_seconds is not None:
            if found.source == "trainer" or any(number.decimals is not None for number in kept.values()):
                self._printed.append(_Printed(kept, at_seconds, clock))
        elif printed := self._printed_before(kept):
            kept = {name: number for name, number in kept.items() if _says_more(number, printed.numbers.get(name))}
            if not kept.keys() - {_POSITION_KEY}:
                return None
            at_seconds, clock = printed.at_seconds, clock or printed.clock
        decimals = {name: number.decimals for name, number in kept.items() if number.decimals is not None}
        if clock is not None and clock.decimals is not None:
            decimals[CLOCK] = clock.decimals
        return Reading(
            step=found.step,
            metrics={name: number.value for name, number in kept.items()},
            clock_seconds=clock.value if clock is not None else None,
            decimals=decimals,
            source=found.source,
            at_seconds=at_seconds,
            unix_seconds=found.unix_seconds,
            doubts=doubts,
        )

    def _is_wanted(self, name: str, found: Found, rank: int | None) -> bool:
        """Say whether a metric is to be taken from here: from the best source, and the first of the processes."""
        if name not in self._told and len(self._told) >= MAX_METRICS:
            return False
        if name in self._own_names and found.source != "expression":
            return False
        if found.is_last_word:
            self._last_words.add(name)
        elif name in self._last_words:
            return False
        if rank is not None and rank > self._ranks.setdefault(name, rank):
            return False
        if rank is not None:
            self._ranks[name] = rank
        return True

    def _is_new(self, name: str, told: _Told) -> bool:
        """Say whether a figure says more than what was told of its metric at this step before."""
        before = self._told.get(name)
        self._told[name] = told
        if name == _POSITION_KEY or before is None or not _is_same_place(before.position, told.position):
            return True
        if before.rank != told.rank or before.is_last_word != told.is_last_word:
            return True  # the lower one of two processes, or the better source: it is believed
        if is_compatible(before.number, told.number):
            has_more = _digits(told.number) > _digits(before.number)
            if not has_more:
                self._told[name] = before
            return has_more
        if before.is_certain and told.is_certain:
            values = f"{before.number.value:g} and as {told.number.value:g}"
            self._doubts[name] = f"told twice for step {told.position[0]}, as {values}"
        return True

    def _clock_of(self, found: Found, position: Position, doubts: dict[str, str]) -> Number | None:
        """Return the command's own clock at a reading: what it says, or what it said at most one step before."""
        number = self._own_clock(found)
        if number is None:
            if self._clock is None:
                return None
            (last_step, _), last = self._clock
            is_near = last_step is not None and found.step is not None and 0 <= found.step - last_step <= 1
            return last if is_near else None
        if not math.isfinite(number.value):
            return None
        if self._clock is not None and number.value < self._clock[1].value - _half(number) - _half(self._clock[1]):
            doubts[CLOCK] = f"the clock went back from {self._clock[1].value:g} s to {number.value:g} s"
            return None
        self._clock = position, number
        return number

    def _own_clock(self, found: Found) -> Number | None:
        if self._clock_key is None:
            return found.numbers.get(_CLOCKS.get(found.source, ""))
        number = found.numbers.get(self._clock_key)
        if number is None:
            return found.numbers.get(ended(self._clock_key, "seconds"))
        factor = next((value for end, value in _CLOCK_UNITS.items() if self._clock_key.endswith(end)), None)
        return number.times(factor) if factor is not None else number

    def _printed_before(self, numbers: Mapping[str, Number]) -> _Printed | None:
        """Return the first printed reading that a file tells again, and forget it; None for what was not printed."""
        for index, printed in enumerate(self._printed):
            shared = printed.numbers.keys() & numbers.keys() - {_POSITION_KEY}
            if shared and all(is_compatible(printed.numbers[name], numbers[name]) for name in shared):
                del self._printed[index]
                return printed
        return None


def is_compatible(one: Number, other: Number) -> bool:
    """Say whether two figures may be the same number, each with the digits that it was printed with."""
    if not math.isfinite(one.value) or not math.isfinite(other.value):
        return str(one.value) == str(other.value)
    margin = _half(one) + _half(other) + 1e-9 * max(abs(one.value), abs(other.value))
    return abs(one.value - other.value) <= margin


def _says_more(number: Number, before: Number | None) -> bool:
    return before is None or _digits(number) > _digits(before)


def _half(number: Number) -> float:
    return 0.5 * 10.0**-number.decimals if number.decimals is not None else 0.0


def _digits(number: Number) -> float:
    return math.inf if number.decimals is None else number.decimals


def _is_same_place(one: Position, other: Position) -> bool:
    return one[0] == other[0] and one != (None, None) and (one[0] is not None or one[1] == other[1])
