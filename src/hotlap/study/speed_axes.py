"""Which settings a study measures step times over before it searches, as many as there is time for.

speed_axes(config, 72.0, machine)  ->  batch size: half, same, twice; precision: off, on
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from hotlap.bench.axes import BATCH_KEY, Axis
from hotlap.bench.launcher_devices import devices_of
from hotlap.config.bounds import KnobSearch, fits_total_batch, knob_roles, knob_search
from hotlap.config.knob_ranges import role_of
from hotlap.config.load import config_from_values, get_dotted
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.processes import usable_cores
from hotlap.search.pace import tokens_per_row

CELL_SECONDS: Final = 10.0
"""What a cell takes at least: a process of its own has to import torch and to build the model."""
_COMPILED_CELL_SECONDS: Final = 45.0
_FEWEST_CELLS: Final = 4
_FEWEST_COMMAND_CELLS: Final = 2
"""Of a command that has no other knob than one switch there is no more to measure."""
_MOST_VALUES: Final = 3
_BATCH: Final = "per_device_train_batch_size"
_ATTENTION: Final = ("attn_implementation", "attention")
_LONGEST_OWN_ATTENTION: Final = 512
"""Tokens of a row up to which hotlap computes attention on a CPU itself; with dropout it always does."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is known of the device before anything runs on it."""

    is_gpu: bool
    bf16_is_fast: bool
    cores: int

    @classmethod
    def of(cls, devices: Iterable[str]) -> Self:
        """Return what is known of some devices of this machine."""
        is_gpu = any(device.startswith("cuda") for device in devices)
        return cls(is_gpu, is_gpu or _cpu_has_bf16(), usable_cores())


def fewest_cells(config: RunConfig) -> int:
    """Return with how many cells a bench is worth its time."""
    return _FEWEST_CELLS if config.command is None else _FEWEST_COMMAND_CELLS


def speed_axes(config: RunConfig, room_seconds: float, machine: Machine) -> tuple[Axis, ...]:
    """Return what is worth measuring on a machine in so many seconds, what usually matters most first; none: nothing.

    Batch sizes are half and twice that of the config, all else is on and off, or what the knobs of a command may be.
    """
    if config.command is not None:
        return _single_changes(_knob_axes(config, machine), room_seconds)
    axes: list[Axis] = []
    num_cells, each = 1, CELL_SECONDS
    for axis in _own_axes(config, machine):
        larger = (CELL_SECONDS + _COMPILED_CELL_SECONDS) / 2 if axis.key == "training.torch_compile" else each
        if num_cells * len(axis.values) * larger <= room_seconds:
            axes, num_cells, each = [*axes, axis], num_cells * len(axis.values), larger
    return tuple(axes) if num_cells >= _FEWEST_CELLS else ()


def _single_changes(wanted: Iterable[Axis], room_seconds: float) -> tuple[Axis, ...]:
    """Return the axes of a command along which there is time for a change each.

    Nobody knows what a cell of it takes. Those come first, so combinations are measured as far as time is left.
    """
    axes: list[Axis] = []
    seconds = CELL_SECONDS
    for axis in wanted:
        each = _COMPILED_CELL_SECONDS if role_of(axis.key) == "torch_compile" else CELL_SECONDS
        if seconds + (len(axis.values) - 1) * each <= room_seconds:
            axes, seconds = [*axes, axis], seconds + (len(axis.values) - 1) * each
    return tuple(axes)


def _own_axes(config: RunConfig, machine: Machine) -> Iterator[Axis]:
    """Yield the axes of hotlap's own trainer, those whose values do not fit the config left out."""
    training = config.training
    rows = training.per_device_train_batch_size
    has_total = training.total_batch_size is not None or training.total_batch_tokens is not None
    wanted: list[Axis] = []
    if machine.bf16_is_fast:
        wanted.append(Axis("training.bf16", (False, True)))
    if isinstance(rows, int) and not has_total:
        wanted.append(Axis(BATCH_KEY, _sizes(rows)))
    if machine.is_gpu:
        wanted.append(Axis("training.torch_compile", (False, True)))
    if machine.cores > 1 and training.dataloader_num_workers == 0 and (machine.is_gpu or _draws_samples(config)):
        wanted.append(Axis("training.dataloader_num_workers", (0, 1)))
    if other := _other_attention(config, machine):
        wanted.append(Axis("model.attn_implementation", (None, other)))
    yield from (axis for axis in wanted if _allows(config, axis))


