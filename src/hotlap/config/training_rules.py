"""How settings of the training depend on each other: what one implies, and which do not go together."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hotlap.config.training_settings import TrainingSettings

_LOGGING_STEPS = 100
LESS_IS_BETTER: Final = ("loss", "perplexity", "bits_per_byte")
"""Endings of the metrics of which less is better."""


def imply(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings together with what they imply, as the Trainer has it; what is given stays."""
    values = dict(given)
    if "num_train_epochs" in values:
        values.setdefault("max_steps", -1)
    if values.get("total_batch_tokens") is not None:
        values.setdefault("per_device_train_batch_size", "auto")
    if values.get("eval_strategy") == "steps" and values.get("eval_steps") is None:
        values["eval_steps"] = values.get("logging_steps", _LOGGING_STEPS)
    if values.get("torch_compile_backend") is not None or values.get("torch_compile_mode") is not None:
        values["torch_compile"] = True
    wants_best = values.get("load_best_model_at_end") is True or values.get("save_strategy") == "best"
    if wants_best and values.get("metric_for_best_model") is None:
        values["metric_for_best_model"] = "eval_loss"
    metric = values.get("metric_for_best_model")
    if isinstance(metric, str) and values.get("greater_is_better") is None:
        values["greater_is_better"] = not metric.endswith(LESS_IS_BETTER)
    return values


def training_problems(training: TrainingSettings) -> Iterator[str]:
    """Yield what does not go together in a training section, one sentence each."""
    yield from _batch_problems(training)
    yield from _length_problems(training)
    yield from _interval_problems(training)
    yield from _order_problems(training)
    yield from _loader_problems(training)
    if training.load_best_model_at_end or training.save_strategy == "best":
        yield from _best_problems(training)


def _batch_problems(training: TrainingSettings) -> Iterator[str]:
    is_auto = training.per_device_train_batch_size == "auto"
    has_rows, has_tokens = training.total_batch_size is not None, training.total_batch_tokens is not None
    if has_rows and has_tokens:
        yield "total_batch_size and total_batch_tokens are two sizes of one batch; leave one out"
    if has_rows and not is_auto:
        yield "total_batch_size goes with per_device_train_batch_size: auto only; set gradient_accumulation_steps"
    if is_auto and not has_rows and not has_tokens:
        yield (
            "per_device_train_batch_size: auto needs total_batch_size, the examples per optimizer step that it keeps, "
            "or total_batch_tokens"
        )
    if training.gradient_accumulation_steps != 1 and has_tokens:
        yield "gradient_accumulation_steps follows from total_batch_tokens"
    elif training.gradient_accumulation_steps != 1 and is_auto:
        yield "gradient_accumulation_steps follows from total_batch_size with per_device_train_batch_size: auto"


def _length_problems(training: TrainingSettings) -> Iterator[str]:
    if training.max_steps == 0:
        yield "max_steps is at least 1, or -1 for num_train_epochs"
    if training.schedule_by == "tokens" and training.max_tokens is None:
        yield "schedule_by: tokens needs max_tokens, where the schedule ends"
    if training.schedule_by != "tokens" and training.max_tokens is not None:
        yield "max_tokens goes with schedule_by: tokens only"
    if training.schedule_by != "steps" and training.warmup_steps >= 1:
        yield (
            f"warmup_steps {training.warmup_steps:g} counts steps, but schedule_by is {training.schedule_by}; write "
            "the warm-up as a fraction below 1"
        )


def _interval_problems(training: TrainingSettings) -> Iterator[str]:
    intervals = {
        "logging_steps": training.logging_steps,
        "eval_steps": training.eval_steps,
        "save_steps": training.save_steps,
    }
    for name, value in intervals.items():
        if value is None:
            continue
        if value > 1 and value != int(value):
            yield f"{name} is whole or, below 1, a fraction of max_steps, got {value:g}"
        if value < 1 and training.schedule_by != "steps":
            yield f"{name} {value:g} is a fraction of max_steps, but schedule_by is {training.schedule_by}; count steps"


def _order_problems(training: TrainingSettings) -> Iterator[str]:
    is_grouped = training.group_by_length or training.train_sampling_strategy == "group_by_length"
    is_sequential = training.train_sampling_strategy == "sequential"
    if training.group_by_length and is_sequential:
        yield "group_by_length and train_sampling_strategy: sequential are two orders; leave one out"
    if training.padding == "bucketed" and is_sequential:
        yield "padding: bucketed and train_sampling_strategy: sequential are two orders; leave one out"
    if training.padding == "packed" and (is_grouped or is_sequential):
        yield "padding: packed fills its rows in an order of its own; leave the sampling strategy out"


def streaming_problems(training: TrainingSettings) -> Iterator[str]:
    """Yield what cannot be asked of a training whose text still comes while it runs."""
    strategies = ("eval_strategy", "save_strategy", "logging_strategy")
    if training.max_steps == -1:
        yield "training.num_train_epochs counts passes over a text that is not all there; set training.max_steps"
    for name in strategies:
        if getattr(training, name) == "epoch":
            yield f"training.{name}: epoch counts passes over a text that is not all there; count steps"
    is_grouped = training.group_by_length or training.train_sampling_strategy == "group_by_length"
    if training.padding in ("packed", "bucketed") or is_grouped:
        yield "training sorts or packs examples that are not all there; leave padding and the sampling strategy out"
    if training.per_device_train_batch_size == "auto":
        yield "training.per_device_train_batch_size: auto tries batches of text that is not there yet; give a number"


def _loader_problems(training: TrainingSettings) -> Iterator[str]:
    if training.dataloader_num_workers:
        return
    if training.dataloader_prefetch_factor is not None:
        yield "dataloader_prefetch_factor needs dataloader_num_workers above 0"
    if training.dataloader_persistent_workers:
        yield "dataloader_persistent_workers needs dataloader_num_workers above 0"


def _best_problems(training: TrainingSettings) -> Iterator[str]:
    key = "load_best_model_at_end" if training.load_best_model_at_end else "save_strategy: best"
    if training.eval_strategy == "no":
        yield f"{key} needs evaluations, but eval_strategy is no"
        return
    if training.save_strategy == "best":
        return
    evaluates = training.eval_strategy or ("steps" if training.eval_steps is not None else None)
    if evaluates != training.save_strategy:
        yield (
            "load_best_model_at_end needs a checkpoint of the best evaluation; write save_strategy: best, or the same "
            "for eval_strategy and save_strategy"
        )
    elif evaluates == "steps" and not _is_multiple(training.save_steps, training.eval_steps):
        yield (
            f"load_best_model_at_end needs save_steps to be a multiple of eval_steps, got {training.save_steps} and "
            f"{training.eval_steps}; or write save_strategy: best"
        )


def _is_multiple(save_steps: float | None, eval_steps: float | None) -> bool:
    if save_steps is None or eval_steps is None or (save_steps < 1) != (eval_steps < 1):
        return False
    ratio = save_steps / eval_steps
    return round(ratio) >= 1 and math.isclose(ratio, round(ratio), rel_tol=1e-9)
