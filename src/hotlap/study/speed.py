"""How fast steps are, measured before a study searches: a small bench in a small part of its budget.

measure_speed(study, says)                    # once, before the first run; goes on where it was stopped
with_predicted_pace(study.history, proposal)  # what a change of batch, precision … will make of a step, by the bench
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hotlap.bench.answers import Answers, answers_from, predicted_seconds
from hotlap.bench.axes import BATCH_KEY, Axis
from hotlap.bench.cells import summarise
from hotlap.bench.drive import OpenBench, conclude, find_bench, open_bench, run_bench
from hotlap.bench.plan import BenchPlan, GridCell
from hotlap.config.load import config_from_values, get_dotted
from hotlap.config.schema import RunConfig
from hotlap.core.bench_records import CellRepeat
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.processes import usable_cores
from hotlap.core.records import History, Proposal
from hotlap.policies.model_rules import STEP_KEYS
from hotlap.policies.rules import candidate_config
from hotlap.search.pace import step_seconds
from hotlap.study.study import Study

_CELL_SECONDS: Final = 10.0
"""What a cell takes at least: a process of its own has to import torch and to build the model."""
_COMPILED_CELL_SECONDS: Final = 45.0
_FEWEST_CELLS: Final = 4
_ROUNDS: Final = 3
_SAME_WORK: Final = (
    *("training.learning_rate", "training.lr_scheduler", "training.warmup", "training.weight_decay", "training.adam_"),
    *("training.max_steps", "training.num_train_epochs"),
)
"""How settings begin that change no step's work: a batch size often comes with some of them."""
_MEASURED_SECONDS: Final = 1.5


def measure_speed(study: Study, says: Callable[[str], object]) -> str:
    """Measure step times over batch size, precision and what else may matter; return `interrupted` after Ctrl-C.

    Nothing happens in a study that has runs or figures already, of a command of the user's own, or where the share of
    the budget is too short for a few cells. What could not be measured is left out: the study does without it.
    """
    room = study.config.bench.budget_ratio * study.config.budget.total
    if study.history.speed is not None or study.history.runs or study.config.command is not None:
        return ""
    bench = _going_on(study) or _begun(study, room, says)
    if bench is None:
        return ""
    bench_id = bench.folder.bench_id
    began = next(float(event.get("age", 0.0)) for event in _begun_events(study) if event["bench"] == bench_id)
    left = max(0.0, room - study.age_seconds)
    says(f"measuring step times for {left:.0f} s ({bench_id}), before anything is tried")
    ending = run_bench(study.project, bench, _Lines(study, bench_id, says), is_over=lambda: study.age_seconds > room)
    if ending == "interrupted":
        return ending
    conclude(bench)
    measured = [cell for cell in summarise(bench.folder.repeats()) if cell.is_measured]
    cells = [{"settings": dict(cell.settings), "seconds_per_step": cell.seconds_per_step} for cell in measured]
    study.note_speed({"bench": bench_id, "seconds": study.age_seconds - began, "cells": cells})
    for cell in measured:
        told = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in cell.settings.items())
        says(f"   {told}: {1e3 * cell.seconds_per_step:.1f} ms a step")
    return ""


def with_predicted_pace(history: History, proposal: Proposal) -> Proposal:
    """Return a proposal with the step time that the bench predicts, where it changes what was measured.

    Nothing is told of one that changes the work of a step in other ways, too. Where the parent's steps take longer than
    the bench's, what it has more is taken for a cost that stays. A change of the step time alone is expected to change
    the time to target by as much.
    """
    speed = history.speed
    if speed is None or not set(proposal.patch) & set(speed.keys):
        return proposal
    if any(key not in speed.keys and not key.startswith(_SAME_WORK) for key in proposal.patch):
        return proposal
    answers = history.once("answers of the bench", lambda: _answers(history))
    before = _measured_settings(candidate_config(history, proposal.parent), speed.keys)
    after = {**before, **{key: value for key, value in proposal.patch.items() if key in speed.keys}}
    seconds = [predicted_seconds(answers, settings) for settings in (before, after)]
    if seconds[0] is None or seconds[1] is None:
        return proposal
    now = step_seconds(history).get(proposal.parent, seconds[0])
    predicted = now + seconds[1] - seconds[0] if now > seconds[0] else now * seconds[1] / seconds[0]
    proposal = replace(proposal, predicted_step_seconds=predicted)
    if set(proposal.patch) <= set(STEP_KEYS):
        proposal = replace(proposal, predicted_ratio=predicted / now)
    return proposal


