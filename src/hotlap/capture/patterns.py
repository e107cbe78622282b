"""Metrics by a user's own regular expressions, each with one group around the number."""

import re
from collections.abc import Mapping
from typing import Final

from hotlap.capture.printed import Number, parse_number
from hotlap.capture.reading import Found
from hotlap.core.errors import ConfigError

STEP: Final = "step"


class Patterns:
    """The expressions of a config; the one called `step` says at which step all that follows was."""

    def __init__(self, expressions: Mapping[str, str]) -> None:
        """Compile them; raises ConfigError for one that is none, or has not one group."""
        compiled = {name: _compiled(name, text) for name, text in expressions.items()}
        self._step_pattern = compiled.pop(STEP, None)
        self._metrics = tuple(compiled.items())
        self._step: int | None = None

    @property
    def names(self) -> frozenset[str]:
        """The metrics that have an expression."""
        return frozenset(name for name, _ in self._metrics)

    @property
    def is_empty(self) -> bool:
        """Whether there is none."""
        return not self._metrics and self._step_pattern is None

    def find(self, line: str) -> Found | None:
        """Return the metrics of a line; None without any."""
        is_step_told = False
        if self._step_pattern is not None and (match := self._step_pattern.search(line)):
            step = parse_number((match[1] or "").strip())
            if step is not None and step.value.is_integer():
                self._step, is_step_told = int(step.value), True
        numbers: dict[str, Number] = {}
        for name, pattern in self._metrics:
            match = pattern.search(line)
            if match is not None and (number := parse_number((match[1] or "").strip())) is not None:
                numbers[name] = number
        found = Found(source="expression", numbers=numbers, step=self._step, is_step_told=is_step_told)
        return found if numbers else None


def _compiled(name: str, text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"command.metrics.{name}: {text!r} is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise ConfigError(
            f"command.metrics.{name}: {text!r} has {pattern.groups} groups; write one, around the number, and (?:…) "
            "for others"
        )
    return pattern
