"""Families of simulated tasks: three forms of learning curve over the same physics.

    task = FAMILIES["decay"].task(seed=7)
    task.train(task.start, seed=42)     # a Trace, with noise
    task.true_seconds(task.start)       # what it would take without noise

Eight settings matter, runs last 300 s at most, the start needs 176 s, a search an hour; the best config needs about
40 s in the median, and of random ones a fifth reach the target in a run (power_law), or one in sixteen (decay, cliff).
Each task has its own hidden physics; the same seed is the same task for every policy. Settings that the physics does
not know change nothing, and the start has those of them already that a rule might ask for, so that no policy gains or
loses by them.

power_law is easy on whoever extrapolates curves by power laws; in decay a run tells little before its schedule ends; in
cliff it tells nothing before it is half over.
"""

import math
import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from simulator.physics import Physics, draw_physics
from simulator.recipe import TOKENS_PER_EXAMPLE, Recipe, recipe_of
from simulator.space import WITH_HORIZON, WITHOUT_HORIZON, Space
from simulator.trace import Floats, Trace, evaluated_steps

START_SECONDS: Final = 176.0
"""True time of the config that a study starts from."""
RUN_SECONDS: Final = 300.0
STUDY_SECONDS: Final = 3600.0
INITIAL_LOSS: Final = 5.55
"""That of a guess among 256 bytes."""
SEED_SIGMA: Final = 0.05
"""Spread of what a step teaches between seeds, in logs."""
CLOCK_SIGMA: Final = 0.01
"""Spread of the seconds per step between runs, in logs."""
LOSS_SIGMA: Final = 0.004
"""Spread of an evaluation, in nats."""
SETUP_SECONDS: Final = 2.0
EVALUATION_SECONDS: Final = 0.02
_FINEST: Final = 1.001
"""Ratio of the readings between which the true time is a straight line."""
_HORIZON_ENDLESS: Final = 100_000

Curve = Callable[[Floats, Floats, float], Floats]
"""From what was taught so far (1: what the target needs), the factor of the learning rate and the learning rate
relative to the best one, to eval_loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One form of learning curve, and the start and the space of its tasks."""

    name: str
    curve: Curve
    target: float
    """Bound on eval_loss."""
    schedule: str
    horizon: float
    """Steps of the start's schedule relative to those that it needs; infinite: it never ends."""
    space: Space

    def task(self, seed: int) -> "SimulatedTask":
        """Return the task with this seed."""
        return SimulatedTask(self, seed)


def fall(taught: Floats, floor: float, target: float, exponent: float) -> Floats:
    """Return a power law from the initial loss to a floor that passes the target where 1 was taught."""
    share = (target - floor) / (INITIAL_LOSS - floor)
    scale = 1 / (share ** (-1 / exponent) - 1)
    return floor + (INITIAL_LOSS - floor) * (1 + taught / scale) ** -exponent


def power_law(taught: Floats, factor: Floats, rate: float) -> Floats:
    """Fall along a power law with a floor, at a constant rate (arXiv 2001.08361)."""
    return fall(taught, 1.0, 1.45, 0.6)


def decay(taught: Floats, factor: Floats, rate: float) -> Floats:
    """Fall along a power law; the noise of a high learning rate adds to the loss until the rate has decayed."""
    return fall(taught, 1.0, 1.35, 0.8) + 0.5 * min(3.0, rate**0.7) * factor


def cliff(taught: Floats, factor: Floats, rate: float) -> Floats:
    """Stay on a plateau, then fall over a cliff, as when a circuit for copying forms."""
    plateau = 2.6 + (INITIAL_LOSS - 2.6) / (1 + taught / 0.02)
    left = 1 / (1 + (taught / 0.66) ** 7)
    return 0.6 + (plateau - 0.6) * left


FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family
    for family in (
        Family(
            name="power_law",
            curve=power_law,
            target=1.45,
            schedule="constant_with_warmup",
            horizon=math.inf,
            space=WITHOUT_HORIZON,
        ),
        Family(name="decay", curve=decay, target=1.45, schedule="linear", horizon=1.2, space=WITH_HORIZON),
        Family(name="cliff", curve=cliff, target=0.76, schedule="linear", horizon=2.5, space=WITH_HORIZON),
    )
}