def speed_axes(config: RunConfig, room_seconds: float, *, is_gpu: bool, bf16_is_fast: bool) -> tuple[Axis, ...]:
    """Return what is worth measuring on a device in so many seconds, what usually matters most first; none: nothing.

    Batch sizes are half and twice that of the config, all else is on and off.
    """
    training = config.training
    rows = training.per_device_train_batch_size
    has_total = training.total_batch_size is not None or training.total_batch_tokens is not None
    wanted: list[Axis] = []
    if bf16_is_fast:
        wanted.append(Axis("training.bf16", (False, True)))
    if isinstance(rows, int) and not has_total:
        wanted.append(Axis(BATCH_KEY, tuple(size for size in (rows // 2, rows, 2 * rows) if size)))
    if is_gpu:
        wanted.append(Axis("training.torch_compile", (False, True)))
    if usable_cores() > 1 and training.dataloader_num_workers == 0 and config.task.name == "generator":
        wanted.append(Axis("training.dataloader_num_workers", (0, 1)))
    wanted = [axis for axis in wanted if _allows(config, axis)]
    axes: list[Axis] = []
    num_cells, each = 1, _CELL_SECONDS
    for axis in wanted:
        compiled = axis.key == "training.torch_compile"
        larger = (_CELL_SECONDS + _COMPILED_CELL_SECONDS) / 2 if compiled else each
        if num_cells * len(axis.values) * larger <= room_seconds:
            axes, num_cells, each = [*axes, axis], num_cells * len(axis.values), larger
    return tuple(axes) if num_cells >= _FEWEST_CELLS else ()


def _allows(config: RunConfig, axis: Axis) -> bool:
    """Say whether each value of an axis fits the rest of the config, and nothing in it overrules that value."""
    values = config.model_dump(mode="json")
    try:
        made = [config_from_values(values, {axis.key: value}) for value in axis.values]
    except ConfigError:
        return False
    return [get_dotted(one.model_dump(mode="json"), axis.key) for one in made] == list(axis.values)


def _going_on(study: Study) -> OpenBench | None:
    """Return the bench that an earlier sitting began; one that was removed, or is another machine's, begins anew."""
    begun = _begun_events(study)
    try:
        return find_bench(study.project, str(begun[-1]["bench"])) if begun else None
    except (ConfigError, StudyError):
        return None


def _begun_events(study: Study) -> list[dict[str, Any]]:
    """Return the ledger's signs of life of the bench, oldest first."""
    return [event for event in study.folder.ledger() if event["event"] == "speed_begun"]


def _begun(study: Study, room: float, says: Callable[[str], object]) -> OpenBench | None:
    if room < _FEWEST_CELLS * _CELL_SECONDS or study.config.budget.total < study.config.bench.least_budget:
        return None
    is_gpu = any(device.startswith("cuda") for device in study.devices)
    axes = speed_axes(study.config, room - study.age_seconds, is_gpu=is_gpu, bf16_is_fast=is_gpu or _cpu_has_bf16())
    if not axes:
        if speed_axes(study.config, math.inf, is_gpu=is_gpu, bf16_is_fast=is_gpu or _cpu_has_bf16()):
            says("no time to measure step times first: their share of the budget is too short (bench.budget_ratio)")
        return None
    plan = BenchPlan(axes=axes, repeats=_ROUNDS, steps=8, seconds=_MEASURED_SECONDS, limit_seconds=max(30.0, room))
    opened = open_bench(study.project, study.config, plan, is_new=True, study=study.config.name)
    study.note_speed_begun(opened.folder.bench_id)
    return opened


def _cpu_has_bf16() -> bool:
    path = Path("/proc/cpuinfo")
    flags = path.read_text() if path.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _answers(history: History) -> Answers:
    """Return what the bench answers, from what the ledger keeps of it."""
    assert history.speed is not None
    repeats = [
        CellRepeat(number, 0, cell.settings, "measured", step_seconds=(cell.seconds_per_step,))
        for number, cell in enumerate(history.speed.cells)
    ]
    return answers_from(repeats, _measured_settings(candidate_config(history, 0), history.speed.keys))


def _measured_settings(config: RunConfig, keys: tuple[str, ...]) -> Mapping[str, Any]:
    values = json.loads(config.model_dump_json())
    return {key: get_dotted(values, key) for key in keys}


class _Lines:
    """Tells of a bench as a study does: failures alone, the figures come at the end.

    Each repeat is a sign of life in the study's ledger, so that its seconds count, whatever becomes of the sitting.
    """

    def __init__(self, study: Study, bench_id: str, says: Callable[[str], object]) -> None:
        self._study, self._bench_id = study, bench_id
        self._says = says

    def says(self, text: str) -> None:
        """Say it."""
        self._says(text)

    def starts(self, cell: GridCell, repeat: int, done: int, planned: int) -> None:
        """Say nothing: a cell takes some seconds."""

    def ticks(self) -> None:
        """Say nothing."""

    def ends(self, repeat: CellRepeat) -> None:
        """Say why a cell has no figures."""
        self._study.note_speed_begun(self._bench_id)
        if not repeat.is_measured or not all(map(math.isfinite, repeat.step_seconds)):
            self._says(f"   cell {repeat.cell}: {repeat.outcome.replace('_', ' ')}: {repeat.message}")
