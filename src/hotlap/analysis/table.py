"""Runs as a table: one row a run, one column a parameter or a measure, and one score a run.

    scores = metric_scores(runs, "eval_loss", "minimize")
    table = run_table(runs, scores, keys=[parameter.key for parameter in sweep.parameters])

Everything else in `analysis` works on such a table and returns plain numbers and strings.
"""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from hotlap.config.schema import PROTOCOL_KEYS
from hotlap.core.errors import ConfigError, unknown_name
from hotlap.core.records import RunRecord
from hotlap.core.scores import FAILED_SPREADS, FAILURES, TIME_TO_TARGET
from hotlap.runs.rows import StoredRun
from hotlap.runs.views import config_differences, flatten

Kind = Literal["number", "category"]
AnyRun = RunRecord | StoredRun
Conditions = Mapping[str, Mapping[str, tuple[Any, ...]]]

LOG_SECONDS: Final = "log_seconds_to_target"
"""The score by the time to target, in which a miss has its place, too."""
MEASURES: Final = ("grad_norm", "train_loss", "eval_loss", "tokens_per_second", TIME_TO_TARGET)
LOG_RATIO: Final = 30.0
"""Positive numbers whose largest is at least so many times the least are looked at on a logarithmic scale."""
_NO_OUTCOMES: Final = ("running", "lost", "interrupted")
"""Outcomes that say nothing about the config."""
_NAMED_RUNS: Final = 10
"""Runs from which on a text that is never the same twice is taken for a name."""


@dataclass(frozen=True, slots=True)
class Column:
    """One parameter or one measure, with a value for each run."""

    name: str
    """Dotted config key of a parameter, name of a measure."""
    kind: Kind
    values: tuple[float | str | None, ...]
    """Numbers or names. None where a run has none (a parameter that its other settings leave out); an infinite measure
    is censored and ranks behind every other one."""
    is_log: bool = False
    """Whether a number is looked at on a logarithmic scale."""

    def __post_init__(self) -> None:
        known = [value for value in self.values if value is not None]
        is_right = _is_number if self.kind == "number" else _is_name
        if wrong := [value for value in known if not is_right(value)]:
            raise ValueError(f"column {self.name} holds a {self.kind} a run, got {wrong[0]!r}")
        if self.is_log and (self.kind == "category" or min(self.numbers(), default=1.0) <= 0):
            raise ValueError(f"column {self.name} is on a logarithmic scale and needs numbers above 0")

    def numbers(self) -> list[float]:
        """Return the numbers that are there, in the order of the runs."""
        return [float(value) for value in self.values if isinstance(value, int | float)]

    def names(self) -> list[str]:
        """Return the names that are there, in the order of the runs."""
        return [value for value in self.values if isinstance(value, str)]


@dataclass(frozen=True, slots=True)
class Scores:
    """What runs are worth, by run id."""

    name: str
    values: Mapping[str, float]
    """Finite; lower is better."""
    imputed: Collection[str] = ()
    """Runs whose score was not measured."""


