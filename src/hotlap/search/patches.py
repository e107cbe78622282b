"""From a point of the search space to the settings to change: rounded, and only what really differs.

A number that would move by a few percent stays as it is, so that a diff shows what was meant and a kept change carries
no barnacles.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from hotlap.config.models import is_free_gpt
from hotlap.config.schema import RunConfig
from hotlap.search.curves import CONSTANT_SCHEDULES
from hotlap.search.pace import examples_per_step, tokens_per_row
from hotlap.search.recipes import (
    USUAL_MUON_RATE,
    WITHOUT_WARMUP,
    Frame,
    horizon_seconds,
    optimizer_class,
    rate_scale,
    warmup_steps,
)
from hotlap.search.space import Point

Patch = dict[str, Any]

SAME_RATE: Final = 0.04
"""Rates that differ by less than this share are the same; the others move in larger steps."""
SAME_LENGTH: Final = 0.08
SAME_BATCH: Final = 0.2
SAME_WARMUP: Final = 0.3
LONGEST_WARMUP: Final = 0.2
FEW_STEPS: Final = 3
_LEAST_STEPS: Final = 20
_LENGTHS: Final = frozenset({"num_decay_steps", "num_stable_steps", "at", "smooth"})
"""Arguments of schedules that count steps."""


def patch_to(frame: Frame, point: Point) -> Patch:
    """Return the dotted keys that bring the parent to a point; empty when they are as good as the same."""
    patch: Patch = {}
    for part in (_batch, _shape, _optimizer, _schedule, _rates):
        found = part(frame, point, patch)
        patch |= {key: value for key, value in found.items() if value != _now(frame.parent, key)}
    return patch


def _batch(frame: Frame, point: Point, patch: Patch) -> Patch:
    """Return examples per step in passes that fit."""
    parent, training = frame.parent, frame.parent.training
    examples = _even(point["examples_per_step"] / parent.devices) * parent.devices
    if math.isclose(examples, examples_per_step(parent), rel_tol=SAME_BATCH):
        return {}
    if training.total_batch_tokens is not None:
        return {"training.total_batch_tokens": examples * (tokens_per_row(parent) or 1)}
    if training.per_device_train_batch_size == "auto":
        return {"training.total_batch_size": examples}
    rows, accumulation = examples // parent.devices, 1
    while rows > frame.micro_batch_limit and rows > 1:
        rows, accumulation = (rows + 1) // 2, 2 * accumulation
    return {"training.per_device_train_batch_size": rows, "training.gradient_accumulation_steps": accumulation}


def _shape(frame: Frame, point: Point, patch: Patch) -> Patch:
    """Return layers, and a width of whole heads of the parent's size."""
    model = frame.parent.model
    if not is_free_gpt(model):
        return {}
    found: Patch = {}
    if (layers := int(point["num_hidden_layers"])) != model.num_hidden_layers:
        found["model.num_hidden_layers"] = layers
    head_size = model.hidden_size // model.num_attention_heads
    heads = max(1, round(point["hidden_size"] / head_size))
    if heads != model.num_attention_heads:
        found |= {"model.hidden_size": heads * head_size, "model.num_attention_heads": heads}
    return found


def _optimizer(frame: Frame, point: Point, patch: Patch) -> Patch:
    training = frame.parent.training
    chosen = point.get("optim")
    if chosen is None or chosen == optimizer_class(training.optim):
        return {}
    found: Patch = {"training.optim": "adamw_torch_fused" if chosen == "adamw" else chosen}
    if training.optim_args:
        found["training.optim_args"] = None  # they were for the optimizer before
    return found


def _schedule(frame: Frame, point: Point, patch: Patch) -> Patch:
    """Return kind, end and warm-up of the schedule."""
    training = frame.parent.training
    if "horizon_seconds" not in point:
        return {}
    found: Patch = {}
    kind = point["lr_scheduler_type"]
    if kind != training.lr_scheduler_type:
        found["training.lr_scheduler_type"] = kind
        found["training.lr_scheduler_kwargs"] = {}
    if kind not in CONSTANT_SCHEDULES:
        found |= _end_of_schedule(frame, point["horizon_seconds"], kind, patch)
    if kind not in WITHOUT_WARMUP:
        found |= _warmup(frame, point["warmup_steps"], found)
    return found


