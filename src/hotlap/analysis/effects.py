"""How the score goes along each parameter, from the runs themselves, and what the best run changed.

A number that many runs share a value of is looked at value by value, another one in bins with equally many runs, a
category value by value. Shown is the median score with its interval from order statistics, which asks nothing of the
scores but that runs are independent (David and Nagaraja, Order Statistics, 3rd edition, 2003, section 7.1). The other
parameters vary along with it: this is what was seen, not what a model says.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Final

from hotlap.analysis.table import Column, Kind, RunTable, varying_keys

LEVEL: Final = 0.9
"""Least chance that an interval holds the median."""
MOST_VALUES: Final = 8
"""Values of a number that are still looked at one by one."""
MOST_BINS: Final = 5
RUNS_PER_BIN: Final = 5
"""The fewest runs whose median has an interval."""
ABSENT: Final = "none"
"""Label of the runs that do not have the parameter."""

_Group = tuple[str, float | None, float | None, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The runs with one value of a parameter, or with values from `low` to `high`."""

    label: str
    low: float | None
    """The least number among them; None for a category and for runs without the parameter."""
    high: float | None
    num_runs: int
    median: float
    """Of the scores; lower is better."""
    interval: tuple[float, float] | None
    """The 90 % interval of the median; None for fewer than five runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How the score goes along one parameter."""

    parameter: str
    kind: Kind
    is_log: bool
    levels: tuple[Level, ...]
    """Numbers from low to high, categories by name; last the runs without the parameter."""

    @property
    def best(self) -> Level:
        """The level with the best median, of those that have an interval where any has."""
        return min(self._telling, key=lambda level: level.median)

    @property
    def worst(self) -> Level:
        """The level with the worst median, of those that have an interval where any has."""
        return max(self._telling, key=lambda level: level.median)

    @property
    def _telling(self) -> Sequence[Level]:
        return [level for level in self.levels if level.interval is not None] or self.levels

    @property
    def is_visible(self) -> bool:
        """Whether the intervals of the best and of the worst level do not meet."""
        best, worst = self.best.interval, self.worst.interval
        return best is not None and worst is not None and best[1] < worst[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One key in which the best config is not the baseline's."""

    key: str
    baseline: Any
    """None where the baseline has no such key; the same for `best`."""
    best: Any


def marginal_effects(table: RunTable) -> tuple[Effect, ...]:
    """Return how the score goes along each parameter, in the order of the table; a table without runs has none."""
    if not table.scores:
        return ()
    return tuple(
        Effect(
            parameter=column.name,
            kind=column.kind,
            is_log=column.is_log,
            levels=tuple(_level(*group) for group in _groups(column, table.scores)),
        )
        for column in table.parameters
    )


def config_difference(
    baseline: Mapping[str, Any], best: Mapping[str, Any], keys: Sequence[str] | None = None
) -> tuple[Difference, ...]:
    """Return what the best config changes, by dotted key: of `keys`, else of all that are not the measurement's."""
    found = varying_keys([baseline, best], keys)
    return tuple(Difference(key=key, baseline=old, best=new) for key, (old, new) in found.items())


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the narrowest interval between two order statistics that holds the median with a chance of 90 %.

    None for fewer than five values: their least and greatest do not hold it as often.
    """
    count, chance, rank = len(values), 0.0, 0
    while rank < count:
        chance += 2 * _binomial(rank, count)  # of a median beyond this order statistic, on either side
        if chance > 1 - LEVEL:
            break
        rank += 1
    ordered = sorted(values)
    return (ordered[rank - 1], ordered[count - rank]) if rank else None


def _binomial(heads: int, throws: int) -> float:
    """Return the chance of so many heads of a fair coin; by logarithms, since the factors leave what floats hold."""
    ways = math.lgamma(throws + 1) - math.lgamma(heads + 1) - math.lgamma(throws - heads + 1)
    return math.exp(ways - throws * math.log(2))


def _groups(column: Column, scores: Sequence[float]) -> list[_Group]:
    """Return label, lowest and highest number, and scores of each group of runs."""
    pairs = list(zip(column.values, scores, strict=True))
    groups = _number_groups(column.numbers(), pairs) if column.kind == "number" else _category_groups(column, pairs)
    if absent := [score for value, score in pairs if value is None]:
        groups.append((ABSENT, None, None, absent))
    return groups


def _category_groups(column: Column, pairs: Sequence[tuple[Any, float]]) -> list[_Group]:
    names = sorted(set(column.names()))
    return [(name, None, None, [score for value, score in pairs if value == name]) for name in names]


def _number_groups(numbers: Sequence[float], pairs: Sequence[tuple[Any, float]]) -> list[_Group]:
    bin_of = _bins(numbers)
    members: dict[int, list[tuple[float, float]]] = {}
    for value, score in sorted((value, score) for value, score in pairs if value is not None):
        members.setdefault(bin_of(value), []).append((value, score))
    return [
        (_range_text(inside[0][0], inside[-1][0]), inside[0][0], inside[-1][0], [score for _, score in inside])
        for inside in members.values()
    ]


def _bins(numbers: Sequence[float]) -> Callable[[float], int]:
    """Return which bin a number falls into: one for each value, or at most five with equally many runs."""
    distinct = sorted(set(numbers))
    is_repeated = 2 * len(distinct) <= len(numbers)
    if len(distinct) <= MOST_VALUES and (is_repeated or len(numbers) < 2 * RUNS_PER_BIN):
        cuts = distinct
    else:
        count = max(2, min(MOST_BINS, len(numbers) // RUNS_PER_BIN))
        cuts = quantiles(numbers, n=count, method="inclusive")
    return lambda value: bisect_left(cuts, value)


def _range_text(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _level(label: str, low: float | None, high: float | None, scores: Sequence[float]) -> Level:
    return Level(
        label=label,
        low=low,
        high=high,
        num_runs=len(scores),
        median=median(scores),
        interval=median_interval(scores),
    )
