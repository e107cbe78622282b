"""From the options of `hotlap bench` to what is measured: the config that the cells start from, and the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hotlap.bench.axes import AUTO, BATCH_KEY, DEVICES_KEY, SWITCH, WORKERS_KEY, Axis, axes_of
from hotlap.bench.input_length import room_for
from hotlap.bench.launcher_devices import devices_of
from hotlap.bench.plan import RUNGS, BenchPlan
from hotlap.bench.setting_names import NEEDS_WORKERS, role_of, short_name
from hotlap.config.bounds import fits_total_batch, total_batch_knob
from hotlap.config.load import config_from_values, get_dotted
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.launch.devices import run_devices

_TOTALS: Final = ("total_batch_size", "total_batch_tokens")


def plan_bench(
    config: RunConfig, short: Mapping[str, str], others: Sequence[str], options: BenchPlan, notices: list[str]
) -> tuple[RunConfig, BenchPlan]:
    """Return the config that all cells start from and the plan with its axes; without any, batch sizes are found.

    What the cells have other than the config says is told in `notices`, and kept in the plan. Raises ConfigError for
    axes that cannot be read, and for a config that cannot be benched.
    """
    if config.backend != "fast":
        raise ConfigError(
            f"backend: {config.backend} is measured as a command: hotlap bench times hotlap's own loop; leave the key "
            "out, or bench the script that it comes from (docs/bench.md)"
        )
    if not short and not others:
        short = _without_axes(config, notices)
    values = config.model_dump(mode="json")
    axes = tuple(_with_switches(axis, values) for axis in axes_of(config, short, others))
    base = _base_patch(config, axes, notices)
    changed = config_from_values(values, base) if base else config
    own = {key: get_dotted(values, key) for key in base}
    return changed, replace(options, axes=axes, own=own, most_rows=_most_rows(config, axes))


def check_devices(config: RunConfig, plan: BenchPlan) -> None:
    """Raise NotSupportedError for more devices than there are, before anything is written."""
    counts = [int(value) for axis in plan.axes if axis.key == DEVICES_KEY for value in axis.values]
    run_devices(max(counts, default=config.devices), use_cpu=config.training.use_cpu)


def _without_axes(config: RunConfig, notices: list[str]) -> dict[str, str]:
    """Return the axes of a bench that is given none: batch sizes, where the batch has a name that is known."""
    if config.command is None or any(short_name(knob) == "batch" for knob in config.params):
        return {"batch": AUTO}
    notices.append(
        "the command has no knob for its batch (such as batch_size), so the config as it is, one cell, is measured; "
        "name axes with --axis params.NAME=VALUES"
    )
    return {}


def _with_switches(axis: Axis, values: Mapping[str, Any]) -> Axis:
    """Return an axis over a setting that is true or false with such values: on and off are texts in YAML."""
    try:
        is_switch = isinstance(get_dotted(values, axis.key), bool)
    except (KeyError, TypeError):
        return axis
    if not is_switch:
        return axis
    return Axis(axis.key, tuple(SWITCH.get(v.lower(), v) if isinstance(v, str) else v for v in axis.values))


def _most_rows(config: RunConfig, axes: Sequence[Axis]) -> int | None:
    """Return the largest batch of a ladder whose passes make up the step that a knob of the command holds.

    None where no knob does. Raises ConfigError for batches that do not divide such a step: what a script makes of them
    is another step, or none.
    """
    total = total_batch_knob(config) if config.command is not None else None
    rows = None if total is None else config.params[total]
    if not isinstance(rows, int) or rows < 1 or any(axis.key == f"params.{total}" for axis in axes):
        return None
    devices = 1 if any(role_of(axis.key) == "devices" for axis in axes) else devices_of(config)
    for axis in axes:
        sizes = [size for size in axis.values if isinstance(size, int) and size > 0 and role_of(axis.key) == "batch"]
        if odd := [size for size in sizes if not fits_total_batch(config, size, devices)]:
            raise ConfigError(
                f"{axis.key} {odd[0]} does not divide params.{total}, {rows}, which is the batch of a whole step; give "
                f"sizes that do, or another step with -s params.{total}=…"
            )
    return max(
        (size for size in (2**rung for rung in range(RUNGS)) if fits_total_batch(config, size, devices)), default=1
    )


def _base_patch(config: RunConfig, axes: Sequence[Axis], notices: list[str]) -> dict[str, Any]:
    """Return what every cell has other than the config."""
    if config.command is not None:
        return {}
    patch: dict[str, Any] = {}
    values = config.model_dump(mode="json")
    if any(axis.key == BATCH_KEY for axis in axes):
        given = [name for name in _TOTALS if getattr(config.training, name) is not None]
        if given:
            patch |= {f"training.{name}": None for name in given} | {BATCH_KEY: 1}
            notices.append(f"training.{given[0]} is left out: the rows of a step follow from the batch size")
    if any(axis.key == WORKERS_KEY and 0 in axis.values for axis in axes):
        idle = {key: off for key, off in NEEDS_WORKERS.items() if get_dotted(values, key) not in (None, False)}
        notices.extend(f"{key} is left out in all cells: one of them has no workers" for key in idle)
        patch |= idle
    room = room_for(config, {axis.key: axis.values for axis in axes})
    for key, value in room.items():
        notices.append(f"{key} is {value} in all cells, so that the longest inputs fit")
    return patch | room
