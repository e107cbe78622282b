"""A task that answers from recorded real runs: each config gets what the nearest recorded recipes did.

    task = recorded_task(seed=0)        # from benchmarks/simulator/recorded.json.gz; benchmarks/record_runs.py makes it

The recorded runs went on behind the target, to the end of their schedule or of their budget. Recipes are compared in
the settings that the recorded ones were drawn from: numbers by how far apart they lie in their range, names by whether
they are equal. A config that was recorded gets its own curve back. Between recorded recipes the log time to each level
of the loss is a ridge regression on the settings plus what the nearest recipes are off it, weighted by the inverse
square of their distance; never less than the quickest recorded one. A recipe that never got to a level counts with
three times the longest run there, and one that was cut short says nothing of it. A setting that was never varied
changes nothing. Seeds move the clock by as much as replicates of one recipe differ.
"""

import gzip
import json
import math
import statistics
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.records import Outcome
from simulator.space import Parameter, Space, values_of
from simulator.trace import Floats, Trace, evaluated_steps

RECORDED: Final = Path(__file__).parent / "recorded.json.gz"
LEVELS: Final = np.geomspace(6.0, 0.05, 160)
"""Levels of eval_loss at which times are compared, shape (L,), falling."""
NEVER: Final = 3.0
"""A level that a run did not get to counts as reached after so many times the longest run."""
CUT_SHORT: Final = 0.9
"""Share of the longest run below which a record ends too early to say that a level is never reached."""
NEIGHBOURS: Final = 5
RIDGE: Final = 1.0
"""Left out one by one, recorded recipes were predicted best so: 15 % less error than by neighbours alone, which draw
every small change of a good recipe towards the mean of all."""
SETUP_SECONDS: Final = 2.0
EVALUATION_SECONDS: Final = 0.015
LOSS_SIGMA: Final = 0.01
"""Spread of an evaluation, in nats."""
UNKNOWN_SIGMA: Final = 0.03
_SAME: Final = 1e-9
"""Distance below which two recipes are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One real run."""

    values: Mapping[str, Any]
    """What was drawn for it, by name of the setting."""
    outcome: Outcome
    steps: Sequence[int]
    """Steps at each evaluation, shape (N,)."""
    losses: Sequence[float]
    """eval_loss at each, shape (N,)."""
    seconds_per_step: float
    tokens_per_step: float

    def steps_to(self, level: float) -> float:
        """Return the steps at the first evaluation with a lower loss; infinite where there is none."""
        return next((float(s) for s, loss in zip(self.steps, self.losses, strict=True) if loss < level), math.inf)

    def log_times(self, longest: float) -> Floats:
        """Return log seconds to each level, shape (L,).

        A level that it did not get to counts with three times the longest run; it is not a number where other work on
        the machine cut the run short, so that nobody knows.
        """
        lowest = np.minimum.accumulate(np.nan_to_num(np.asarray(self.losses), nan=math.inf))
        times = np.log(np.asarray(self.steps) * self.seconds_per_step)
        found = np.interp(-LEVELS, -lowest, times)  # LEVELS and `lowest` fall, np.interp wants them to rise
        is_cut_short = self.outcome == "out_of_budget" and math.exp(times[-1]) < CUT_SHORT * longest
        return np.where(lowest[-1] <= LEVELS, found, math.nan if is_cut_short else math.log(NEVER * longest))


