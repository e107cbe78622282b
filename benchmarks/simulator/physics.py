"""What a simulated task answers to each setting: how much a step teaches, what it costs, when it breaks.

The numbers are drawn afresh for every task, so no policy can know them. The distributions are wide on purpose: what an
expert tries first is wrong in a good part of the tasks. In some Muon does harm, in
some the dropout is right as it is; the best batch and the best model lie on either side of the start's, and how the
best learning rate moves with them is drawn, too. The forms are common knowledge: a bell over the log learning rate
that is steeper above its top; steps fall with the batch as 1 + B/b (arXiv 1812.06162); larger models need fewer steps
and dearer ones.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from simulator.recipe import Recipe

REFERENCE_BATCH: Final = 32
REFERENCE_WIDTH: Final = 128
REFERENCE_LAYERS: Final = 2
_BELOW, _ABOVE = 0.8, 1.2
"""How fast a step teaches less, by the log distance from the best learning rate."""
_BREAKS_AT: Final = 1.6
"""Log distance above the best learning rate at which a training diverges after a long warm-up."""
_WARMUP_SAVES: Final = 0.8
"""Log distance that the lack of any warm-up takes off that."""
_LOWEST_BEST_RATE: Final = 3e-4
"""So that no start diverges."""
_MEMORY: Final = 200 * 256 * 6
"""Examples x width x layers that fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Physics:
    """The hidden numbers of one task."""

    best_rate: float
    """Of AdamW, at the reference batch and width."""
    best_muon_rate: float
    batch_exponent: float
    """The best learning rate grows with the batch to this power: 0.5 where noise averages out, 1 for plain descent."""
    width_exponent: float
    """It falls with the width to this power: 1 after arXiv 2203.03466."""
    critical_batch: float
    """Batch at which half of each further example is wasted."""
    optimizer_gain: Mapping[str, float]
    """What a step teaches, relative to AdamW's."""
    width_gain: float
    """Exponent: what a step teaches grows with the width to this power."""
    depth_gain: float
    dropout_cost: float
    """How fast a step teaches less, by the distance from the best dropout."""
    best_dropout: float
    narrow_loss: float
    """Nats that a model keeps for each halving of its width below 64."""
    shallow_loss: float
    """Nats that a single layer keeps."""
    warmup_need: float
    """Steps of warm-up after which no more helps."""
    step_seconds: float
    """What a step costs whatever it does."""
    batch_seconds: float
    """What the reference batch costs at the reference size."""

    def teaching(self, recipe: Recipe) -> float:
        """Return what a step at the full learning rate teaches, relative to the best at the reference size."""
        width, depth = recipe.width / REFERENCE_WIDTH, recipe.layers / REFERENCE_LAYERS
        size = width**self.width_gain * depth**self.depth_gain
        batch = (1 + self.critical_batch / REFERENCE_BATCH) / (1 + self.critical_batch / recipe.batch)
        dropout = math.exp(-self.dropout_cost * abs(recipe.dropout - self.best_dropout))
        optimizer = self.optimizer_gain.get(recipe.optim, 1.0)
        return self._rate_share(recipe) * size * batch * dropout * optimizer

    def seconds_per_step(self, recipe: Recipe) -> float:
        """Return the training seconds of a step, without noise."""
        width, depth = recipe.width / REFERENCE_WIDTH, recipe.layers / REFERENCE_LAYERS
        size = (0.2 * width + 0.8 * depth * width**1.6) * recipe.batch / REFERENCE_BATCH
        overhead = 0.5 * self.step_seconds * (1 + depth)
        optimizer = 0.15 * self.batch_seconds * depth * width**1.6 if recipe.optim == "muon" else 0.0
        return overhead + self.batch_seconds * size + optimizer

    def shortfall(self, recipe: Recipe) -> float:
        """Return the loss that a model too small for the task keeps."""
        narrow = self.narrow_loss * max(0.0, math.log2(64 / recipe.width))
        return narrow + (self.shallow_loss if recipe.layers == 1 else 0.0)

    def is_out_of_memory(self, recipe: Recipe) -> bool:
        """Say whether a forward pass does not fit."""
        return recipe.micro_batch * recipe.width * recipe.layers > _MEMORY

    def breaks(self, recipe: Recipe) -> bool:
        """Say whether the training diverges: its learning rate is too high for its warm-up."""
        warmed_up = min(1.0, recipe.warmup / self.warmup_need) if recipe.schedule != "constant" else 0.0
        limit = _BREAKS_AT - _WARMUP_SAVES * (1 - warmed_up)
        return any(distance > limit for distance, _ in self._distances(recipe))

    def excess(self, recipe: Recipe) -> float:
        """Return the learning rate relative to the best one."""
        return math.exp(sum(share * distance for distance, share in self._distances(recipe)))

    def _rate_share(self, recipe: Recipe) -> float:
        teaching = 1.0
        for distance, share in self._distances(recipe):
            steepness = _BELOW if distance < 0 else _ABOVE
            teaching *= (1 / math.cosh(steepness * distance)) ** share
        return teaching

    def _distances(self, recipe: Recipe) -> list[tuple[float, float]]:
        """Return log distances from the best learning rate, and how much each counts: Muon has two rates."""
        moved = self.batch_exponent * math.log(recipe.batch / REFERENCE_BATCH)
        moved -= self.width_exponent * math.log(recipe.width / REFERENCE_WIDTH)
        plain = math.log(recipe.learning_rate / self.best_rate) - moved
        if recipe.optim != "muon":
            return [(plain, 1.0)]
        return [(plain, 0.3), (math.log(recipe.muon_learning_rate / self.best_muon_rate) - moved, 0.7)]


def draw_physics(generator: random.Random) -> Physics:
    """Draw the hidden numbers of a task."""

    def around(middle: float, spread: float) -> float:
        return middle * math.exp(generator.gauss(0.0, spread))

    return Physics(
        best_rate=max(_LOWEST_BEST_RATE, around(1.6e-3, 0.8)),
        best_muon_rate=around(0.02, 0.7),
        batch_exponent=generator.gauss(0.5, 0.25),
        width_exponent=generator.gauss(0.5, 0.35),
        critical_batch=around(48.0, 1.0),
        optimizer_gain={"muon": around(1.4, 0.35), "adafactor": around(0.9, 0.15), "sgd": around(0.3, 0.3)},
        width_gain=generator.gauss(0.8, 0.5),
        depth_gain=generator.gauss(0.5, 0.35),
        dropout_cost=around(3.0, 0.5),
        best_dropout=max(0.0, generator.uniform(-0.4, 0.15)),
        narrow_loss=around(0.08, 0.8),
        shallow_loss=around(0.08, 0.8),
        warmup_need=around(40.0, 0.8),
        step_seconds=around(8e-3, 0.8),
        batch_seconds=around(20e-3, 0.3),
    )
