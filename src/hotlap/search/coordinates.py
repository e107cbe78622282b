"""The coordinates in which training recipes are searched.

Raw settings interact: a larger batch wants a larger learning rate and fewer steps. So the search does not move them but

    examples_per_step         examples of one optimizer step (tokens per step, up to the task's tokens per row)
    learning_rate_ratio       learning_rate / (the optimizer's usual rate · √(examples_per_step / 32 · 128 / width))
    muon_learning_rate_ratio  the same for the matrices that Muon updates
    horizon_seconds           where the learning-rate schedule ends, on the training clock
    warmup_steps              steps of warm-up, wherever the schedule ends

and optimizer, kind of schedule and shape, which need no translation. What hardly interacts (clipping, weight decay,
betas, precision, …) is left to the rules, which change one thing at a time. Parts of the project's own stay.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hotlap.config.base import is_part
from hotlap.config.models import is_free_gpt
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.search.pace import examples_per_step
from hotlap.search.patches import patch_to
from hotlap.search.recipes import (
    HORIZON_RANGE,
    LONGEST_HORIZON,
    USUAL_MUON_RATE,
    Frame,
    has_horizon,
    horizon_seconds,
    optimizer_class,
    rate_scale,
    warmup_steps,
)
from hotlap.search.space import Choice, Dimension, Number, Point, Space

_WIDEST_RATE: Final = 30.0
_GOVERNED: Final = {
    "model": ("num_hidden_layers", "hidden_size", "num_attention_heads"),
    "training": (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "total_batch_size",
        "total_batch_tokens",
        "learning_rate",
        "muon_learning_rate",
        "schedule_by",
        "max_steps",
        "max_tokens",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_steps",
        "warmup_ratio",
        "optim",
        "optim_args",
        "seed",
        "data_seed",
    ),
}
"""The settings that the coordinates stand for, and the seeds."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A space of recipes around a parent config."""

    frame: Frame
    space: Space

    def point(self, config: RunConfig, seconds_per_step: float) -> dict[str, Any]:
        """Return where a config lies, within the bounds; `seconds_per_step` is its own."""
        return self.space.clip(_values(self.frame, config, seconds_per_step))

    def patch(self, point: Point) -> dict[str, Any]:
        """Return the dotted keys that bring the parent to a point; empty when they are as good as the same."""
        return patch_to(self.frame, point)


def make_coordinates(frame: Frame, configs: Sequence[RunConfig]) -> Coordinates:
    """Return the space around the frame's parent, wide enough for all configs that were tried."""
    return Coordinates(frame, Space(tuple(_dimensions(frame, [frame.base, frame.parent, *configs]))))


def rest_of(config: RunConfig) -> str:
    """Return everything of a config that is no coordinate: two configs with one rest differ in their points only."""
    values = config.model_dump(mode="json")
    kept = {
        section: {name: value for name, value in values[section].items() if name not in governed}
        for section, governed in _GOVERNED.items()
    }
    if isinstance(config.model, GPTConfig):
        kept["model"]["head_size"] = config.model.hidden_size // config.model.num_attention_heads
    return json.dumps(kept, sort_keys=True)


def _dimensions(frame: Frame, configs: Sequence[RunConfig]) -> Iterator[Dimension]:
    training = frame.parent.training
    own = [frame.base, frame.parent]  # bounds that followed whatever was tried would run away
    examples = [examples_per_step(config) for config in own]
    yield _rate("learning_rate_ratio", [_rate_ratio(frame, config) for config in own])
    yield Number(
        name="examples_per_step",
        low=max(1, math.floor(min(examples) / 8)),
        high=8 * max(examples),
        is_log=True,
        is_whole=True,
        prior=examples_per_step(frame.parent),
        spread=0.15,
    )
    if has_horizon(frame.parent):
        yield from _schedule_dimensions(frame, configs)
    if not is_part(training.optim):
        known = {optimizer_class(config.training.optim) for config in configs} - {""}
        muon = {"muon"} if is_free_gpt(frame.parent.model) else set()
        optimizers = tuple(sorted(known | muon | {"adamw"}))
        yield Choice(name="optim", values=optimizers, prior=optimizer_class(training.optim))
        yield _rate("muon_learning_rate_ratio", [_muon_rate_ratio(config) for config in own])
    if is_free_gpt(frame.parent.model):
        yield from _shape_dimensions(frame.parent.model, own)


def _rate(name: str, own: Sequence[float]) -> Number:
    """Return a rate around the usual one; what the study has of its own lies within."""
    low, high = min(1 / _WIDEST_RATE, *own), max(_WIDEST_RATE, *own)
    return Number(name=name, low=low, high=high, is_log=True, prior=1.0, spread=0.15)


def _rate_ratio(frame: Frame, config: RunConfig) -> float:
    return config.training.learning_rate / (frame.usual_rate(config) * rate_scale(config))


def _muon_rate_ratio(config: RunConfig) -> float:
    return config.training.muon_learning_rate / (USUAL_MUON_RATE * rate_scale(config))


def _schedule_dimensions(frame: Frame, configs: Sequence[RunConfig]) -> Iterator[Dimension]:
    reference = frame.reference_seconds
    yield Number(
        name="horizon_seconds",
        low=HORIZON_RANGE[0] * reference,
        high=LONGEST_HORIZON * reference,
        is_log=True,
        prior=0.8 * reference,
        spread=0.05,
    )
    seen = {config.training.lr_scheduler_type for config in configs}
    kinds = {"linear", "cosine", "constant_with_warmup", *(kind for kind in seen if not is_part(kind))}
    yield Choice(name="lr_scheduler_type", values=tuple(sorted(kinds)), prior="linear")
    steps = frame.reference_steps
    most = max(
        50, math.ceil(steps), *(math.ceil(warmup_steps(config, _step_seconds(frame, config))) for config in configs)
    )
    yield Number(name="warmup_steps", low=1, high=most, is_log=True, prior=0.05 * steps, spread=0.15)


def _shape_dimensions(model: GPTConfig, configs: Sequence[RunConfig]) -> Iterator[Dimension]:
    models = [config.model for config in configs if isinstance(config.model, GPTConfig)]
    layers, widths = [each.num_hidden_layers for each in models], [each.hidden_size for each in models]
    yield Number(
        name="num_hidden_layers",
        low=1,
        high=2 * max(layers),
        is_whole=True,
        prior=model.num_hidden_layers,
        spread=0.15,
    )
    yield Number(
        name="hidden_size",
        low=max(1, math.floor(min(widths) / 2)),
        high=math.ceil(1.5 * max(widths)),
        is_log=True,
        is_whole=True,
        prior=model.hidden_size,
        spread=0.15,
    )


def _values(frame: Frame, config: RunConfig, seconds_per_step: float) -> dict[str, Any]:
    """Return every coordinate of a config, also those that a space may not have."""
    training, model = config.training, config.model
    layers, width = (model.num_hidden_layers, model.hidden_size) if isinstance(model, GPTConfig) else (1, 1)
    return {
        "learning_rate_ratio": _rate_ratio(frame, config),
        "muon_learning_rate_ratio": _muon_rate_ratio(config),
        "examples_per_step": examples_per_step(config),
        "horizon_seconds": horizon_seconds(config, seconds_per_step),
        "lr_scheduler_type": training.lr_scheduler_type,
        "warmup_steps": warmup_steps(config, seconds_per_step),
        "optim": optimizer_class(training.optim),
        "num_hidden_layers": layers,
        "hidden_size": width,
    }


def _step_seconds(frame: Frame, config: RunConfig) -> float:
    return frame.pace.seconds_per_step_of(config)
