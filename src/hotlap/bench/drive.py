"""Run a bench from its plan to its end: one repeat after the other, each written down before the next one starts.

bench = open_bench(project, config, plan)
ending = run_bench(project, bench, screen)
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import hotlap
from hotlap.bench.axes import DEVICES_KEY
from hotlap.bench.cell_process import bench_mark, measure_cell
from hotlap.bench.command_cell import CUT_STEPS, command_config, measure_command
from hotlap.bench.made_with import changes, made_with
from hotlap.bench.plan import BenchPlan, GridCell, cells_of, next_repeat, planned_repeats
from hotlap.bench.summary import Written, write_summary
from hotlap.config.load import config_from_values, config_text, get_dotted, load_config
from hotlap.config.schema import RunConfig
from hotlap.core.bench_folder import BenchFolder, bench_folders
from hotlap.core.bench_records import CellRepeat
from hotlap.core.containers import stop_containers
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.processes import processor_name
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.devices import devices_notice, run_devices
from hotlap.launch.gpu import GpuReader
from hotlap.launch.locks import bench_lock, device_lock
from hotlap.launch.prepare import prepare_data
from hotlap.launch.sessions import kill_session, run_mark

SCHEMA: Final = "hotlap/bench-plan/1"
Ending = Literal["done", "interrupted"]


class BenchScreen(Protocol):
    """What a bench tells while it goes on."""

    def says(self, text: str) -> None:
        """Take a line that lasts."""

    def starts(self, cell: GridCell, repeat: int, done: int, planned: int) -> None:
        """Take note of the repeat that begins: so many are done, of so many that are planned."""

    def ticks(self) -> None:
        """Take a moment while a repeat goes on."""

    def ends(self, repeat: CellRepeat) -> None:
        """Take note of the repeat that has ended."""


@dataclass(frozen=True, slots=True)
class OpenBench:
    """A bench that can go on: its folder, what its cells start from, and its plan."""

    folder: BenchFolder
    config: RunConfig
    plan: BenchPlan
    notice: str = ""
    """Why it begins anew where the same command had a bench that could have gone on."""

    def config_of(self, settings: Mapping[str, Any]) -> RunConfig:
        """Return the config of a cell; raises ConfigError for settings that do not fit together."""
        told = ", ".join(f"{key} {value}" for key, value in settings.items())
        source = f"the cell {told or 'of the config'}"
        config = config_from_values(self.config.model_dump(mode="json"), settings, source)
        if config.command is None:
            _refuse_overruled(config, settings, source)
        return command_config(config, settings)


def _refuse_overruled(config: RunConfig, settings: Mapping[str, Any], source: str) -> None:
    """Raise ConfigError for a switch that something else in the config turns over."""
    values = config.model_dump(mode="json")
    for key, value in settings.items():
        found = get_dotted(values, key)
        if isinstance(value, bool) and found is not value:
            raise ConfigError(f"{source}: another setting of the config makes {key} {found}; leave that one out")


def open_bench(
    project: ProjectFolder, config: RunConfig, plan: BenchPlan, *, is_new: bool = False, study: str = ""
) -> OpenBench:
    """Return a new bench, or the last one of the project where that is the same and did not come to its end.

    `study` is the one that it belongs to: only who names such a bench means it. Where the code of its steps or torch
    has changed meanwhile, a new one begins, and its notice says what has.

    Raises ConfigError, before anything is written, for a cell whose settings do not fit together.
    """
    identity, notice = _identity(config, plan), ""
    sources = made_with(config, plan, project.project)
    last = bench_folders(project.benches_path)[-1:]
    if last and not is_new and last[0].plan_path.is_file():
        stored = last[0].plan()
        if stored.get("identity") == identity and next_repeat(plan, last[0].repeats()) is not None:
            opened = _checked(OpenBench(last[0], config, plan), stored)
            changed = "; ".join(changes(stored.get("made_with") or {}, sources))
            if not changed:
                return opened
            notice = f"{last[0].bench_id} does not go on, since its figures would be mixed with others: {changed}"
    _check_cells(config, plan)
    folder = BenchFolder.create(project.benches_path)
    folder.write_config(config_text(config))
    cells = [] if plan.auto_key else cells_of(plan, ())
    folder.write_plan(
        {
            "schema": SCHEMA,
            "bench": folder.bench_id,
            "name": config.name,
            "study": study,
            "identity": identity,
            "made_with": sources,
            **plan.to_json(),
            "cells": [{"cell": cell.number, "settings": dict(cell.settings)} for cell in cells],
            "order": _whole_order(plan),
            "is_command": config.command is not None,
            "machine": _machine_facts(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    return OpenBench(folder, config, plan, notice and f"{notice}. {folder.bench_id} begins anew")


def find_bench(project: ProjectFolder, name: str | None) -> OpenBench:
    """Return a bench of the project by its id, or the last one that did not come to its end.

    Raises StudyError where there is none, or where it would go on on another machine, with other code or another torch.
    """
    folders = bench_folders(project.benches_path)
    if name is not None:
        folders = [folder for folder in folders if folder.bench_id == name]
    for folder in reversed(folders):
        if not folder.plan_path.is_file():
            continue  # it was killed before it had written down what it was to do
        if name is None and folder.plan().get("study"):
            continue
        plan = BenchPlan.from_json(folder.plan())
        is_open = next_repeat(plan, folder.repeats()) is not None
        if name is not None or is_open:
            opened = _checked(OpenBench(folder, load_config(folder.config_path), plan), folder.plan())
            return refuse_other_code(opened, project.project) if is_open else opened
    what = f"no bench {name}" if name is not None else "no bench that could go on"
    known = ", ".join(folder.bench_id for folder in bench_folders(project.benches_path)) or "none"
    raise StudyError(f"{project.benches_path}: {what} (there: {known}); start one with hotlap bench CONFIG")


def run_bench(
    project: ProjectFolder,
    bench: OpenBench,
    screen: BenchScreen,
    seconds_left: Callable[[], float] = lambda: math.inf,
) -> Ending:
    """Measure what is left of a bench, until that is all, no time is left or Ctrl-C; what was measured by then is kept.

    A repeat for which the time does not suffice is broken off and leaves no trace, though it took a few steps.

    Raises StudyError when another process drives it, NotSupportedError for more devices than there are.
    """
    most = max((int(value) for value in _values(bench.plan, DEVICES_KEY)), default=bench.config.devices)
    devices = run_devices(most, use_cpu=bench.config.training.use_cpu)
    for notice in filter(None, (bench.notice, devices_notice(most, devices))):
        screen.says(f"note: {notice}")
    with bench_lock(bench.folder), device_lock(devices, screen.says):
        _end_forgotten(bench.folder)
        try:
            _prepare(project, bench, screen)
            _measure_all(project, bench, screen, seconds_left)
        except KeyboardInterrupt:
            return "interrupted"
    return "done"


def _measure_all(
    project: ProjectFolder, bench: OpenBench, screen: BenchScreen, seconds_left: Callable[[], float]
) -> None:
    while (left := seconds_left()) > 0:
        done = bench.folder.repeats()
        following = next_repeat(bench.plan, done)
        if following is None:
            return
        cell, number = following
        screen.starts(cell, number, len(done), planned_repeats(bench.plan, done))
        config = bench.config_of(cell.settings)
        measure = measure_cell if config.command is None else measure_command
        plan = replace(bench.plan, limit_seconds=min(bench.plan.limit_seconds, left))
        repeat = measure(bench.folder, config, following, plan, project, tick=screen.ticks)
        if left < bench.plan.limit_seconds and _is_cut_short(repeat, bench):
            return  # the time was over, which says nothing of the cell
        bench.folder.append(repeat)
        screen.ends(repeat)


def _is_cut_short(repeat: CellRepeat, bench: OpenBench) -> bool:
    """Say whether a time limit ended a repeat before it had the steps of a whole one."""
    taken = float(len(repeat.step_seconds))
    if bench.config.command is not None:  # one of its times may stand for many steps
        taken = repeat.evidence.get(CUT_STEPS, math.inf)
    return repeat.outcome == "timed_out" or (repeat.is_measured and taken < bench.plan.steps)


def _prepare(project: ProjectFolder, bench: OpenBench, screen: BenchScreen) -> None:
    """Prepare the data of all cells, so that none of them does it within its time limit."""
    seen: set[str] = set()
    for settings in bench.plan.ladders:
        config = bench.config_of({**_smallest(bench.plan), **settings})
        about = json.dumps([config.task.model_dump(mode="json"), config.tokenizer.model_dump(mode="json")])
        if about not in seen:
            seen.add(about)
            screen.says(f"{config.subject}: {prepare_data(project, config)}")


def _end_forgotten(folder: BenchFolder) -> None:
    """End what a killed driver left running: it would share the device."""
    kill_session(None, bench_mark(folder))
    runs = sorted(folder.runs_path.iterdir()) if folder.runs_path.is_dir() else []
    for path in runs[-1:]:
        kill_session(None, run_mark(RunFolder(path)))
        stop_containers(RunFolder(path).containers_path)


def conclude(bench: OpenBench) -> Written:
    """Write the answers of a bench into its folder, also of one that was stopped, and return them."""
    done = bench.folder.repeats()
    sizes = [repeat.evidence["device_memory_bytes"] for repeat in done if "device_memory_bytes" in repeat.evidence]
    known = {"num_repeats": planned_repeats(bench.plan, done), "memory_bytes": int(min(sizes)) if sizes else None}
    bench.folder.write_plan({**bench.folder.plan(), **known})
    return write_summary(bench.folder)


def _machine_facts() -> dict[str, Any]:
    """Return what must be the same where a bench goes on: its figures are compared with each other."""
    reader = GpuReader()
    try:
        return {"processor": processor_name(), "gpus": reader.names(), "hotlap": hotlap.__version__}
    finally:
        reader.close()


def _checked(bench: OpenBench, stored: Mapping[str, Any]) -> OpenBench:
    """Return a bench that goes on; raises StudyError where the machine is another one."""
    before, now = stored.get("machine") or {}, _machine_facts()
    changed = [f"{key} {before[key]!r} is now {now[key]!r}" for key in now if key in before and before[key] != now[key]]
    if changed:
        raise StudyError(
            f"{bench.folder.bench_id} was begun elsewhere ({'; '.join(changed)}), so its figures cannot be compared "
            "with new ones; start another bench with --new"
        )
    return bench


def refuse_other_code(bench: OpenBench, directory: Path) -> OpenBench:
    """Return a bench whose steps still run what they ran when it began; raises StudyError where they do not."""
    before = bench.folder.plan().get("made_with") or {}
    if changed := "; ".join(changes(before, made_with(bench.config, bench.plan, directory))):
        raise StudyError(
            f"{bench.folder.bench_id} cannot go on, since its figures would be mixed with others: {changed}; undo "
            "that, or begin anew: the same command without --resume"
        )
    return bench


def _check_cells(config: RunConfig, plan: BenchPlan) -> None:
    """Raise ConfigError for the first cell whose settings do not fit together."""
    probe = OpenBench(BenchFolder(Path()), config, plan)  # nothing is written
    for settings in plan.ladders:
        probe.config_of({**_smallest(plan), **settings})


def _smallest(plan: BenchPlan) -> dict[str, Any]:
    return {plan.auto_key: 1} if plan.auto_key is not None else {}


def _whole_order(plan: BenchPlan) -> list[list[int]] | None:
    """Return cell and repeat of each measurement in turn, as long as all cells can be measured; None for ladders."""
    if plan.auto_key is not None:
        return None
    order: list[list[int]] = []
    done: list[CellRepeat] = []
    while (following := next_repeat(plan, done)) is not None:
        cell, number = following
        order.append([cell.number, number])
        done.append(CellRepeat(cell.number, number, cell.settings, "measured"))
    return order


def _values(plan: BenchPlan, key: str) -> Sequence[Any]:
    return next((axis.values for axis in plan.axes if axis.key == key), ())


def _identity(config: RunConfig, plan: BenchPlan) -> str:
    """Return what names a bench: the same command line with the same config goes on with it."""
    text = json.dumps([config.model_dump(mode="json"), plan.to_json()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
