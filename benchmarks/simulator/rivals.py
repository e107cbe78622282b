"""What people use today to search for a recipe, over the same tasks, trainings and clock as hotlap's studies.

    search(FAMILIES["decay"].task(7), PRACTICES["tpe_final_loss"], seed=7)

All start with the user's config, pay for every run's start-up and evaluations, and hold on to the config that looked
best in its one run. Nobody confirms anything: what they hold may have been lucky, and the timeline tells its true time.
"""

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, Protocol

from hotlap.config.load import config_from_values
from hotlap.search.score import extrapolated_seconds
from simulator.play import Timeline
from simulator.runner import Trainable
from simulator.space import Parameter, Space, patch_of, values_of
from simulator.trace import Played, Point, play

RUNG_SHARES: Final = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Readings at which successive halving looks, as shares of the longest run."""
RUNG_KEEPS: Final = 1 / 3
RUNG_FROM: Final = 3
"""Runs that a rung has seen before it stops any."""
HOPELESS: Final = 20.0
"""What never gets there counts as this many times the longest run in a graded score."""
MISSED: Final = 10.0
"""The same in a plain score: PAR10 of the algorithm-configuration literature."""
_TPE_SHARE, _MUTATION_SHARE = 0.65, 0.25
_MUTATED_SHARE: Final = 0.25
"""Chance of each setting to move in a mutation."""
_STEP: Final = 0.15
"""Standard deviation of a step from a known value, as a share of the range."""

Values = Mapping[str, Any]


class Searchable(Trainable, Protocol):
    """A task with a space for rivals."""

    @property
    def space(self) -> Space:
        """The settings that may be changed, with their ranges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Practice:
    """One way to search."""

    title: str
    sampler: Literal["random", "tpe", "greedy"]
    score: Literal["final_loss", "time", "graded"]
    is_raced: bool = False
    """Whether runs are stopped at the best time so far."""
    has_rungs: bool = False
    """Whether successive halving stops runs at rungs of the clock (ASHA, arXiv 1810.05934)."""
    has_priors: bool = False
    """Whether an expert's first ideas come first, and a mixture of TPE, mutation and prior after them."""


PRACTICES: Final[Mapping[str, Practice]] = {
    "random": Practice(title="random search", sampler="random", score="time"),
    "greedy": Practice(title="greedy: keep if better", sampler="greedy", score="time"),
    "tpe_final_loss": Practice(title="TPE on the final loss", sampler="tpe", score="final_loss"),
    "tpe_time": Practice(title="TPE on time to target, race cap", sampler="tpe", score="time", is_raced=True),
    "tpe_asha": Practice(
        title="TPE, priors, race cap, ASHA",
        sampler="tpe",
        score="graded",
        is_raced=True,
        has_rungs=True,
        has_priors=True,
    ),
}


def search(task: Searchable, practice: Practice, seed: int) -> Timeline:
    """Search a task for as long as its config's budget says."""
    budget, run_seconds = task.start.budget.total, task.start.budget.run
    searcher = Searcher(task, practice, seed)
    moments, spent, number, best = [(0.0, task.true_seconds(task.start))], 0.0, 0, math.inf
    base, targets = task.start.model_dump(mode="json"), task.start.parsed_targets()
    while spent < budget:
        values = searcher.ask()
        config = config_from_values(base, patch_of(task.space, values))
        played = play(
            task.train(config, 100_000 * (seed + 1) + number),
            targets=targets,
            limit_seconds=min(run_seconds, searcher.cap_seconds),
            wall_left=budget - spent,
            stop=searcher.rungs.look if practice.has_rungs else lambda point: None,
            ends_at_target=practice.score != "final_loss",
        )
        number += 1
        spent += played.wall_seconds
        if played.outcome == "interrupted":
            break
        found = searcher.tell(values, played)
        if found < best:
            best = found
            moments.append((spent, task.true_seconds(config)))
    return Timeline(tuple(moments), number)


class Rungs:
    """Successive halving without waiting: a run goes on while it is among the best third that a rung has seen."""

    def __init__(self, run_seconds: float) -> None:
        self._readings = [share * run_seconds for share in RUNG_SHARES]
        self._seen: list[list[float]] = [[] for _ in RUNG_SHARES]
        self._next = 0

    def begin(self) -> None:
        """Forget where the last run was."""
        self._next = 0

    def look(self, point: Point) -> str | None:
        """Return why a run stops at this point, or None."""
        if self._next == len(self._readings) or point["train_seconds"] < self._readings[self._next]:
            return None
        seen, loss = self._seen[self._next], point["eval_loss"]
        self._next += 1
        seen.append(loss)
        rank = sum(other < loss for other in seen)
        return "below the best third" if len(seen) >= RUNG_FROM and rank >= math.ceil(RUNG_KEEPS * len(seen)) else None