@dataclass(frozen=True, kw_only=True)
class Recording:
    """All recorded runs of a task."""

    start: RunConfig
    space: Space
    runs: tuple[Recorded, ...]
    sigma: float
    """Spread of log time to target between replicates."""

    @cached_property
    def recipes(self) -> Sequence[tuple[Recorded, Floats]]:
        """One run of each recipe with its log times, the one that went furthest."""
        longest: dict[str, Recorded] = {}
        for run in self.runs:
            key = json.dumps(run.values, sort_keys=True)
            if key not in longest or run.steps[-1] > longest[key].steps[-1]:
                longest[key] = run
        return [(run, run.log_times(self.start.budget.run)) for run in longest.values()]

    @cached_property
    def answers(self) -> Floats:
        """Log seconds to each level and, last, per step of each recipe, shape (R, L + 1); not a number: unknown."""
        return np.array([[*times, math.log(run.seconds_per_step)] for run, times in self.recipes])

    @cached_property
    def trend(self) -> Floats:
        """Coefficients of a ridge regression of the answers on what recipes are made of, shape (F, L + 1)."""
        features, columns = np.array([self.features(run.values) for run, _ in self.recipes]), []
        ridge = RIDGE * np.eye(features.shape[1])
        ridge[0, 0] = 0.0  # the mean is free
        for answers in self.answers.T:
            known = np.isfinite(answers)
            rows = features[known]
            columns.append(np.linalg.lstsq(rows.T @ rows + ridge, rows.T @ answers[known], rcond=None)[0])
        return np.array(columns).T

    def features(self, values: Mapping[str, Any]) -> list[float]:
        """Return 1 and where each setting lies in its range, from -1/2 to 1/2, the learning rate also squared."""
        places = {name: _place(parameter, values[name]) - 0.5 for name, parameter in self.space.items()}
        if "muon_learning_rate" in places and values["optim"] != "muon":
            places["muon_learning_rate"] = 0.0
        return [1.0, *places.values(), places["learning_rate"] ** 2]

    def blend(self, values: Mapping[str, Any]) -> "Blend":
        """Return what the recorded recipes say of these values."""
        around = [(distance(self.space, run.values, values), number) for number, (run, _) in enumerate(self.recipes)]
        near = sorted(around)[:NEIGHBOURS]
        if near[0][0] < _SAME:
            near = near[:1]
        numbers = [number for _, number in near]
        expected = np.array(self.features(values)) @ self.trend
        apart = (
            self.answers[numbers] - np.array([self.features(self.recipes[n][0].values) for n in numbers]) @ self.trend
        )
        weights = np.array([(near[0][0] / far) ** 2 if far else 1.0 for far, _ in near])
        shares = weights[:, None] * np.isfinite(apart)
        total = shares.sum(axis=0)
        answers = expected + (shares * np.nan_to_num(apart)).sum(axis=0) / np.maximum(total, _SAME)
        never = math.log(NEVER * self.start.budget.run)
        quickest = np.nanmin(np.where(np.isfinite(self.answers), self.answers, never), axis=0)
        answers = np.clip(np.where(total > 0, answers, never), quickest, never)
        return Blend(np.maximum.accumulate(answers[:-1]), math.exp(answers[-1]), self.recipes[numbers[0]][0])


class Blend(NamedTuple):
    """What the nearest recipes say of a config."""

    log_times: Floats
    """Log seconds to each level, shape (L,)."""
    seconds_per_step: float
    nearest: Recorded


def distance(space: Space, left: Mapping[str, Any], right: Mapping[str, Any]) -> float:
    """Return how far two recipes are apart; the learning rate of Muon counts only where both use it."""
    total = 0.0
    for name, parameter in space.items():
        if name == "muon_learning_rate" and not left.get("optim") == right.get("optim") == "muon":
            continue
        total += _apart(parameter, left[name], right[name]) ** 2
    return math.sqrt(total)


def _apart(parameter: Parameter, left: Any, right: Any) -> float:
    if left == right:
        return 0.0
    if parameter.kind != "choice":
        return abs(parameter.share(left) - parameter.share(right))
    if not all(isinstance(choice, int) for choice in parameter.choices):
        return 1.0
    return abs(_place(parameter, left) - _place(parameter, right))  # sizes: half is nearer than a quarter


def _place(parameter: Parameter, value: Any) -> float:
    """Return where a value lies in its range, from 0 to 1."""
    choices = parameter.choices
    if parameter.kind != "choice":
        return parameter.share(value)
    if not all(isinstance(choice, int) for choice in choices):
        return choices.index(value) / (len(choices) - 1) if value in choices else 0.0
    return math.log(value / min(choices)) / math.log(max(choices) / min(choices))