@dataclass(frozen=True, slots=True)
class RunTable:
    """Runs with their parameters, measures and scores."""

    run_ids: tuple[str, ...]
    parameters: tuple[Column, ...]
    """What was varied; numbers are finite."""
    measures: tuple[Column, ...]
    """What was measured besides the score."""
    scores: tuple[float, ...]
    """What each run is worth; lower is better. Finite, also for runs that failed or were stopped."""
    score_name: str
    """Begins with a minus where the scores are a metric of which more is better, with its sign turned."""
    imputed: tuple[str, ...] = ()
    """Runs whose score was not measured: they failed or missed, and count as worse than those that did not."""

    def __post_init__(self) -> None:
        columns = (*self.parameters, *self.measures)
        lengths = {len(self.run_ids), len(self.scores), *(len(column.values) for column in columns)}
        if len(lengths) > 1:
            raise ValueError(f"a table has one value a run in every column, got {sorted(lengths)} values")
        if twice := [name for name, count in Counter(self.names).items() if count > 1]:
            raise ValueError(f"a table has each column once, got {twice[0]!r} twice")
        if not all(map(math.isfinite, self.scores)):
            raise ValueError("a table has a finite score for every run; give failed runs a bad one")
        if unknown := set(self.imputed).difference(self.run_ids):
            raise ValueError(f"{min(unknown)} is no run of the table")
        if wrong := [c.name for c in self.parameters if not all(map(math.isfinite, c.numbers()))]:
            raise ValueError(f"parameters are finite, got an infinite {wrong[0]}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, of the measures and of the score, in this order."""
        return (*(column.name for column in (*self.parameters, *self.measures)), self.metric)

    @property
    def metric(self) -> str:
        """What was measured, in its own sign."""
        return self.score_name.removeprefix("-")

    def measured(self, score: float) -> float:
        """Return a score as it was measured, with the sign of the metric."""
        return -score if self.score_name.startswith("-") else score

    @property
    def is_measured(self) -> tuple[bool, ...]:
        """For each run whether its score was measured."""
        imputed = frozenset(self.imputed)
        return tuple(run_id not in imputed for run_id in self.run_ids)

    def outcomes(self) -> Column:
        """Return the metric as a measure of its own: in its own sign, what was not measured in the last rank."""
        pairs = zip(self.scores, self.is_measured, strict=True)
        values = tuple(self.measured(score if is_known else math.inf) for score, is_known in pairs)
        return Column(self.metric, "number", values)


def run_table(
    runs: Sequence[AnyRun],
    scores: Scores,
    *,
    keys: Sequence[str] | None = None,
    conditions: Conditions | None = None,
    measures: Sequence[str] = MEASURES,
) -> RunTable:
    """Return the table of the runs that have a score.

    Parameters are the `keys` in which the configs differ, without `keys` all dotted keys that differ and do not belong
    to the measurement (seeds, evaluation, budget, …). `conditions` tells when a key counts: its value is None in runs
    in which another key has none of the listed values. Without `keys`, a text that is another one in each of ten runs
    or more names the run and is no parameter.
    """
    scored = [run for run in runs if run.run_id in scores.values]
    configs = [flatten(run.config) for run in scored]
    conditions = conditions or {}
    parameters = []
    for key, found in varying_keys(configs, keys).items():
        counts = [_counts(config, conditions.get(key, {})) for config in configs]
        values = [value if is_used else None for value, is_used in zip(found, counts, strict=True)]
        distinct = {_text(value) for value in values}
        column = _parameter(key, values)
        if len(distinct) > 1 and (keys is not None or not _names_runs(column, len(distinct))):
            parameters.append(column)
    taken = {TIME_TO_TARGET if scores.name == LOG_SECONDS else scores.name.removeprefix("-")}
    taken |= {column.name for column in parameters}
    told = [_measure(scored, name) for name in measures if name not in taken]
    return RunTable(
        run_ids=tuple(run.run_id for run in scored),
        parameters=tuple(parameters),
        measures=tuple(column for column in told if any(map(math.isfinite, column.numbers()))),
        scores=tuple(float(scores.values[run.run_id]) for run in scored),
        score_name=scores.name,
        imputed=tuple(run.run_id for run in scored if run.run_id in scores.imputed),
    )


def metric_scores(runs: Iterable[AnyRun], metric: str, goal: Literal["minimize", "maximize"]) -> Scores:
    """Return the score of each run that says something about its config, by its last `metric`.

    A metric that is to be maximised counts with its sign turned, and is named so: `-eval_sacrebleu`. Runs that failed
    or never told the metric are worse than the worst one by half the distance from the best; these are not measured.
    Raises ConfigError when no run has the metric.
    """
    judged = [run for run in runs if run.outcome not in _NO_OUTCOMES and not run.contaminated]
    sign = 1.0 if goal == "minimize" else -1.0
    known: dict[str, float] = {}
    for run in judged:
        value = _figure(run, metric)
        if value is not None and math.isfinite(value) and run.outcome not in FAILURES:
            known[run.run_id] = sign * value
    if not known:
        told = sorted({name for run in judged for name in run.metrics})
        if metric in told:
            raise ConfigError(f"no run ended well with a finite {metric}: {_outcomes_text(judged)}")
        raise unknown_name("metric", metric, told) if told else ConfigError("there is no finished run to analyse yet")
    best, worst = min(known.values()), max(known.values())
    failed = worst + FAILED_SPREADS * (worst - best or abs(worst) or 1.0)
    name = metric if goal == "minimize" else f"-{metric}"
    scores = {run.run_id: known.get(run.run_id, failed) for run in judged}
    return Scores(name, scores, scores.keys() - known.keys())


def _outcomes_text(runs: Sequence[AnyRun]) -> str:
    counts = Counter(run.outcome.replace("_", " ") for run in runs)
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())