@dataclass
class Searcher:
    """Asks for the next values and learns from what became of them."""

    task: Searchable
    practice: Practice
    seed: int
    told: list[tuple[float, Values]] = field(default_factory=list)
    """Score, lower is better, and values of every run."""
    cap_seconds: float = math.inf
    """Reading at which a raced run has lost."""

    def __post_init__(self) -> None:
        self._generator = random.Random(f"{self.task.name} {self.practice.title} {self.seed}")
        self._start = values_of(self.task.space, self.task.start.model_dump(mode="json"))
        self._first = [self._start, *(first_ideas(self._start) if self.practice.has_priors else ())]
        self._trial: Any = None
        self._initial_loss = math.nan
        self.rungs = Rungs(self.task.start.budget.run)

    def ask(self) -> Values:
        """Return the values of the next run."""
        self._trial = None
        self.rungs.begin()
        if self._first:
            return self._first.pop(0)
        if self.practice.sampler == "random":
            return self._anywhere()
        if self.practice.sampler == "greedy":
            return self._near_best()
        chance = self._generator.random() if self.practice.has_priors else 0.0
        if chance > _TPE_SHARE + _MUTATION_SHARE:
            space = self.task.space
            return {name: parameter.draw_near(self._start[name], self._generator) for name, parameter in space.items()}
        return self._mutated() if chance > _TPE_SHARE else self._asked()

    def tell(self, values: Values, played: Played) -> float:
        """Learn from a run; return how good it looks (lower is better, infinite for a run that tells nothing)."""
        score = self._score(played)
        self.told.append((score, values))
        if self.practice.sampler == "tpe":
            self._tell_optuna(values, score)
        if played.outcome == "reached" and self.practice.is_raced:
            self.cap_seconds = min(self.cap_seconds, played.train_seconds)
        return score if played.outcome == "reached" or self.practice.score == "final_loss" else math.inf

    def _score(self, played: Played) -> float:
        cap, losses = self.task.start.budget.run, [point["eval_loss"] for point in played.points]
        if math.isnan(self._initial_loss):
            self._initial_loss = losses[0]
        loss = losses[-1] if losses and math.isfinite(losses[-1]) else self._initial_loss
        if self.practice.score == "final_loss":
            return loss
        if played.outcome == "reached":
            return math.log(played.train_seconds)
        if self.practice.score == "time":
            return math.log(MISSED * cap)
        return self._graded(played, loss)

    def _graded(self, played: Played, loss: float) -> float:
        """Score a run that did not reach as reference/search.md, section 4, asks."""
        cap, target = self.task.start.budget.run, self.task.start.parsed_targets()[0].value
        way = self._initial_loss - target
        gap = min(1.0, max(0.0, (loss - target) / way))
        hopeless = math.log(HOPELESS * cap) + gap
        if played.outcome in ("diverged", "out_of_memory") or not played.points:
            return hopeless
        at = played.points[-1]["train_seconds"]
        if played.outcome == "missed":
            return math.log(at) + min(3.0, 1 + 4 * gap)
        if played.outcome == "raced":  # the rungs saw that it is no better than the best; an extrapolation may not
            at = max(at, min(self.cap_seconds, cap))
        curve = [(p["train_seconds"], max(0.0, (p["eval_loss"] - target) / way)) for p in played.points]
        needed = extrapolated_seconds(curve)
        return math.log(at) + min(3.0, 1 + 4 * gap) if math.isnan(needed) else _log_between(needed, at, cap)

    def _anywhere(self) -> Values:
        return {name: parameter.draw(self._generator) for name, parameter in self.task.space.items()}

    def _near_best(self) -> Values:
        """Change one setting of the best so far, sometimes two."""
        values = dict(min(self.told, key=lambda pair: pair[0])[1])
        for name in self._generator.sample(sorted(values), 1 if self._generator.random() < 0.8 else 2):
            values[name] = _stepped(self.task.space[name], values[name], self._generator)
        return values

    def _mutated(self) -> Values:
        """Move some settings of one of the best three a step."""
        best = sorted(self.told, key=lambda pair: pair[0])[:3]
        values = dict(self._generator.choice(best)[1])
        for name, parameter in self.task.space.items():
            if self._generator.random() < _MUTATED_SHARE:
                values[name] = _stepped(parameter, values[name], self._generator)
        return values

    def _asked(self) -> Values:
        self._trial = self._optuna.ask(self._distributions)
        return dict(self._trial.params)

    def _tell_optuna(self, values: Values, score: float) -> None:
        import optuna

        if self._trial is not None:
            self._optuna.tell(self._trial, score)
            return
        trial = optuna.trial.create_trial(params=dict(values), distributions=self._distributions, value=score)
        self._optuna.add_trial(trial)

    @cached_property
    def _optuna(self) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=self.seed)
        return optuna.create_study(sampler=sampler)

    @cached_property
    def _distributions(self) -> dict[str, Any]:
        return {name: _distribution(parameter) for name, parameter in self.task.space.items()}


def first_ideas(start: Values) -> Sequence[Values]:
    """Return what an expert tries first, one thing on another: the ideas that hotlap's rules begin with."""
    calm = {**start, **({"dropout": 0.0} if "dropout" in start else {})}
    changes: list[dict[str, Any]] = [
        {},
        {"optim": "muon"},
        {"learning_rate": 3 * start["learning_rate"]},
        {"batch": start["batch"] // 2},
        {"optim": "muon", "learning_rate": 2 * start["learning_rate"], "batch": start["batch"] // 2},
    ]
    ideas = [{**calm, **change} for change in changes if change.keys() <= start.keys()]
    return [idea for idea in ideas if idea != start]


def _stepped(parameter: Parameter, value: Any, generator: random.Random) -> Any:
    if parameter.kind == "choice":
        return generator.choice([choice for choice in parameter.choices if choice != value])
    return parameter.at(min(1.0, max(0.0, parameter.share(value) + generator.gauss(0.0, _STEP))))


def _log_between(needed: float, at: float, cap: float) -> float:
    return math.log(min(HOPELESS * cap, max(1.05 * at, needed)))


def _distribution(parameter: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.kind == "choice":
        return CategoricalDistribution(parameter.choices)
    is_log = parameter.kind in ("log", "log_integer")
    if parameter.kind in ("integer", "log_integer"):
        return IntDistribution(round(parameter.low), round(parameter.high), log=is_log)
    return FloatDistribution(parameter.low, parameter.high, log=is_log)
