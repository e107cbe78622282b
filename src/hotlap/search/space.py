"""Search spaces as plain data: what may vary, within which bounds, and where an expert would look first.

A point is a mapping from names to values. Nothing here knows what the names stand for.

    space = Space((Number(name="rate", low=1e-4, high=1, is_log=True), Choice(name="optim", values=("adamw", "muon"))))
    space.sample_prior(random.Random(0))
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Point = Mapping[str, Any]

MUTATION_STEP: Final = 0.12
"""Standard deviation of a mutation, as a share of a number's range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number between two bounds, on a straight or on a logarithmic scale."""

    name: str
    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False
    prior: float | None = None
    """Where an expert would start; absent: the middle of the scale."""
    spread: float = 0.2
    """Standard deviation of the expert's guess, as a share of the range."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self.name} needs finite bounds low < high, got {self.low} and {self.high}")
        if self.is_whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError(f"{self.name} is whole and needs whole bounds, got {self.low} and {self.high}")
        if self.is_log and self.low <= 0:
            raise ValueError(f"{self.name} is on a logarithmic scale and needs low > 0, got {self.low}")

    def clip(self, value: Any) -> float:
        """Return the value within the bounds, whole where it has to be."""
        bounded = min(max(float(value), self.low), self.high)
        return float(round(bounded)) if self.is_whole else bounded

    def position(self, value: Any) -> float:
        """Return where a value lies on the scale: 0 at the lower bound, 1 at the upper one."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(min(max(float(value), self.low), self.high)) - low) / (high - low)

    def value_at(self, position: float) -> float:
        """Return the value at a position on the scale; positions beyond the bounds are reflected into them."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        scaled = low + _reflect(position) * (high - low)
        return self.clip(math.exp(scaled) if self.is_log else scaled)

    def sample_prior(self, generator: random.Random, width: float) -> float:
        """Draw around the expert's guess; `width` multiplies its spread."""
        center = 0.5 if self.prior is None else self.position(self.prior)
        return self.value_at(generator.gauss(center, width * self.spread))

    def mutate(self, value: Any, generator: random.Random, width: float) -> float:
        """Draw near a value; `width` multiplies the step."""
        return self.value_at(generator.gauss(self.position(value), width * MUTATION_STEP))

    def difference(self, left: Any, right: Any) -> float:
        """Return how far two values are apart, as a share of the range."""
        return abs(self.position(left) - self.position(right))

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several values without an order."""

    name: str
    values: tuple[Any, ...]
    prior: Any = None
    """The expert's choice; one that is not among the values favours none."""
    confidence: float = 0.6
    """Chance that a draw from the prior is the expert's choice."""

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise ValueError(f"{self.name} needs distinct values, got {self.values}")

    def clip(self, value: Any) -> Any:
        """Return the value where it is a choice, else the first one."""
        return value if value in self.values else self.values[0]

    def sample_prior(self, generator: random.Random, width: float) -> Any:
        """Draw a value; the expert's is more likely than the others, less so with a large `width`."""
        if self.prior in self.values and generator.random() < self.confidence / max(1.0, width):
            return self.prior
        return generator.choice(self.values)

    def mutate(self, value: Any, generator: random.Random, width: float) -> Any:
        """Draw any value."""
        return generator.choice(self.values)

    def difference(self, left: Any, right: Any) -> float:
        """Return 0 for equal values and 1 for others."""
        return float(left != right)


Dimension = Number | Choice


@dataclass(frozen=True, slots=True)
class Space:
    """What may vary."""

    dimensions: tuple[Dimension, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the dimensions, in their order."""
        return tuple(dimension.name for dimension in self.dimensions)

    def clip(self, point: Point) -> dict[str, Any]:
        """Return the point within the bounds, without names that do not belong to the space."""
        return {dimension.name: dimension.clip(point[dimension.name]) for dimension in self.dimensions}

    def sample_prior(self, generator: random.Random, width: float = 1.0) -> dict[str, Any]:
        """Draw a point around the expert's guesses; `width` multiplies their spread."""
        return {dimension.name: dimension.sample_prior(generator, width) for dimension in self.dimensions}

    def mutate(self, point: Point, generator: random.Random, share: float, width: float = 1.0) -> dict[str, Any]:
        """Draw near a point: each dimension moves with the chance `share`, and at least one does."""
        moves = [generator.random() < share for _ in self.dimensions]
        moves[generator.randrange(len(moves))] = True
        return {
            dimension.name: dimension.mutate(point[dimension.name], generator, width) if moved else value
            for dimension, moved in zip(self.dimensions, moves, strict=True)
            for value in [dimension.clip(point[dimension.name])]
        }

    def cross(self, point: Point, other: Point, generator: random.Random, share: float) -> dict[str, Any]:
        """Return the point with some dimensions of another one: each with the chance `share`, and at least one."""
        taken = [generator.random() < share for _ in self.dimensions]
        taken[generator.randrange(len(taken))] = True
        return {
            d.name: d.clip((other if of_other else point)[d.name])
            for d, of_other in zip(self.dimensions, taken, strict=True)
        }

    def positions(self, point: Point) -> tuple[Any, ...]:
        """Return where a point lies in each dimension: a share of a number's range, or the choice itself."""
        return tuple(d.position(point[d.name]) if isinstance(d, Number) else point[d.name] for d in self.dimensions)

    def distance(self, left: Point, right: Point) -> float:
        """Return the Euclidean distance of two points, each dimension scaled to 0 to 1."""
        return math.hypot(*(d.difference(left[d.name], right[d.name]) for d in self.dimensions))

    def is_near(self, left: Point, right: Point, tolerance: float) -> bool:
        """Say whether no dimension differs by more than a share of its range."""
        return all(d.difference(left[d.name], right[d.name]) <= tolerance for d in self.dimensions)


def _reflect(position: float) -> float:
    """Return a position between 0 and 1: what goes over a bound comes back, so that bounds draw no crowd."""
    folded = position % 2.0
    return 2.0 - folded if folded > 1.0 else folded
