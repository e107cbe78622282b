"""What a rule may look at: the numbers of the incumbent's runs, and what has been tried before."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, Final

from hotlap.config.base import is_part
from hotlap.config.load import get_dotted
from hotlap.config.schedule import schedule_of
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.core.records import History, RunRecord
from hotlap.core.speed import MeasuredSpeed
from hotlap.search.noise import counted_runs, estimate
from hotlap.search.pace import examples_per_step
from hotlap.search.revisit import is_reopened

_COUNTED: Final = 16
"""Whole numbers below this (layers, heads) are counted, not measured: only the same is the same."""
RECENT_KEEPS: Final = 3
"""Kept changes after which a verdict no longer guides where to look next."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A proposal that has been decided, as the rules remember it."""

    patch: Mapping[str, Any]
    parent: int
    verdict: str
    keeps_since: int
    """Changes kept after it was tried: the more, the less its result says about today's incumbent."""
    is_open: bool = False
    """Whether what would reopen it has come about."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The incumbent's config and the means over its unselected runs; units stand in the names."""

    candidate: int
    config: RunConfig
    runs: tuple[RunRecord, ...]
    attempts: tuple[Attempt, ...]
    seconds_to_target: float
    """Median on the judged clock; infinite when the median run missed."""
    steps_to_target: int
    """Median over the runs that reached; the steps taken where none did."""
    overhead_seconds: float
    """What a run costs beside its training: start-up, evaluation, saving."""
    speed: MeasuredSpeed | None = None
    """Step times that were measured before the first run."""

    def metric(self, name: str) -> float:
        """Mean of a metric over the runs that have it; not a number where none has."""
        values = [run.metrics[name] for run in self.runs if name in run.metrics]
        return mean(values) if values else math.nan

    def share_of_step(self, part: str) -> float:
        """Share of the training seconds spent in a part of the steps (data, forward, backward, optimizer)."""
        return mean(run.seconds.get(part, 0.0) / run.train_seconds for run in self.runs if run.train_seconds)

    @property
    def gpt(self) -> GPTConfig:
        """The model, for rules that know hotlap's GPT."""
        assert isinstance(self.config.model, GPTConfig), self.config.model
        return self.config.model

    @property
    def environment(self) -> Mapping[str, Any]:
        """Facts about the machine."""
        return self.runs[-1].environment

    @property
    def examples_per_step(self) -> int:
        """Examples that one optimizer step sees."""
        return examples_per_step(self.config)

    @property
    def epochs(self) -> float:
        """How often the run has seen each training example, up to the target."""
        num_train = self.environment.get("data", {}).get("num_train", 0)
        return self.steps_to_target * self.examples_per_step / num_train if num_train else math.nan

    @property
    def learning_rate_factor_at_target(self) -> float:
        """Share of the peak learning rate that was in use when the target was reached."""
        training = self.config.training
        if is_part(training.lr_scheduler_type):
            return math.nan  # a function of the project: only the training side can call it
        schedule = schedule_of(self.config, max_steps=self.max_steps)
        tokens_per_step = mean(run.tokens / run.steps for run in self.runs if run.steps)
        positions = {
            "steps": self.steps_to_target,
            "tokens": self.steps_to_target * tokens_per_step,
            "seconds": self.seconds_to_target,
        }
        return schedule.factor(min(positions[schedule.unit], schedule.horizon))

    @property
    def max_steps(self) -> int:
        """Steps to the end of the schedule, also where the config counts in epochs."""
        return int(self.environment.get("max_steps") or self.config.training.max_steps)

    def was_tried(self, patch: Mapping[str, Any]) -> bool:
        """Say whether the same values were tried and nothing has reopened them since, or are the incumbent's."""
        return any(
            not attempt.is_open and _same(attempt.patch, patch, self._tolerance(attempt)) for attempt in self.attempts
        ) or all(get_dotted(self.config.model_dump(), key) == value for key, value in patch.items())

    def _tolerance(self, attempt: Attempt) -> float:
        """Return how far values may be apart and be one idea: those read off this incumbent's runs move with them."""
        return 0.2 if attempt.parent == self.candidate else 0.05

    def verdicts_for(self, key: str) -> list[tuple[Any, str]]:
        """Return (value, verdict) of the recent attempts that changed a key and nothing else, oldest first."""
        recent = [attempt for attempt in self.attempts if attempt.keeps_since < RECENT_KEEPS]
        return [(attempt.patch[key], attempt.verdict) for attempt in recent if attempt.patch.keys() == {key}]


def gather_evidence(history: History, config: RunConfig) -> Evidence:
    """Collect what the rules read; `config` is the incumbent's. The history must hold a run of the incumbent."""
    candidate = history.incumbent
    runs = _measured_runs(history, candidate)
    reached = [run for run in runs if run.outcome == "reached"]
    seconds = estimate(history, candidate).median_seconds
    steps = median(run.steps for run in reached or runs)
    kept = history.kept()
    attempts = tuple(
        Attempt(
            p.patch,
            p.parent,
            decision.verdict,
            sum(number > p.number for number in kept),
            is_reopened(history, p.number),
        )
        for p in history.proposals
        if (decision := history.verdict(p.number)) is not None
    )
    return Evidence(
        candidate=candidate,
        config=config,
        runs=runs,
        attempts=attempts,
        seconds_to_target=seconds,
        steps_to_target=max(1, int(steps)),
        overhead_seconds=median(run.wall_seconds - run.train_seconds for run in runs),
        speed=history.speed,
    )


def _measured_runs(history: History, candidate: int) -> tuple[RunRecord, ...]:
    """Return the runs that estimate a candidate; its parent's where it was kept for its step time alone.

    Blind ones only where there are no others: all that they do not tell is the time.
    """
    while not (runs := counted_runs(history, candidate) or history.unselected_runs(candidate)) and candidate:
        candidate = history.proposal(candidate).parent
    return runs


def _same(left: Mapping[str, Any], right: Mapping[str, Any], tolerance: float) -> bool:
    """Say whether two patches set the same keys to the same values, numbers within the tolerance."""
    return left.keys() == right.keys() and all(_close(left[key], right[key], tolerance) for key in left)


def _close(left: Any, right: Any, tolerance: float) -> bool:
    if isinstance(left, int) and isinstance(right, int) and min(left, right) < _COUNTED:
        return left == right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=tolerance)
    return bool(left == right)
