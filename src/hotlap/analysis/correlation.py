"""What goes with what: rank correlations between all numbers of the runs, and how categories go with numbers.

Rank correlations are Spearman's; their 95 % intervals are Fisher's transformation with the variance of Bonett and
Wright (2000, Psychometrika 65, DOI 10.1007/BF02294183). Censored runs (an infinite measure) share the last rank. How a
category goes with a number is told by eta, the correlation ratio on ranks (its square is the share of the variance of
the ranks that lies between the categories, as in Kruskal and Wallis 1952, DOI 10.1080/01621459.1952.10483441). Eta
grows with the number of categories by chance alone, so it comes with a p from permutations.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hotlap.analysis.table import Column, RunTable

Array = NDArray[np.float64]

INTERVALS: Final = "95 % intervals: Fisher's transformation with the variance of Bonett and Wright (2000)"
LEAST_PAIRS: Final = 10
"""Runs with both values below which nothing is said."""
LEVEL: Final = 0.95
ALPHA: Final = 1 - LEVEL
_PERMUTATIONS: Final = 999
_CERTAIN: Final = 1 - 1e-9
"""Largest correlation that goes into Fisher's transformation, which has no value at 1."""
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """The rank correlation of two numbers, from -1 to 1, with its 95 % interval."""

    names: tuple[str, str]
    rho: float
    low: float
    high: float
    num_runs: int
    is_of_design: bool = False
    """Between two parameters: it tells which points were tried, not what came of them."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval does not hold 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryLink:
    """How much of a number's order the values of a category tell: eta from 0 to 1."""

    category: str
    number: str
    eta: float
    p_value: float
    """Share of the shuffled runs with an eta at least as large."""
    num_runs: int
    is_of_design: bool = False
    """Between two parameters."""

    @property
    def is_clear(self) -> bool:
        """Whether chance alone gives such an eta in less than one case of twenty."""
        return self.p_value < ALPHA


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlations:
    """All of them: numbers with numbers, and categories with numbers."""

    names: tuple[str, ...]
    """The numbers: parameters, measures and, last, the score."""
    matrix: tuple[tuple[float | None, ...], ...]
    """Rank correlation of each number with each; None where it is not known. The diagonal is 1."""
    pairs: tuple[Correlation, ...]
    """Each known pair once, in the order of the names."""
    categories: tuple[CategoryLink, ...]
    source: str = INTERVALS

    @property
    def learned_pairs(self) -> tuple[Correlation, ...]:
        """The pairs that tell of the runs, and not of the points that were tried."""
        return tuple(pair for pair in self.pairs if not pair.is_of_design)

    @property
    def learned_categories(self) -> tuple[CategoryLink, ...]:
        """The same for categories."""
        return tuple(link for link in self.categories if not link.is_of_design)


def correlations(table: RunTable, seed: int) -> Correlations:
    """Return what goes with what; `seed` is that of the permutations."""
    columns = (*table.parameters, *table.measures, table.outcomes())
    chosen = {column.name for column in table.parameters}
    numbers = [column for column in columns if column.kind == "number"]
    names = tuple(column.name for column in numbers)
    pairs = tuple(_correlations(numbers, chosen))
    rhos = {pair.names: pair.rho for pair in pairs}
    matrix = tuple(tuple(1.0 if a == b else rhos.get((a, b), rhos.get((b, a))) for b in names) for a in names)
    generator = np.random.default_rng(seed)
    categories = [column for column in columns if column.kind == "category"]
    links = (_link(category, number, generator, chosen) for category, number in product(categories, numbers))
    found = tuple(link for link in links if link is not None)
    return Correlations(names=names, matrix=matrix, pairs=pairs, categories=found)


def spearman(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the rank correlation of two lists and its 95 % interval; None for a constant or for less than 4 values."""
    if len(first) < 4 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    a, b = (_centered_ranks(values) for values in (first, second))
    rho = float(a @ b / math.sqrt(float(a @ a) * float(b @ b)))
    rho = min(max(rho, -1.0), 1.0)  # rounding
    z = math.atanh(min(max(rho, -_CERTAIN), _CERTAIN))
    error = math.sqrt((1 + rho**2 / 2) / (len(first) - 3))
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    return rho, math.tanh(z - half), math.tanh(z + half)


def _correlations(numbers: Sequence[Column], chosen: Collection[str]) -> Iterator[Correlation]:
    """Yield the correlation of every pair that enough runs have and that is not constant."""
    for a, b in combinations(numbers, 2):
        both = [(x, y) for x, y in zip(a.values, b.values, strict=True) if x is not None and y is not None]
        told = spearman([float(x) for x, _ in both], [float(y) for _, y in both]) if len(both) >= LEAST_PAIRS else None
        if told is not None:
            rho, low, high = told
            is_of_design = a.name in chosen and b.name in chosen
            names = (a.name, b.name)
            yield Correlation(names=names, rho=rho, low=low, high=high, num_runs=len(both), is_of_design=is_of_design)


def _link(
    category: Column, number: Column, generator: np.random.Generator, chosen: Collection[str]
) -> CategoryLink | None:
    """Return how a category goes with a number; None where too few runs have the number or one of the two is constant.

    An absent category is a category of its own.
    """
    both = [(x, float(y)) for x, y in zip(category.values, number.values, strict=True) if y is not None]
    groups, values = [x for x, _ in both], [y for _, y in both]
    if len(both) < LEAST_PAIRS or len(set(groups)) == 1 or len(set(values)) == 1:
        return None
    order = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    marks = np.eye(len(order))[[order[group] for group in groups]]  # (runs, groups)
    ranks = _centered_ranks(values)
    shuffled = generator.permuted(np.tile(ranks, (_PERMUTATIONS, 1)), axis=1)  # (permutations, runs)
    etas = _squared_etas(np.vstack([ranks, shuffled]), marks)
    as_large = int((etas[1:] >= etas[0] - _ROUNDING).sum())
    return CategoryLink(
        category=category.name,
        number=number.name,
        eta=math.sqrt(min(float(etas[0]), 1.0)),
        p_value=(1 + as_large) / (1 + _PERMUTATIONS),
        num_runs=len(both),
        is_of_design=category.name in chosen and number.name in chosen,
    )


def _squared_etas(ranks: Array, marks: Array) -> Array:
    """Return the share of each row's variance that lies between the groups; rows (K, runs) have the mean 0."""
    sums = ranks @ marks  # (K, groups)
    between: Array = (sums**2 / marks.sum(axis=0)).sum(axis=1)
    shares: Array = between / (ranks**2).sum(axis=1)
    return shares


def _centered_ranks(values: Sequence[float]) -> Array:
    """Return ranks with the mean 0; equal values, the infinite ones too, share the mean of their ranks."""
    _, places, counts = np.unique(np.array(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means = last - (counts - 1) / 2
    ranks = means[places.reshape(-1)].astype(np.float64)
    centered: Array = ranks - ranks.mean()
    return centered
