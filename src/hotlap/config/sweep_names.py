"""Match the names of a sweep to those of the config: `learning_rate` is `training.learning_rate`.

Names of the Trainer that are called otherwise here, or have no effect, go the way that they go in a config.
"""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Final

from hotlap.config.base import Section
from hotlap.config.huggingface import translate
from hotlap.config.knob_ranges import role_of
from hotlap.config.load import config_from_values
from hotlap.config.schema import CustomModelConfig, CustomTaskConfig, RunConfig
from hotlap.config.sweep_parameter import SweepParameter
from hotlap.config.sweep_settings import Remarks
from hotlap.config.trainer_yaml import TRAINING_NAMES, KeyPath
from hotlap.config.wandb_sweep import merged
from hotlap.core.errors import ConfigError, unknown_name
from hotlap.core.scores import TIME_TO_TARGET
from hotlap.core.targets import CHEAP_METRICS, GENERATION_METRICS

SWEEP_METRICS: Final = (
    *CHEAP_METRICS,
    *GENERATION_METRICS,
    "train_loss",
    "recent_train_loss",
    "tokens_per_second",
    TIME_TO_TARGET,
)
"""What a sweep of hotlap's own training can optimise; a task of the project's own may have more."""

TOLD_AT_THE_END: Final = (*GENERATION_METRICS, "recent_train_loss")
"""Metrics of a whole run: its evaluations on the clock do not have them."""
_SECTIONS: Final = ("training", "model", "task", "params")
"""Sections whose names may be written without the section, first come first."""
_OPEN_KEYS: Final = ("training.lr_scheduler_kwargs", "training.optim_args")
"""Settings that are mappings, below which any key may be set."""
_LAST: Final = ("final_", "last_")
_EVALUATED: Final = ("validation_", "valid_", "val_", "evaluation_")
_NICKNAMES: Final[Mapping[str, str]] = {
    "lr": "training.learning_rate",
    "batch_size": "training.per_device_train_batch_size",
    "epochs": "training.num_train_epochs",
    "num_epochs": "training.num_train_epochs",
    "optimizer": "training.optim",
    "scheduler": "training.lr_scheduler_type",
    "lr_scheduler": "training.lr_scheduler_type",
    "warmup": "training.warmup_steps",
}
"""What other scripts call a setting; only a hint, since it may mean something else there."""


def match_key(name: str, base: RunConfig) -> str:
    """Return the dotted key that a name stands for, with or without its section.

    Raises ConfigError with the nearest name where there is none.
    """
    keys = _config_keys(base)
    for key in (name, *(f"{section}.{name}" for section in _SECTIONS)):
        is_below = any(key.startswith(f"{start}.") for start in _OPEN_KEYS)
        is_custom = key.startswith("model.") and isinstance(base.model, CustomModelConfig) and key.count(".") == 1
        if key in keys or is_below or (is_custom and name == key):
            return key
    last = name.rpartition(".")[2]
    by_last = {key.rpartition(".")[2]: key for key in reversed(keys)}
    close = get_close_matches(last, list(by_last), n=1)
    meant = _nickname(last, base) or (by_last[close[0]] if close else None)
    raise ConfigError(f"unknown name; did you mean {meant!r}?" if meant else "unknown name; no setting is like it")


def _nickname(name: str, base: RunConfig) -> str | None:
    """Return the setting that other scripts call by a name; of a command the knob that means the same."""
    if base.command is None:
        return _NICKNAMES.get(name.lower())
    role = role_of(name)
    return next((f"params.{knob}" for knob in base.params if role and role_of(knob) == role), None)


def match_metric(name: str, base: RunConfig) -> str:
    """Return the metric that a name stands for: `final_eval_loss`, `eval/loss` and `val_loss` are `eval_loss`.

    Raises ConfigError for a name that nobody knows, and for a metric that the config's runs never have.
    """
    plain = name.replace("/", "_")
    for start in _LAST:
        plain = plain.removeprefix(start)
    for start in _EVALUATED:
        if plain.startswith(start):
            plain = f"eval_{plain.removeprefix(start)}"
    known = (*SWEEP_METRICS, *base.task_metrics)
    found = next((metric for metric in (name, plain, f"eval_{plain}") if metric in known), None)
    if base.command is not None and found != TIME_TO_TARGET:
        return name  # whatever the command prints
    if found is None:
        if isinstance(base.task, CustomTaskConfig):
            return name
        raise unknown_name("metric", name, list(known))
    if found == TIME_TO_TARGET and not base.targets:
        raise ConfigError("time_to_target needs targets in the config, such as targets: [eval_loss < 0.76]")
    if found in (*CHEAP_METRICS, *GENERATION_METRICS):
        _check_measured(found, base)
    return found


def translated(parameter: SweepParameter, place: KeyPath, remarks: Remarks) -> SweepParameter | None:
    """Return a parameter under the name and with the values that a config would have; None where nothing is left.

    Only settings of the training have other names; any other parameter is returned as it is.
    """
    name = parameter.key.removeprefix("training.")
    if name not in TRAINING_NAMES:
        return parameter
    given = parameter.values if parameter.is_choice else (parameter.value_at(0.5),)
    told = [translate({name: value}) for value in given]
    for text in dict.fromkeys(remark.text for each in told for remark in each.problems):
        remarks.refuse(place, text)
    for text in dict.fromkeys(remark.text for each in told for remark in each.notices):
        remarks.note(place, text)
    targets = {target for each in told for target in each.values}
    if any(each.problems for each in told):
        return None
    if not targets:
        if not any(each.notices for each in told):
            remarks.note(place, "asks for nothing here, and is left out")
        return None
    (target,) = targets
    if any(target not in each.values for each in told):
        remarks.refuse(place, f"some of its values ask for nothing; vary {target} itself")
        return None
    key = f"training.{target}"
    if not parameter.is_choice:
        return replace(parameter, key=key)
    values, probabilities = merged([each.values[target] for each in told], parameter.probabilities)
    return replace(parameter, key=key, values=values, probabilities=probabilities)


def translated_value(key: str, value: Any) -> Any:
    """Return what a config would have for one value of a setting."""
    name = key.removeprefix("training.")
    return translate({name: value}).values.get(name, value) if name in TRAINING_NAMES else value


def _config_keys(base: RunConfig) -> list[str]:
    """Return the dotted keys of a config, section by section."""
    if base.command is not None:
        return [f"params.{name}" for name in base.params]
    keys: list[str] = []
    for name, value in base:
        keys += [f"{name}.{key}" for key in type(value).model_fields] if isinstance(value, Section) else [name]
    return keys


def _check_measured(metric: str, base: RunConfig) -> None:
    """Raise ConfigError where the task never gives a metric, which could be no target either."""
    try:
        config_from_values(base.model_dump(mode="json"), {"targets": [f"{metric} < 1"], "training.eval_strategy": None})
    except ConfigError as error:
        _, found, reason = str(error).rpartition("targets: ")
        if found:
            raise ConfigError(reason) from error