def varying_keys(configs: Sequence[Mapping[str, Any]], keys: Sequence[str] | None) -> dict[str, tuple[Any, ...]]:
    """Return the dotted keys in which configs differ, with each one's value (None where it has none).

    Of `keys` those that differ, in their order; without them every key that does not belong to the measurement.
    """
    found = config_differences(configs)
    if keys is not None:
        return {key: found[key] for key in keys if key in found}
    return {key: values for key, values in found.items() if not _is_of_the_protocol(key)}


def _is_of_the_protocol(key: str) -> bool:
    """Say whether a key belongs to the measurement; other programs have the keys of `training` at the top."""
    return any(key == known or key.startswith(f"{known}.") or f"training.{key}" == known for known in PROTOCOL_KEYS)


def _names_runs(column: Column, num_distinct: int) -> bool:
    """Say whether a column is a name for each run, such as the folder that it writes to."""
    return column.kind == "category" and num_distinct == len(column.values) >= _NAMED_RUNS


def _counts(config: Mapping[str, Any], condition: Mapping[str, tuple[Any, ...]]) -> bool:
    """Say whether a flat config fulfils a condition on its other keys."""
    return all(config.get(other) in allowed for other, allowed in condition.items())


def _parameter(name: str, values: Sequence[Any]) -> Column:
    """Return a column of numbers where every value is one, else a column of names; None stays None in both."""
    known = [value for value in values if value is not None]
    if all(_is_number(value) and math.isfinite(value) for value in known):
        return _number_column(name, [None if value is None else float(value) for value in values])
    return Column(name, "category", tuple(None if value is None else _text(value) for value in values))


def _measure(runs: Sequence[AnyRun], name: str) -> Column:
    return _number_column(name, [_figure(run, name) for run in runs])


def _number_column(name: str, values: Sequence[float | None]) -> Column:
    known = [value for value in values if value is not None]
    finite = [value for value in known if math.isfinite(value)]
    is_log = bool(finite) and min(known) > 0 and max(finite) >= LOG_RATIO * min(finite)
    return Column(name, "number", tuple(values), is_log)


def _figure(run: AnyRun, name: str) -> float | None:
    """Return a measure of a run: infinite for a miss and for a loss that is not finite, None where it was not told."""
    if name == TIME_TO_TARGET:
        return _seconds_to_target(run)
    value = run.metrics.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):  # an index holds what a folder told
        return None
    return float(value) if math.isfinite(value) else math.inf


def _seconds_to_target(run: AnyRun) -> float:
    if isinstance(run, StoredRun):
        return run.time_to_target
    return run.clock_to_target("wall" if run.config.get("clock") == "wall" else "train")


def _is_number(value: object) -> bool:
    """Say whether a value is a number; not-a-number and truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _is_name(value: object) -> bool:
    return isinstance(value, str)


def _text(value: Any) -> str:
    """Return a value as a name: `true`, `[0.9, 0.95]`, a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
