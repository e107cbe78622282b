"""One parameter of a sweep: the values that it may take, and the way between values and positions from 0 to 1.

A position is a quantile: positions drawn evenly between 0 and 1 give values with the parameter's distribution, and so
every sampler that knows the unit cube knows every distribution (inverse transform sampling). The names are wandb's.

    rate = SweepParameter(key="training.learning_rate", distribution="log_uniform_values", low=1e-5, high=1e-3)
    rate.value_at(0.5)  ->  1e-4
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

CHOICES: Final = ("constant", "categorical")
BOUNDED: Final = ("int_uniform", "uniform", "q_uniform", "log_uniform_values", "q_log_uniform_values")
SHAPED: Final = ("normal", "q_normal", "log_normal", "q_log_normal", "beta", "q_beta")
"""Distributions that have no bounds of their own, but a centre and a width, or two exponents."""

_END: Final = 1e-6
"""Positions nearer to an end than this are as good as the end, which lies at infinity for a normal distribution."""
_LARGEST_EXPONENT: Final = 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepParameter:
    """What one setting of a sweep may be. Bounds are always values, also where wandb writes their logarithms.

    Raises ValueError, in words for the user, where the figures make no distribution.
    """

    key: str
    """Dotted key of the config; the bare name for a command of somebody else's."""
    distribution: str
    """One of CHOICES, BOUNDED and SHAPED."""
    values: tuple[Any, ...] = ()
    """The choices; one for a constant."""
    probabilities: tuple[float, ...] | None = None
    """Chances of the choices in a random draw; absent: all the same."""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    """Values are multiples of this (wandb's q)."""
    mu: float | None = None
    sigma: float | None = None
    a: float | None = None
    b: float | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Other keys and those of their values with which this parameter exists; empty: it always does."""

    def __post_init__(self) -> None:
        problem = next(self._problems(), None)
        if problem is not None:
            raise ValueError(problem)

    @property
    def is_choice(self) -> bool:
        """Whether the values are listed, so that none lies between two of them."""
        return self.distribution in CHOICES

    @property
    def is_countable(self) -> bool:
        """Whether a grid can go through all values."""
        return self.is_choice or self.distribution in ("int_uniform", "q_uniform")

    @property
    def family(self) -> str:
        """The distribution before its values are rounded to multiples of the step."""
        return self.distribution.removeprefix("q_")

    def exists_in(self, point: Mapping[str, Any]) -> bool:
        """Say whether this parameter exists beside the values that a point has so far."""
        return all(
            key in point and any(is_same(point[key], value) for value in values) for key, values in self.when.items()
        )

    def index_of(self, value: Any) -> int | None:
        """Return which of the choices a value is; None where it is none of them."""
        return next((index for index, choice in enumerate(self.values) if is_same(choice, value)), None)

    def can_be(self, number: float) -> bool:
        """Say whether a number may be among the values; of a distribution without bounds any may."""
        if self.is_choice:
            return self.index_of(number) is not None
        return self.low is None or self.high is None or self.low <= number <= self.high

    def value_at(self, position: float) -> Any:
        """Return the value at a position from 0 to 1; choices lie side by side, as wide as their probabilities."""
        if self.is_choice:
            return self.values[self._index_at(position)]
        if self.distribution == "int_uniform":
            low, high = self._bounds()
            return min(int(high), int(low) + math.floor(position * (high - low + 1)))
        return self._rounded(self._quantile(position))

    def position_of(self, value: float) -> float:
        """Return the position of a number; beyond the bounds that of the bound."""
        if self.family in ("int_uniform", "uniform", "log_uniform_values"):
            low, high = self._bounds()
            bounded = min(max(float(value), low), high)
            if self.family == "int_uniform":
                return (bounded - low + 0.5) / (high - low + 1)
            if self.family == "uniform":
                return (bounded - low) / (high - low)
            return math.log(bounded / low) / math.log(high / low)
        if self.family == "beta":
            return beta_share(float(value), *self._exponents())
        if self.family == "log_normal":
            return self._normal().cdf(math.log(value)) if value > 0 else 0.0
        return self._normal().cdf(float(value))

    def all_values(self) -> Iterable[Any]:
        """Return every value in order, for a parameter that is countable."""
        assert self.is_countable, f"{self.distribution} has no end of values"
        if self.is_choice:
            return self.values
        low, high = self._bounds()
        if self.distribution == "int_uniform":
            return range(int(low), int(high) + 1)
        first, last = self._multiples()
        return (self._multiple(number) for number in range(int(first), int(last) + 1))

    def likely_values(self) -> Iterable[Any]:
        """Return every value that may be drawn, for a parameter that is countable: choices with no chance left out."""
        if self.probabilities is None:
            return self.all_values()
        return tuple(value for value, chance in zip(self.values, self.probabilities, strict=True) if chance > 0)

    def typical_values(self) -> tuple[Any, ...]:
        """Return values that stand for all: every choice, else near both ends and one from between."""
        if self.is_choice:
            return self.values
        ends = (0.0, 1.0) if self.distribution in BOUNDED else (0.02, 0.98)
        return tuple(self.value_at(position) for position in (ends[0], 0.382, ends[1]))

    def _problems(self) -> Iterator[str]:
        if self.is_choice:
            yield from self._choice_problems()
        elif self.distribution in BOUNDED:
            yield from self._bound_problems()
        elif self.distribution in SHAPED:
            yield from self._shape_problems()
        else:
            yield f"{self.distribution!r} is no distribution"
        if self.distribution.startswith("q_"):
            if self.step is None or not self.step > 0:
                yield f"q is above 0, got {self.step}"
            elif self.low is not None:
                first, last = self._multiples()
                if first > last:
                    yield f"no multiple of q {self.step:g} lies between min {self.low:g} and max {self.high:g}"

    def _choice_problems(self) -> Iterator[str]:
        if not self.values:
            yield "values needs at least one value"
        if any(self.index_of(value) != index for index, value in enumerate(self.values)):
            yield f"the values have to differ, got {list(self.values)}"
        chances = self.probabilities
        if chances is None:
            return
        if len(chances) != len(self.values):
            yield f"probabilities has to be as long as values, got {len(chances)} for {len(self.values)}"
        if any(not chance >= 0 for chance in chances) or not math.isclose(math.fsum(chances), 1.0, abs_tol=1e-6):
            yield f"probabilities are from 0 up and add up to 1, got {list(chances)}"

    def _bound_problems(self) -> Iterator[str]:
        if self.low is None or self.high is None:
            yield f"{self.distribution} needs min and max"
            return
        if not self.low < self.high:
            yield f"min {self.low:g} has to lie below max {self.high:g}; for one value write value: {self.low:g}"
        if self.family == "int_uniform" and not (float(self.low).is_integer() and float(self.high).is_integer()):
            yield f"int_uniform needs whole bounds, got {self.low:g} and {self.high:g}"
        if self.family == "log_uniform_values" and self.low <= 0:
            yield f"a logarithmic scale needs min above 0, got {self.low:g}"

    def _shape_problems(self) -> Iterator[str]:
        if self.family == "beta":
            if not all(exponent is not None and exponent > 0 for exponent in (self.a, self.b)):
                yield f"a and b are above 0, got {self.a} and {self.b}"
        elif self.mu is None or self.sigma is None or not self.sigma > 0:
            yield f"{self.distribution} needs mu, and sigma above 0, got {self.mu} and {self.sigma}"
        elif self.family == "log_normal" and abs(self.mu) + 5 * self.sigma > _LARGEST_EXPONENT:
            yield f"mu {self.mu:g} and sigma {self.sigma:g} are of the logarithm; such values are too large"

    def _bounds(self) -> tuple[float, float]:
        assert self.low is not None and self.high is not None
        return self.low, self.high

    def _exponents(self) -> tuple[float, float]:
        assert self.a is not None and self.b is not None
        return self.a, self.b

    def _normal(self) -> NormalDist:
        assert self.mu is not None and self.sigma is not None
        return NormalDist(self.mu, self.sigma)

    def _index_at(self, position: float) -> int:
        chances = self.probabilities or [1 / len(self.values)] * len(self.values)
        passed = 0.0
        for index, chance in enumerate(chances):
            passed += chance
            if position < passed:
                return index
        return max(index for index, chance in enumerate(chances) if chance > 0)

    def _quantile(self, position: float) -> float:
        if self.family == "beta":
            return beta_quantile(position, *self._exponents())
        if self.distribution in SHAPED:
            number = self._normal().inv_cdf(min(max(position, _END), 1 - _END))
            return math.exp(number) if self.family == "log_normal" else number
        low, high = self._bounds()
        if self.family == "uniform":
            return low + position * (high - low)
        return float(min(max(low * (high / low) ** position, low), high))

    def _rounded(self, value: float) -> float:
        if self.step is None:
            return value
        number = round(value / self.step)
        if self.low is not None:
            first, last = self._multiples()
            number = int(min(max(number, first), last))
        return self._multiple(number)

    def _multiple(self, number: int) -> float:
        """Return a multiple of the step without the dust of floating point; a whole number of whole steps is an int."""
        assert self.step is not None
        if float(self.step).is_integer():
            return number * int(self.step)
        return float(f"{number * self.step:.12g}")

    def _multiples(self) -> tuple[int, int]:
        """Return the first and the last multiple of the step within the bounds."""
        assert self.step is not None
        low, high = self._bounds()
        return math.ceil(low / self.step - 1e-9), math.floor(high / self.step + 1e-9)


def is_same(left: Any, right: Any) -> bool:
    """Say whether two values are the same to a config: 1 and 1.0 are, 1 and true are not."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def beta_share(value: float, a: float, b: float) -> float:
    """Return the share of a beta distribution that lies below a value (the regularised incomplete beta function).

    By the continued fraction of DLMF 8.17.22, from its end, on the side of the mean where it converges fast.
    """
    if not 0 < value < 1:
        return float(value >= 1)
    is_upper = value > (a + 1) / (a + b + 2)
    x = 1 - value if is_upper else value
    if is_upper:
        a, b = b, a
    tail = 0.0
    for m in range(50 + int(5 * math.sqrt(max(a, b))), -1, -1):
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        tail = odd / (1 + tail)
        if m:
            even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
            tail = even / (1 + tail)
    log_front = a * math.log(x) + b * math.log1p(-x) - math.lgamma(a) - math.lgamma(b) + math.lgamma(a + b)
    share = math.exp(log_front) / (a * (1 + tail))
    return min(max(1 - share if is_upper else share, 0.0), 1.0)


def beta_quantile(position: float, a: float, b: float) -> float:
    """Return the value below which a share of a beta distribution lies, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if beta_share(middle, a, b) < position:
            low = middle
        else:
            high = middle
    return (low + high) / 2