def _sizes(rows: int) -> tuple[int, ...]:
    return tuple(size for size in (rows // 2, rows, 2 * rows) if size)


def _draws_samples(config: RunConfig) -> bool:
    """Say whether samples are made while the training goes on; elsewhere they lie there as tokens, and cost little.

    On a GPU that little may count, too: the device waits while a batch is put together.
    """
    task: Any = config.task
    tasks = [task, *(sub.task for sub in task.tasks.values())] if task.name == "mixture" else [task]
    return config.model.name == "word_latent" or any(
        one.name == "generator" or getattr(one, "streaming", False) for one in tasks
    )


def _other_attention(config: RunConfig, machine: Machine) -> str | None:
    """Return the kernel that may beat the one chosen where the config names none; None where there is no other one.

    On a GPU torch prefers flash, and has cuDNN's beside it for bf16; in fp32 there is one kernel, and packed rows have
    one of their own. On a CPU hotlap computes short rows itself, all else is torch's.
    """
    model, training = config.model, config.training
    if not isinstance(model, GPTConfig) or model.attn_implementation is not None:
        return None
    if machine.is_gpu:
        return "cudnn" if machine.bf16_is_fast and training.padding != "packed" else None
    length = tokens_per_row(config) or model.max_position_embeddings
    return "sdpa" if model.attn_pdrop > 0 or length <= _LONGEST_OWN_ATTENTION else None


def _allows(config: RunConfig, axis: Axis) -> bool:
    """Say whether each value of an axis fits the rest of the config, and nothing in it overrules that value."""
    values = config.model_dump(mode="json")
    try:
        made = [config_from_values(values, {axis.key: value}) for value in axis.values]
    except ConfigError:
        return False
    return [get_dotted(one.model_dump(mode="json"), axis.key) for one in made] == list(axis.values)


def _knob_axes(config: RunConfig, machine: Machine) -> Iterator[Axis]:
    """Yield the axes of a command, by the meaning of its knobs and within what the study may make of them."""
    search = knob_search(config)
    names = {role or name: name for name, role in reversed(knob_roles(config).items())}
    switches = ("bf16", "tf32", "mixed_precision") if machine.is_gpu else ("bf16",) if machine.bf16_is_fast else ()
    on_gpu = ("torch_compile",) if machine.is_gpu else ()
    workers = ("dataloader_num_workers",) if machine.cores > 1 else ()
    for role in (_BATCH, *switches, *on_gpu, *workers, *_ATTENTION, "gradient_checkpointing"):
        if role in names and len(values := _knob_values(config, search, role, names[role], machine)) > 1:
            yield Axis(f"params.{names[role]}", values)


def _knob_values(config: RunConfig, search: KnobSearch, role: str, name: str, machine: Machine) -> tuple[Any, ...]:
    """Return the values of a knob that are measured: the present one, and others that the study may give it."""
    key, now = f"params.{name}", config.params[name]
    count = now if isinstance(now, int) and not isinstance(now, bool) and now >= 0 else None
    wanted: tuple[Any, ...] = ()
    if role == _BATCH and count:
        wanted = tuple(rows for rows in _sizes(count) if fits_total_batch(config, rows, devices_of(config)))
    elif role == "dataloader_num_workers" and count is not None:
        wanted = (2 * count or 2,) if 2 * count <= machine.cores else ()
    elif count is None and (parameter := search.parameters.get(key)) is not None and parameter.is_choice:
        wanted = parameter.values
    others = [one for one in wanted if one != now and search.towards(key, now, one) == one]
    others = [one for one in others if search.allows(config, {key: one})][: _MOST_VALUES - 1]
    values = [now, *others]
    return tuple(sorted(values)) if all(isinstance(value, int) for value in values) else tuple(values)


def _cpu_has_bf16() -> bool:
    path = Path("/proc/cpuinfo")
    flags = path.read_text() if path.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