_START: Final[Mapping[str, Any]] = {
    "model": {
        **{"positions": "rope", "norm": "rms_norm", "qk_norm": True, "hidden_act": "relu_squared", "use_bias": False},
        **{"zero_init_projections": True, "tie_word_embeddings": False, "smear": True},
        **{"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1},
    },
    "training": {
        **{"learning_rate": 6e-4, "per_device_train_batch_size": 32, "optim": "adamw_torch_fused"},
        **{"adam_beta2": 0.95, "max_grad_norm": 0.0, "weight_decay": 0.0, "padding": "bucketed", "warmup_steps": 100},
    },
    "budget": {"run": RUN_SECONDS, "total": STUDY_SECONDS},
    "patience": 1000,  # the budget ends these studies
}


class SimulatedTask:
    """One task of a family."""

    def __init__(self, family: Family, seed: int) -> None:
        self.name = f"{family.name}-{seed}"
        self.family = family
        self.space = family.space
        self.physics: Physics = draw_physics(random.Random(f"physics {family.name} {seed}"))
        self._needed = 1.0
        self._true: dict[Recipe, float] = {}
        start = recipe_of(self._config(_HORIZON_ENDLESS))
        steps = START_SECONDS / self.physics.seconds_per_step(start)
        horizon = _HORIZON_ENDLESS if math.isinf(family.horizon) else round(family.horizon * steps)
        self.start = self._config(horizon)
        self._needed = self._scale(recipe_of(self.start), steps)

    def train(self, config: RunConfig, seed: int, attempt: int = 0) -> Trace:
        """Return how a training with a seed goes when nobody stops it before the longest run is over.

        Losses by step follow from recipe and seed alone, as with real seeds; the clock differs in every attempt.
        """
        recipe = recipe_of(config)
        learnt = replace(recipe, micro_batch=0)  # how a batch is cut into pieces changes no loss
        generator = np.random.default_rng(zlib.crc32(f"{self.name} {seed} {learnt}".encode()))
        clock = random.Random(f"{self.name} {seed} {attempt} {recipe}")
        luck = math.exp(generator.normal(0.0, SEED_SIGMA))
        seconds_per_step = self.physics.seconds_per_step(recipe) * math.exp(clock.gauss(0.0, CLOCK_SIGMA))
        if self.physics.is_out_of_memory(recipe):
            return _out_of_memory()
        steps = evaluated_steps(seconds_per_step, recipe.max_steps, RUN_SECONDS, config.clock)
        loss = self._loss(recipe, steps, seconds_per_step, luck)
        loss = loss + generator.normal(0.0, LOSS_SIGMA, len(steps))
        factors = recipe.factors(steps, seconds_per_step)
        return Trace(
            setup_seconds=SETUP_SECONDS,
            evaluation_seconds=EVALUATION_SECONDS,
            steps=steps,
            train_seconds=steps * seconds_per_step,
            tokens_per_step=recipe.batch * TOKENS_PER_EXAMPLE,
            values={"eval_loss": loss, "train_loss": loss + 0.02, "learning_rate": factors * recipe.learning_rate},
        )

    def true_seconds(self, config: RunConfig) -> float:
        """Return the training seconds to the target without any noise; infinite for a config that never gets there."""
        recipe = recipe_of(config)
        if recipe not in self._true:
            self._true[recipe] = self._find_true_seconds(recipe)
        return self._true[recipe]

    def _find_true_seconds(self, recipe: Recipe) -> float:
        if self.physics.is_out_of_memory(recipe):
            return math.inf
        pace = self.physics.seconds_per_step(recipe)
        last = min(recipe.max_steps, 20 * RUN_SECONDS / pace)
        steps = np.append(np.exp(np.arange(0.0, math.log(max(last, 2.0)), math.log(_FINEST))), last)
        below = np.flatnonzero(self._loss(recipe, steps, pace, 1.0) < self.family.target)
        return float(steps[below[0]] * pace) if len(below) else math.inf

    def _loss(self, recipe: Recipe, steps: Floats, seconds_per_step: float, luck: float) -> Floats:
        """Return eval_loss after so many steps, shape (N,), without the noise of evaluations."""
        taught = self.physics.teaching(recipe) * recipe.taken(steps, seconds_per_step) * luck / self._needed
        factor, rate = recipe.factors(steps, seconds_per_step), self.physics.excess(recipe)
        loss = self.family.curve(taught, factor, rate) + self.physics.shortfall(recipe)
        return _broken(loss, steps, recipe) if self.physics.breaks(recipe) else loss

    def _config(self, horizon: int) -> RunConfig:
        own = {"lr_scheduler_type": self.family.schedule, "max_steps": horizon}
        training = {**_START["training"], **own}
        targets = [f"eval_loss < {self.family.target:g}"]
        return config_from_values({**_START, "name": self.name, "training": training, "targets": targets})

    def _scale(self, recipe: Recipe, steps: float) -> float:
        """Return what has to be taught so that the start needs its seconds, by bisection."""
        low, high = 1e-6, 1e9
        at, pace = np.array([steps]), self.physics.seconds_per_step(recipe)
        while high / low > 1 + 1e-9:
            self._needed = math.sqrt(low * high)
            is_enough = self._loss(recipe, at, pace, 1.0)[0] < self.family.target
            low, high = (self._needed, high) if is_enough else (low, self._needed)
        return math.sqrt(low * high)


def _broken(loss: Floats, steps: Floats, recipe: Recipe) -> Floats:
    """Return the loss of a training that diverges on the way to its peak learning rate, or soon after it."""
    at = max(10.0, 0.7 * recipe.warmup)
    risen = np.minimum(6.0, np.maximum(0.0, steps - at) / (0.3 * at))
    return np.where(risen >= 6.0, math.nan, loss + np.expm1(risen) * 0.5)


def _out_of_memory() -> Trace:
    nothing = np.zeros(0)
    return Trace(
        setup_seconds=SETUP_SECONDS,
        evaluation_seconds=EVALUATION_SECONDS,
        steps=nothing,
        train_seconds=nothing,
        tokens_per_step=0.0,
        values={"eval_loss": nothing},
        ending="out_of_memory",
        reason="the first step did not fit into memory",
    )
