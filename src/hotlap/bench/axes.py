"""The axes of a bench: which settings are varied, over which values.

An axis is a dotted key of the config, or `params.NAME` of a command, with its values in the order in which they were
given. The short names (`--batch`, `--seq` …) are settings that every training has, whatever they are called in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hotlap.bench.input_length import length_key
from hotlap.bench.setting_names import SHORT_NAMES, short_name
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError

AUTO: Final = "auto"
"""In place of batch sizes: 1, 2, 4 … until it no longer fits or no longer pays."""
BATCH_KEY: Final = "training.per_device_train_batch_size"
DEVICES_KEY: Final = "devices"
WORKERS_KEY: Final = "training.dataloader_num_workers"
_OWN_KEYS: Final[Mapping[str, str]] = {
    "batch": BATCH_KEY,
    "devices": DEVICES_KEY,
    "precision": "training.bf16",
    "compile": "training.torch_compile",
    "optim": "training.optim",
    "workers": WORKERS_KEY,
    "attention": "model.attn_implementation",
}
"""The keys of hotlap's own trainer that short names stand for; `seq` depends on the task."""
_PRECISIONS: Final[Mapping[str, bool]] = {"fp32": False, "bf16": True}
SWITCH: Final[Mapping[str, bool]] = {"on": True, "off": False, "yes": True, "no": False, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting and the values that it takes; no values: batch sizes that the bench finds by itself."""

    key: str
    values: tuple[Any, ...]

    @property
    def is_auto(self) -> bool:
        """Whether the bench finds the values."""
        return not self.values


def axes_of(config: RunConfig, short: Mapping[str, str], others: Sequence[str]) -> tuple[Axis, ...]:
    """Return the axes of the options: short names with their texts, and `key=v1,v2` texts.

    Raises ConfigError with every problem: values that cannot be read, an axis that is given twice or has no place.
    """
    found: list[Axis] = []
    problems: list[str] = []
    for name, text in short.items():
        try:
            found.append(_short_axis(config, name, text))
        except ConfigError as error:
            problems.append(str(error))
    for text in others:
        try:
            found.append(_named_axis(text))
        except ConfigError as error:
            problems.append(str(error))
    keys = [axis.key for axis in found]
    problems += [
        f"{key} is an axis twice; give all its values at once" for key in dict.fromkeys(keys) if keys.count(key) > 1
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(found)


def _short_axis(config: RunConfig, name: str, text: str) -> Axis:
    """Return the axis of an option such as `--batch 1,2,4`."""
    option = f"--{name}"
    if config.command is not None:
        key = _knob_key(config, name, option)
    else:
        key = length_key(config) if name == "seq" else _OWN_KEYS[name]
    if name == "batch" and text.strip() == AUTO:
        return Axis(key, ())
    values = read_values(option, text)
    if name in ("batch", "seq", "devices") and (bad := [v for v in values if not _is_count(v)]):
        hint = " (or auto alone)" if name == "batch" else ""
        raise ConfigError(f"{option} {text!r}: expected whole numbers above 0{hint}, got {bad[0]!r}")
    if name == "workers" and (bad := [v for v in values if v != 0 and not _is_count(v)]):
        raise ConfigError(f"{option} {text!r}: expected whole numbers from 0 on, got {bad[0]!r}")
    if name == "precision":
        return Axis(key, _named_values(option, values, _PRECISIONS))
    if name == "compile":
        return Axis(key, _named_values(option, values, SWITCH))
    if name == "attention" and config.command is None:
        return Axis(key, tuple(None if value == AUTO else value for value in values))
    return Axis(key, values)


def _knob_key(config: RunConfig, name: str, option: str) -> str:
    """Return the knob of a command that a short name stands for; devices may go to its launcher instead."""
    for knob in config.params:
        if short_name(knob) == name:
            return f"params.{knob}"
    if name == "devices":
        return DEVICES_KEY
    known = ", ".join(config.params) or "none"
    raise ConfigError(
        f"{option}: the command has no knob of this meaning, such as {SHORT_NAMES[name][0]} (it has: {known}); "
        "name one with --axis params.NAME=VALUES, or give the command a place for it in command.run and params"
    )


def _named_axis(text: str) -> Axis:
    """Return the axis of `key=v1,v2`."""
    key, sign, values = text.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--axis {text!r}: write KEY=VALUE,VALUE, such as model.hidden_size=128,256")
    key = key.strip()
    if key == BATCH_KEY and values.strip() == AUTO:
        return Axis(key, ())
    return Axis(key, read_values(f"--axis {key}", values))


def read_values(option: str, text: str) -> tuple[Any, ...]:
    """Return the values of `1,2,4` or of a YAML list `[a, b]`; raises ConfigError for none, or for one given twice."""
    is_list = text.strip().startswith("[")
    if not is_list and not all(part.strip() for part in text.split(",")):
        raise ConfigError(f"{option} {text!r}: expected values with commas between them, such as 1,2,4")
    try:
        values = tuple(YAML(typ="safe").load(text if is_list else f"[{text}]"))
    except YAMLError as error:
        raise ConfigError(f"{option} {text!r}: cannot be read; write VALUE,VALUE, or a YAML list") from error
    if not values:
        raise ConfigError(f"{option} {text!r}: an empty list; an axis needs a value at least")
    if doubled := _doubled(values):
        raise ConfigError(f"{option} {text!r}: {doubled!r} is there twice")
    return values


def _doubled(values: Sequence[Any]) -> Any:
    seen: list[Any] = []
    for value in values:
        if any(type(one) is type(value) and one == value for one in seen):
            return value
        seen.append(value)
    return None


def _named_values(option: str, values: Sequence[Any], names: Mapping[str, bool]) -> tuple[bool, ...]:
    found = []
    for value in values:
        name = str(value).lower()
        if name not in names:
            raise ConfigError(f"{option}: expected {', '.join(list(names)[:2])}, got {value!r}")
        found.append(names[name])
    return tuple(found)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def combinations(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the axes that have values, the last axis changing fastest."""
    if not axes:
        yield {}
        return
    first, *rest = axes
    for value in first.values or (None,):
        for tail in combinations(rest):
            yield tail if first.is_auto else {first.key: value, **tail}
