"""Constraints between the settings of a sweep: comparisons of numbers, keys and products of them.

parse_constraint("training.warmup_steps < training.max_steps").holds({"training.warmup_steps": 50, ...})
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hotlap.core.errors import ConfigError

_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_PATTERN = re.compile(r"([^<>=!]+)(<=|>=|==|!=|<|>)([^<>=!]+)")
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_FORM: Final = (
    "write for example 'training.warmup_steps < training.max_steps'; numbers and products (*) may stand there"
)

Factor = str | float
"""A key, or a number."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A comparison of two products."""

    left: tuple[Factor, ...]
    comparison: str
    right: tuple[Factor, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The keys that it speaks of, each once."""
        return tuple(dict.fromkeys(factor for factor in (*self.left, *self.right) if isinstance(factor, str)))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Say whether it holds; it says nothing about settings that have no number, and so holds there."""
        left, right = _product(self.left, values), _product(self.right, values)
        return left is None or right is None or _COMPARISONS[self.comparison](left, right)

    def renamed(self, names: Mapping[str, str]) -> "Constraint":
        """Return the constraint with other names for some of its keys."""

        def renamed(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
            return tuple(names.get(factor, factor) if isinstance(factor, str) else factor for factor in factors)

        return Constraint(renamed(self.left), self.comparison, renamed(self.right))

    def __str__(self) -> str:
        left, right = (
            " * ".join(factor if isinstance(factor, str) else f"{factor:.12g}" for factor in factors)
            for factors in (self.left, self.right)
        )
        return f"{left} {self.comparison} {right}"


def parse_constraint(text: Any) -> Constraint:
    """Read a comparison such as `a * b <= 64`.

    Raises ConfigError with an example when it cannot be read.
    """
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(f"cannot read the constraint {text!r}; {_FORM}")
    left, comparison, right = match.groups()
    constraint = Constraint(_factors(left, text), comparison, _factors(right, text))
    if not constraint.names:
        raise ConfigError(f"the constraint {text!r} speaks of no setting; {_FORM}")
    return constraint


def _factors(side: str, text: str) -> tuple[Factor, ...]:
    return tuple(_factor(part.strip(), text) for part in side.split("*"))


def _factor(word: str, text: str) -> Factor:
    if _NAME.fullmatch(word) and word.lower() not in ("nan", "inf", "infinity"):
        return word
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"cannot read {word!r} in the constraint {text!r}; {_FORM}")
    return number


def _product(factors: tuple[Factor, ...], values: Mapping[str, Any]) -> float | None:
    """Return the product, None where a key has no number."""
    numbers = [values.get(factor) if isinstance(factor, str) else factor for factor in factors]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        return None
    return float(math.prod(number for number in numbers if number is not None))