class RecordedTask:
    """Recorded runs as a task; `seed` only moves the noise."""

    def __init__(self, recording: Recording, seed: int) -> None:
        self.name = f"recorded-{seed}"
        self.start = recording.start
        self.space = recording.space
        self._recording = recording
        self._target = recording.start.parsed_targets()[0].value

    def train(self, config: RunConfig, seed: int, attempt: int = 0) -> Trace:
        """Return what the nearest recorded trainings say, on the evaluation grid; a seed moves the clock."""
        blend = self._blend(config)
        generator = np.random.default_rng(
            zlib.crc32(f"{self.name} {seed} {attempt} {config.training.max_steps}".encode())
        )
        slower = math.exp(generator.normal(0.0, self._recording.sigma))
        steps = evaluated_steps(blend.seconds_per_step, config.training.max_steps, self.start.budget.run, config.clock)
        loss = np.interp(np.log(steps * blend.seconds_per_step / slower), blend.log_times, LEVELS)
        return Trace(
            setup_seconds=SETUP_SECONDS,
            evaluation_seconds=EVALUATION_SECONDS,
            steps=steps,
            train_seconds=steps * blend.seconds_per_step,
            tokens_per_step=blend.nearest.tokens_per_step,
            values={"eval_loss": loss + generator.normal(0.0, LOSS_SIGMA, len(steps))},
        )

    def true_seconds(self, config: RunConfig) -> float:
        """Return the seconds to the target without noise; infinite where the schedule or the records end before."""
        blend = self._blend(config)
        seconds = math.exp(np.interp(-self._target, -LEVELS, blend.log_times))
        end = min(config.training.max_steps * blend.seconds_per_step, self.start.budget.run)
        return seconds if seconds <= end else math.inf

    def _blend(self, config: RunConfig) -> Blend:
        return self._recording.blend(values_of(self.space, config.model_dump(mode="json")))


def recorded_task(seed: int, path: Path = RECORDED) -> RecordedTask:
    """Return the recorded runs of a file as a task."""
    return RecordedTask(load_recording(path), seed)


@lru_cache(maxsize=4)
def load_recording(path: Path) -> Recording:
    """Read recorded runs."""
    stored = json.loads(gzip.decompress(path.read_bytes()))
    return Recording(
        start=config_from_values(stored["start"]),
        space={name: Parameter(**_tuples(parameter)) for name, parameter in stored["space"].items()},
        runs=tuple(Recorded(**run) for run in stored["runs"]),
        sigma=stored["sigma"],
    )


def save_recording(recording: Recording, path: Path) -> None:
    """Write recorded runs, the same bytes every time."""
    stored = {
        "start": recording.start.model_dump(mode="json"),
        "space": {name: _fields(parameter) for name, parameter in recording.space.items()},
        "sigma": recording.sigma,
        "runs": [_fields(run) for run in recording.runs],
    }
    path.write_bytes(gzip.compress(json.dumps(stored, separators=(",", ":")).encode(), mtime=0))


def replicate_sigma(runs: Sequence[Recorded]) -> float:
    """Return the pooled spread of log steps to a loss between runs with equal values, which the clock does not touch.

    Replicates are compared at the lowest loss that all of them got to.
    """
    groups: dict[str, list[Recorded]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.values, sort_keys=True), []).append(run)
    spreads = []
    for group in groups.values():
        level = max(min(run.losses) for run in group) + LOSS_SIGMA
        if len(group) > 1:
            spreads.append((statistics.variance(math.log(run.steps_to(level)) for run in group), len(group) - 1))
    degrees = sum(count for _, count in spreads)
    return math.sqrt(sum(spread * count for spread, count in spreads) / degrees) if degrees else UNKNOWN_SIGMA


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
