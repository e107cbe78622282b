"""A Gaussian process over recipes: what a point would score, and how unsure that is.

Effects on the time to target multiply, so log times are nearly a sum of one curve a coordinate, and the kernel is a sum
of one a coordinate (additive Gaussian processes, arXiv 1112.4394): a few dozen runs then tell what each coordinate
does, also where every run moved several. A weak kernel over all of them together takes up what is no sum.

    model = Surrogate(space, observations, center)
    model.predict(point, group)      # (mean, standard deviation), log seconds
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hotlap.search.space import Point, Space

LENGTH: Final = 0.25
"""Distance over which the effect of a coordinate changes, as a share of its range."""
EFFECT: Final = 0.3
"""Standard deviation of the effect of one coordinate, in logs."""
JOINT_LENGTH: Final = 0.5
JOINT_EFFECT: Final = 0.2
"""The same for what all coordinates do together beyond the sum."""
BOWL: Final = 2.0
"""Log time by which a move of a whole range is expected to be worse, growing with the square: most settings are near
enough to good ones, and nobody knows to which side those lie."""
GROUP_EFFECT: Final = 0.5
"""Standard deviation between recipes that differ in what is no coordinate."""
_STEEP: Final = -1 / (2 * LENGTH**2)
_JOINT_STEEP: Final = -1 / (2 * JOINT_LENGTH**2)


@dataclass(frozen=True, slots=True)
class Observation:
    """A recipe and its score."""

    point: Point
    group: str
    """What is equal where recipes differ in their points only."""
    value: float
    sigma: float
    """How unsure the value is."""


class Surrogate:
    """What the observations (at least one) let expect of other points."""

    def __init__(self, space: Space, observations: Sequence[Observation], center: Point) -> None:
        self._space = space
        self._center = space.positions(center)
        self._seen = [(space.positions(seen.point), seen.group) for seen in observations]
        values = [seen.value - self._bowl(at) for seen, (at, _) in zip(observations, self._seen, strict=True)]
        self._level = math.fsum(values) / len(values)
        rows = [self._shared(position, group, number + 1) for number, (position, group) in enumerate(self._seen)]
        for row, seen in zip(rows, observations, strict=True):
            row[-1] += seen.sigma**2
        self._lower = _cholesky(rows)
        self._weights = _backward(self._lower, _forward(self._lower, [value - self._level for value in values]))

    def predict(self, point: Point, group: str) -> tuple[float, float]:
        """Return mean and standard deviation of the score at a point."""
        position = self._space.positions(point)
        shared = self._shared(position, group, len(self._seen))
        mean = self._level + self._bowl(position) + math.fsum(map(operator.mul, shared, self._weights))
        known = math.fsum(v * v for v in _forward(self._lower, shared))
        prior = EFFECT**2 * len(self._space.dimensions) + JOINT_EFFECT**2 + GROUP_EFFECT**2
        return mean, math.sqrt(max(0.0, prior - known))

    def _bowl(self, position: Sequence[Any]) -> float:
        """Return what a point is expected to lose before anything is known: the farther from the center the more."""
        squares = _squares(position, self._center)
        return BOWL * sum(
            min(square, LENGTH**2) if isinstance(a, str) else square
            for a, square in zip(position, squares, strict=True)
        )

    def _shared(self, position: Sequence[Any], group: str, first: int) -> list[float]:
        """Return the covariances with the first so many observations."""
        found = []
        for other, other_group in self._seen[:first]:
            squares = _squares(position, other)
            effects = sum([math.exp(_STEEP * square) for square in squares])
            joint = math.exp(_JOINT_STEEP * sum(squares))
            together = EFFECT**2 * effects + JOINT_EFFECT**2 * joint
            found.append(together + GROUP_EFFECT**2 if group == other_group else together)
        return found


def _squares(left: Sequence[Any], right: Sequence[Any]) -> list[float]:
    return [(a - b) ** 2 if isinstance(a, float) else float(a != b) for a, b in zip(left, right, strict=True)]


def expected_improvement(mean: float, deviation: float, best: float) -> float:
    """Return by how much a normal variable lies below `best` in the mean, counting nothing where it does not."""
    if deviation == 0.0:
        return max(0.0, best - mean)
    z = (best - mean) / deviation
    share = 0.5 * math.erfc(-z / math.sqrt(2))
    return deviation * (z * share + math.exp(-z * z / 2) / math.sqrt(2 * math.pi))


def _cholesky(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the lower triangle L with L·Lᵀ = the symmetric matrix whose lower triangle is given."""
    lower: list[list[float]] = []
    for number, row in enumerate(rows):
        done: list[float] = []
        for column in range(number):
            other = lower[column]
            done.append((row[column] - sum(a * b for a, b in zip(done, other, strict=False))) / other[column])
        done.append(math.sqrt(row[number] - math.fsum(a * a for a in done)))
        lower.append(done)
    return lower


def _forward(lower: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Solve L·x = values."""
    found: list[float] = []
    for row, value in zip(lower, values, strict=True):
        found.append((value - sum(a * b for a, b in zip(row, found, strict=False))) / row[-1])
    return found


def _backward(lower: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Solve Lᵀ·x = values."""
    found = list(values)
    for number in reversed(range(len(lower))):
        found[number] /= lower[number][number]
        for column in range(number):
            found[column] -= lower[number][column] * found[number]
    return found
