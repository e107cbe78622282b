"""What the rival searchers may change in a simulated task: the settings that matter, each with a range."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["log", "linear", "log_integer", "integer", "choice"]

WIDTHS: Final = (32, 64, 96, 128, 192, 256, 384)
_PRIOR_SPREAD: Final = 0.2
"""Standard deviation of the expert's guess, as a share of the range."""
_PRIOR_STAYS: Final = 0.5
"""Chance that the expert leaves a choice as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One setting and its range."""

    kind: Kind
    keys: tuple[str, ...]
    """Dotted config keys that take the value."""
    low: float = 0.0
    high: float = 1.0
    choices: tuple[Any, ...] = ()

    def draw(self, generator: random.Random) -> Any:
        """Return a value from anywhere in the range."""
        if self.kind == "choice":
            return generator.choice(self.choices)
        return self.at(generator.random())

    def draw_near(self, value: Any, generator: random.Random) -> Any:
        """Return a value as an expert would guess it who knows one that works."""
        if self.kind == "choice":
            return value if generator.random() < _PRIOR_STAYS else generator.choice(self.choices)
        share = self.share(value) + generator.gauss(0.0, _PRIOR_SPREAD)
        return self.at(min(1.0, max(0.0, share)))

    def at(self, share: float) -> Any:
        """Return the value at a share of the range."""
        if self.kind in ("log", "log_integer"):
            value = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(self.high, max(self.low, value))
        return round(value) if self.kind in ("integer", "log_integer") else value

    def within(self, value: Any) -> Any:
        """Return the value, or the bound that it lies beyond."""
        return value if self.kind == "choice" else type(value)(min(self.high, max(self.low, value)))

    def share(self, value: float) -> float:
        """Return where in the range a value lies."""
        if self.kind in ("log", "log_integer"):
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


Space = Mapping[str, Parameter]

_TRAINING: Final[dict[str, Parameter]] = {
    "learning_rate": Parameter(kind="log", keys=("training.learning_rate",), low=1e-4, high=3e-2),
    "muon_learning_rate": Parameter(kind="log", keys=("training.muon_learning_rate",), low=2e-3, high=0.2),
    "batch": Parameter(
        kind="choice", keys=("training.per_device_train_batch_size",), choices=(4, 8, 16, 32, 64, 128, 256)
    ),
    "optim": Parameter(
        kind="choice", keys=("training.optim",), choices=("adamw_torch_fused", "muon", "adafactor", "sgd")
    ),
    "warmup_steps": Parameter(kind="log_integer", keys=("training.warmup_steps",), low=1, high=1000),
    "width": Parameter(kind="choice", keys=("model.hidden_size",), choices=WIDTHS),
    "layers": Parameter(kind="integer", keys=("model.num_hidden_layers",), low=1, high=6),
    "dropout": Parameter(
        kind="linear", keys=("model.embd_pdrop", "model.attn_pdrop", "model.resid_pdrop"), low=0.0, high=0.3
    ),
}
WITHOUT_HORIZON: Final[Space] = _TRAINING
WITH_HORIZON: Final[Space] = {
    **_TRAINING,
    "max_steps": Parameter(kind="log_integer", keys=("training.max_steps",), low=300, high=30_000),
}


def patch_of(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config patch of named values."""
    return {key: values[name] for name, parameter in space.items() for key in parameter.keys if name in values}


def values_of(space: Space, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named values of a config's plain values."""
    found = {}
    for name, parameter in space.items():
        section, key = parameter.keys[0].split(".")
        found[name] = config[section][key]
    return found
