"""What people use today to search for a recipe, over the same tasks, trainings and clock as hotlap's studies.

    search(FAMILIES["decay"].task(7), PRACTICES["tpe_final_loss"], seed=7)

All start with the user's config, pay for every run's start-up and evaluations, and hold on to the config that was the
quickest in its one run: also a sweep that tunes the final loss, since whoever wants the target soon picks that from its
curves. Nobody confirms anything: what they hold may have been lucky, and the timeline tells its true time.
"""

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
USUAL_RATES: Final = {"adamw_torch_fused": 1e-3, "muon": 3e-3, "adafactor": 1e-3, "sgd": 0.1}
"""Where experts begin at a batch of 32 and a width of 128, as in hotlap's own priors; with Muon, that of the rest."""
USUAL_MUON_RATE: Final = 0.02
WORTH_TRYING: Final[Mapping[str, Sequence[Any]]] = {"optim": ("adamw_torch_fused", "muon"), "width": (64, 96, 128, 192)}
"""Choices that hotlap's own search has, too; the others are for those who do not know better."""
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
    """Whether the space is an expert's, the rules' ideas come first, and after them TPE, mutations and prior draws in
    turn (PriorBand, arXiv 2306.12370)."""
    is_fixed_length: bool = False
    """Whether all runs have the start's schedule and go to its end, as in a sweep of the final loss."""


PRACTICES: Final[Mapping[str, Practice]] = {
    "random": Practice(title="random search", sampler="random", score="time"),
    "greedy": Practice(title="greedy: keep if better", sampler="greedy", score="time"),
    "tpe_final_loss": Practice(title="TPE on the final loss", sampler="tpe", score="final_loss", is_fixed_length=True),
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
            ends_at_target=not practice.is_fixed_length,
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
        self._ideas = list(IDEAS) if self.practice.has_priors else []
        self._space = space_of(self.practice, self.task.space)
        self._target = self.task.start.parsed_targets()[0]
        self._trial: Any = None
        self._initial_loss = math.nan
        self.rungs = Rungs(self.task.start.budget.run)

    def ask(self) -> Values:
        """Return the values of the next run."""
        self._trial = None
        self.rungs.begin()
        if not self.told:
            return self._start
        while self._ideas:
            if (values := {**self._best, **self._ideas.pop(0)(self._best)}) != self._best:
                return values
        if self.practice.sampler == "random":
            return self._anywhere()
        if self.practice.sampler == "greedy":
            return self._near_best()
        chance = self._generator.random() if self.practice.has_priors else 0.0
        if chance > _TPE_SHARE + _MUTATION_SHARE:
            guess = expert_guess(self._best)
            return {name: each.draw_near(guess[name], self._generator) for name, each in self._space.items()}
        return self._mutated() if chance > _TPE_SHARE else self._asked()

    def tell(self, values: Values, played: Played) -> float:
        """Learn from a run; return the seconds that it took to the target, infinite where it missed."""
        score = self._score(played)
        self.told.append((score, values))
        if self.practice.sampler == "tpe":
            self._tell_optuna(values, score)
        if played.outcome == "reached" and self.practice.is_raced:
            self.cap_seconds = min(self.cap_seconds, played.train_seconds)
        return next((p["train_seconds"] for p in played.points if self._target.holds(p)), math.inf)

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
        """Score a run that did not reach by how far it came, so that TPE learns from it, too."""
        cap, target = self.task.start.budget.run, self._target.value
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
        return {name: parameter.draw(self._generator) for name, parameter in self._space.items()}

    @property
    def _best(self) -> Values:
        return min(self.told, key=lambda pair: pair[0])[1]

    def _near_best(self) -> Values:
        """Change one setting of the best so far, sometimes two."""
        values = dict(self._best)
        for name in self._generator.sample(sorted(values), 1 if self._generator.random() < 0.8 else 2):
            values[name] = _stepped(self._space[name], values[name], self._generator)
        return values

    def _mutated(self) -> Values:
        """Move some settings of one of the best three a step."""
        best = sorted(self.told, key=lambda pair: pair[0])[:3]
        values = dict(self._generator.choice(best)[1])
        for name, parameter in self._space.items():
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
        known = {name: each.within(values[name]) for name, each in self._space.items()}
        trial = optuna.trial.create_trial(params=known, distributions=self._distributions, value=score)
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
        return {name: _distribution(parameter) for name, parameter in self._space.items()}


IDEAS: Final[Sequence[Callable[[Values], Values]]] = (
    lambda best: {"dropout": 0.0} if "dropout" in best else {},
    lambda best: {"optim": "muon"},
    lambda best: {"learning_rate": 3 * best["learning_rate"]},
    lambda best: {"batch": best["batch"] // 2},
    lambda best: {"layers": max(1, best["layers"] - 1)} if "layers" in best else {},
    lambda best: {"width": best["width"] // 2} if "width" in best else {},
    lambda best: {"max_steps": round(0.6 * best["max_steps"])} if "max_steps" in best else {},
)
"""What hotlap's rules ask for in these tasks, each on top of the best so far."""


def expert_guess(best: Values) -> Values:
    """Return the middle of the expert's prior: the best so far at the usual learning rates for its batch and width."""
    scale = math.sqrt(best["batch"] / 32 * 128 / best.get("width", 128))
    rates = {"learning_rate": USUAL_RATES[best["optim"]], "muon_learning_rate": USUAL_MUON_RATE}
    return {**best, **{name: rate * scale for name, rate in rates.items()}}


def space_of(practice: Practice, space: Space) -> Space:
    """Return what a practice searches: no length where that is fixed; with priors only what experts would try."""
    if practice.is_fixed_length:
        return {name: parameter for name, parameter in space.items() if name != "max_steps"}
    if not practice.has_priors:
        return space
    chosen = {name: tuple(c for c in space[name].choices if c in worth) for name, worth in WORTH_TRYING.items()}
    return {name: replace(each, choices=chosen.get(name, each.choices)) for name, each in space.items()}


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
