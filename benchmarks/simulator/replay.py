"""A task that answers from recorded real runs: each config gets the training of the nearest recipe that was recorded.

    task = recorded_task(seed=0)        # from benchmarks/simulator/recorded.json.gz; benchmarks/record_runs.py makes it

The recorded runs went on behind the target, to the end of their schedule or of their budget. Recipes are compared in
the settings that the recorded ones were drawn from: numbers by how far apart they lie in their range, names by whether
they are equal. So a setting that was never varied changes nothing, and a small change of one that was may change
nothing either: the landscape is one of terraces, with real curves on them. The clock of a run is moved by as much as
replicates of one recipe differ.
"""

import gzip
import json
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.records import Outcome
from hotlap.core.targets import all_hold, parse_target
from simulator.space import Parameter, Space, values_of
from simulator.trace import Trace

RECORDED: Final = Path(__file__).parent / "recorded.json.gz"
_CLOCKS: Final = ("step", "train_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One real run."""

    values: Mapping[str, Any]
    """What was drawn for it, by name of the setting."""
    outcome: Outcome
    columns: Mapping[str, Sequence[float]]
    """`step`, `train_seconds` and the metrics of each evaluation."""
    setup_seconds: float
    evaluation_seconds: float
    tokens_per_step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """All recorded runs of a task."""

    start: RunConfig
    space: Space
    runs: tuple[Recorded, ...]
    sigma: float
    """Spread of log time to target between replicates."""

    def nearest(self, values: Mapping[str, Any]) -> Recorded:
        """Return the run whose recipe is nearest to these values."""
        return min(self.runs, key=lambda run: distance(self.space, run.values, values))


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
    whole = math.log(max(parameter.choices) / min(parameter.choices))
    return abs(math.log(left / right)) / whole  # sizes: half is nearer than a quarter


class RecordedTask:
    """Recorded runs as a task; `seed` only moves the noise."""

    def __init__(self, recording: Recording, seed: int) -> None:
        self.name = f"recorded-{seed}"
        self.start = recording.start
        self.space = recording.space
        self._recording = recording
        self._targets = recording.start.parsed_targets()

    def train(self, config: RunConfig, seed: int, attempt: int = 0) -> Trace:
        """Return the nearest recorded training, its clock moved by the noise of a seed."""
        run = self._recorded(config)
        generator = random.Random(f"{self.name} {seed} {attempt} {run.values}")
        moved = math.exp(generator.gauss(0.0, self._recording.sigma))
        columns = {name: np.asarray(column, dtype=np.float64) for name, column in run.columns.items()}
        return Trace(
            setup_seconds=run.setup_seconds,
            evaluation_seconds=run.evaluation_seconds,
            steps=columns["step"],
            train_seconds=columns["train_seconds"] * moved,
            tokens_per_step=run.tokens_per_step,
            values={name: column for name, column in columns.items() if name not in _CLOCKS},
            ending=run.outcome,
            reason="the recorded run went no further",
        )

    def true_seconds(self, config: RunConfig) -> float:
        """Return the recorded time to target; infinite where the recorded run missed."""
        columns = self._recorded(config).columns
        names = [name for name in columns if name not in _CLOCKS]
        for number, seconds in enumerate(columns["train_seconds"]):
            if all_hold(self._targets, {name: columns[name][number] for name in names}):
                return float(seconds)
        return math.inf

    def _recorded(self, config: RunConfig) -> Recorded:
        return self._recording.nearest(values_of(self.space, config.model_dump(mode="json")))


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


def replicate_sigma(runs: Sequence[Recorded], targets: Sequence[str]) -> float:
    """Return the pooled spread of log time to target between runs with equal values; 0.03 where nothing is repeated."""
    wanted = [parse_target(text) for text in targets]
    groups: dict[str, list[float]] = {}
    for run in runs:
        names = [name for name in run.columns if name not in _CLOCKS]
        times = [
            math.log(seconds)
            for number, seconds in enumerate(run.columns["train_seconds"])
            if all_hold(wanted, {name: run.columns[name][number] for name in names})
        ]
        groups.setdefault(json.dumps(run.values, sort_keys=True), []).extend(times[:1])
    pooled = [(statistics.variance(group), len(group) - 1) for group in groups.values() if len(group) > 1]
    degrees = sum(count for _, count in pooled)
    return math.sqrt(sum(variance * count for variance, count in pooled) / degrees) if degrees else 0.03


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
