"""Targets: conditions on metrics, such as `eval_loss < 0.76`.

A list of targets holds when all of them hold at the same evaluation. A metric that is missing or not a number
never passes.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hotlap.core.errors import ConfigError, unknown_name

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_PATTERN = re.compile(r"\s*([A-Za-z_][\w./-]*)\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*")

CHEAP_METRICS: Final = (
    "eval_loss",
    "perplexity",
    "eval_accuracy",
    "eval_byte_accuracy",
    "eval_word_accuracy",
    "bits_per_byte",
)
"""Metrics of one forward pass over the evaluation set."""

GENERATION_METRICS: Final = ("eval_chrf", "eval_sacrebleu", "eval_exact_match")
"""Metrics that need generated text; evaluated only once the cheap targets hold."""

_TASK_FIGURES: Final = ("loss", "accuracy", "byte_accuracy", "word_accuracy")
_TASK_METRIC = re.compile(rf"eval_[A-Za-z]\w*_({'|'.join(_TASK_FIGURES)})")


def task_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Return the metrics that the tasks of a mixture have of their own."""
    return tuple(f"eval_{name}_{figure}" for name in names for figure in _TASK_FIGURES)


def is_task_metric(metric: str) -> bool:
    """Say whether a metric would be that of one task of a mixture, such as `eval_sums_loss`."""
    return metric not in CHEAP_METRICS and _TASK_METRIC.fullmatch(metric) is not None


@dataclass(frozen=True, slots=True)
class Target:
    """One condition on one metric."""

    metric: str
    comparison: str
    value: float

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Say whether the condition holds; a missing or non-finite metric never passes."""
        got = metrics.get(self.metric, math.nan)
        return math.isfinite(got) and _OPERATORS[self.comparison](got, self.value)

    @property
    def is_cheap(self) -> bool:
        """Whether one forward pass decides it (no generation)."""
        return self.metric not in GENERATION_METRICS

    def __str__(self) -> str:
        return f"{self.metric} {self.comparison} {self.value:g}"


def parse_target(text: str, *, is_any_metric: bool = False) -> Target:
    """Read `metric < value`; with `is_any_metric` the metric may be any name, as somebody else's program prints it.

    Raises ConfigError for a malformed condition or a metric that no evaluation produces. Whether a mixture has the task
    that a metric such as `eval_sums_loss` names, its config says.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ConfigError(f"cannot read the target {text!r}; write for example 'eval_loss < 0.76'")
    metric, comparison, value = match.groups()
    known = [*CHEAP_METRICS, *GENERATION_METRICS]
    if not is_any_metric and metric not in known and not is_task_metric(metric):
        raise unknown_name("metric in a target", metric, known)
    try:
        return Target(metric, comparison, float(value))
    except ValueError:
        raise ConfigError(f"cannot read the number {value!r} in the target {text!r}") from None


def main_metric(config: Mapping[str, Any]) -> str:
    """Return the metric whose curves are drawn and compared, from a config's values: eval_loss, of a foreign command
    that of its first target.

    Raises ConfigError for a target that cannot be read.
    """
    targets = config.get("targets") if config.get("command") is not None else ()
    return parse_target(str(targets[0]), is_any_metric=True).metric if targets else "eval_loss"


def all_hold(targets: Iterable[Target], metrics: Mapping[str, float]) -> bool:
    """Say whether every target holds; False when there is none."""
    listed = list(targets)
    return bool(listed) and all(target.holds(metrics) for target in listed)
