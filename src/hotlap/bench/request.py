"""From the options of `hotlap bench` to what is measured: the config that the cells start from, and the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hotlap.bench.axes import AUTO, BATCH_KEY, SWITCH, Axis, axes_of
from hotlap.bench.input_length import room_for
from hotlap.bench.plan import BenchPlan
from hotlap.config.load import config_from_values, get_dotted
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError

_TOTALS: Final = ("total_batch_size", "total_batch_tokens")


def plan_bench(
    config: RunConfig, short: Mapping[str, str], others: Sequence[str], options: BenchPlan, notices: list[str]
) -> tuple[RunConfig, BenchPlan]:
    """Return the config that all cells start from and the plan with its axes; without any, batch sizes are found.

    What the cells have other than the config says is told in `notices`. Raises ConfigError for axes that cannot be
    read, and for a config that cannot be benched.
    """
    if config.backend != "fast":
        raise ConfigError(
            f"backend: {config.backend} is measured as a command: hotlap bench times hotlap's own loop; leave the key "
            "out, or bench the script that it comes from (docs/bench.md)"
        )
    if not short and not others and config.command is None:
        short = {"batch": AUTO}
    values = config.model_dump(mode="json")
    axes = tuple(_with_switches(axis, values) for axis in axes_of(config, short, others))
    base = _base_patch(config, axes, notices)
    changed = config_from_values(values, base) if base else config
    return changed, replace(options, axes=axes)


def _with_switches(axis: Axis, values: Mapping[str, Any]) -> Axis:
    """Return an axis over a setting that is true or false with such values: on and off are texts in YAML."""
    try:
        is_switch = isinstance(get_dotted(values, axis.key), bool)
    except (KeyError, TypeError):
        return axis
    if not is_switch:
        return axis
    return Axis(axis.key, tuple(SWITCH.get(v.lower(), v) if isinstance(v, str) else v for v in axis.values))


def _base_patch(config: RunConfig, axes: Sequence[Axis], notices: list[str]) -> dict[str, Any]:
    """Return what every cell has other than the config."""
    if config.command is not None:
        return {}
    patch: dict[str, Any] = {}
    if any(axis.key == BATCH_KEY for axis in axes):
        given = [name for name in _TOTALS if getattr(config.training, name) is not None]
        if given:
            patch |= {f"training.{name}": None for name in given} | {BATCH_KEY: 1}
            notices.append(f"training.{given[0]} is left out: the rows of a step follow from the batch size")
    room = room_for(config, {axis.key: axis.values for axis in axes})
    for key, value in room.items():
        notices.append(f"{key} is {value} in all cells, so that the longest inputs fit")
    return patch | room