def _warmup(frame: Frame, wanted: float, schedule: Patch) -> Patch:
    """Return the warm-up in steps, no more than a fifth of the schedule; a few steps are none."""
    training = frame.parent.training
    if schedule.get("training.schedule_by", training.schedule_by) != "steps":
        return {}
    end = schedule.get("training.max_steps", training.max_steps)
    steps = float(round(min(wanted, LONGEST_WARMUP * end if end > 0 else wanted)))
    steps = steps if steps > FEW_STEPS else 0.0
    now = warmup_steps(patched(frame.parent, schedule), math.nan)
    if math.isclose(steps, now, rel_tol=SAME_WARMUP, abs_tol=FEW_STEPS):
        return {}
    return {"training.warmup_steps": steps, "training.warmup_ratio": 0.0}


def _end_of_schedule(frame: Frame, seconds: float, kind: str, patch: Patch) -> Patch:
    """Return the steps to the end, which move with the time of a step.

    No schedule is made longer than the incumbent's time; a parent whose own is longer keeps it where more is asked for.
    """
    training = frame.parent.training
    step_seconds = frame.pace.seconds_per_step_of(patched(frame.parent, patch))
    if seconds > frame.reference_seconds:
        own = horizon_seconds(frame.parent, frame.pace.seconds_per_step_of(frame.parent))
        if own > frame.reference_seconds:
            return {}
        seconds = frame.reference_seconds
    steps = max(_LEAST_STEPS, round(float(f"{seconds / step_seconds:.2g}")))
    if training.schedule_by != "steps":
        return {"training.schedule_by": "steps", "training.max_steps": steps}
    if math.isclose(steps, training.max_steps, rel_tol=SAME_LENGTH):
        return {}
    return {"training.max_steps": steps, **_scaled_arguments(frame.parent, kind, steps)}


def _scaled_arguments(parent: RunConfig, kind: str, steps: int) -> Patch:
    """Return the arguments of an unchanged kind of schedule, those that count steps in proportion to its new end."""
    training, arguments = parent.training, parent.training.lr_scheduler_kwargs
    counted = [key for key in arguments if key in _LENGTHS and arguments[key] >= 1]
    if kind != training.lr_scheduler_type or training.max_steps <= 0 or not counted:
        return {}
    moved = {key: max(1, round(arguments[key] * steps / training.max_steps)) for key in counted}
    return {"training.lr_scheduler_kwargs": {**arguments, **moved}}


def _rates(frame: Frame, point: Point, patch: Patch) -> Patch:
    """Return learning rates for the batch, the width and the optimizer of the patch."""
    child, now = patched(frame.parent, patch), frame.parent.training
    rates = {"learning_rate": point["learning_rate_ratio"] * frame.usual_rate(child) * rate_scale(child)}
    if child.training.optim == "muon" and "muon_learning_rate_ratio" in point:
        rates["muon_learning_rate"] = point["muon_learning_rate_ratio"] * USUAL_MUON_RATE * rate_scale(child)
    return {
        f"training.{name}": float(f"{value:.3g}")
        for name, value in rates.items()
        if not math.isclose(value, getattr(now, name), rel_tol=SAME_RATE)
    }


def _now(config: RunConfig, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def patched(config: RunConfig, patch: Mapping[str, Any]) -> RunConfig:
    """Return a config with what is patched so far, unchecked: only its numbers are read."""
    changes: dict[str, Patch] = {"model": {}, "training": {}}
    for key, value in patch.items():
        section, name = key.split(".")
        changes[section][name] = value
    model = config.model.model_copy(update=changes["model"])
    training = config.training.model_copy(update=changes["training"])
    return config.model_copy(update={"model": model, "training": training})


def _even(value: float) -> int:
    """Return the power of two, or the number halfway between two, that is nearest on a logarithmic scale."""
    wanted = max(1.0, value)
    power = 2.0 ** math.floor(math.log2(wanted))
    sizes = [size for size in (power, 1.5 * power, 2 * power) if size == int(size)]
    return int(min(sizes, key=lambda size: abs(math.log(size / wanted))))
