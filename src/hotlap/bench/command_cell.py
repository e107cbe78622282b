"""Measure a cell of a command of the user's own: a run of it as `hotlap exec` makes one, ended when that is enough.

repeat = measure_command(bench, config, (cell, 0), plan, project)
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from hotlap.bench.axes import DEVICES_KEY
from hotlap.bench.cell_process import with_disturbance
from hotlap.bench.command_figures import peak_memory, samples_of, tokens_of
from hotlap.bench.command_usage import usage_of
from hotlap.bench.launcher_devices import devices_of, with_devices
from hotlap.bench.plan import BenchPlan, GridCell
from hotlap.config.load import config_text
from hotlap.config.schema import RunConfig
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.bench_records import CellRepeat, median
from hotlap.core.durations import format_seconds
from hotlap.core.files import read_json_lines
from hotlap.core.processes import processor_name, usable_cores
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.gpu import GpuReader
from hotlap.launch.local import Job, LaunchFacts, LocalLauncher
from hotlap.launch.system import SystemSampler
from hotlap.runs.command_steps import steps_of, told_rate
from hotlap.runs.ingest import last_metrics

CUT_STEPS: Final = "cut_steps"
"""Evidence of a repeat that its time limit ended: the steps that it had told by then."""
UNTOLD: Final = "is_untold"
"""Evidence of a repeat whose command ran, but told no step times."""
_BROKEN: Final = ("out_of_memory", "crashed", "diverged", "invalid", "lost")
_POLL_SECONDS: Final = 0.05
_HOW: Final = ", or name the step: in command.metrics.step, or with the Trainer's progress bar (disable_tqdm: false)"


def command_config(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return the config of a cell whose devices, where they are an axis, go to the command's own launcher.

    Raises ConfigError where there is no launcher to give them to.
    """
    if config.command is None or DEVICES_KEY not in settings:
        return config
    run = with_devices(config.command.run, int(settings[DEVICES_KEY]))
    return config.model_copy(update={"command": config.command.model_copy(update={"run": run}), "devices": 1})


def measure_command(
    bench: BenchFolder,
    config: RunConfig,
    where: tuple[GridCell, int],
    plan: BenchPlan,
    project: ProjectFolder,
    *,
    tick: Callable[[], object] = lambda: None,
) -> CellRepeat:
    """Return what the log lines of a command's run say of a cell, or why they say nothing.

    The run is ended as soon as it has told enough steps, or at the time limit. Raises LaunchError when it cannot be
    started, StorageError when nothing can be written.
    """
    cell, number = where
    folder = RunFolder.create(bench.runs_path)
    folder.write_config(config_text(config), config.model_dump(mode="json"))
    limits = {"wall_seconds": plan.limit_seconds}
    facts = LaunchFacts(directory=project.project, seed=config.seed, limits=limits, devices=1)
    job = LocalLauncher().start(folder, facts)
    try:
        with SystemSampler(folder, job.pid):
            _follow(job, plan, tick)
    finally:
        job.stop("interrupted", "measured enough", 5.0)  # nothing happens to a run that has ended
    empty = CellRepeat(cell.number, number, dict(cell.settings), "failed", num_devices=devices_of(config))
    found = _told(folder, config, replace(empty, **_machine()), plan)
    samples = read_json_lines(folder.system_path)
    usage = usage_of(samples, found.startup_seconds + found.warmup_seconds) if found.is_measured else {}
    return with_disturbance(replace(found, evidence={**found.evidence, **usage}), samples)


def _follow(job: Job, plan: BenchPlan, tick: Callable[[], object]) -> None:
    """Wait until a run has told enough, or has ended."""
    reader, points = job.folder.point_reader(), list[dict[str, Any]]()
    while not job.poll():
        if fresh := reader.read_new():
            points += fresh
            told = steps_of(points, plan.warmup_steps, has_own_clock=False)
            if len(told.step_seconds) > 1 and told.num_steps >= plan.steps and told.seconds >= plan.seconds:
                return
        tick()
        time.sleep(_POLL_SECONDS)


def _told(folder: RunFolder, config: RunConfig, empty: CellRepeat, plan: BenchPlan) -> CellRepeat:
    """Return what the run in a folder says of its steps."""
    result = folder.read("result") or {}
    capture, points = result.get("capture") or {}, folder.points()
    metrics = {**last_metrics(points), **(result.get("metrics") or {})}
    has_own_clock = capture.get("clock") == "own"
    told = steps_of(points, plan.warmup_steps, has_own_clock=has_own_clock)
    final = told_rate(metrics)
    times = told.step_seconds or ((final,) if final else ())
    failed = _failure(folder, result, plan, has_times=bool(times))
    memory = peak_memory(read_json_lines(folder.system_path))
    ending = (folder.ending() or ("lost", ""))[0]
    if failed is not None:
        facts = {UNTOLD: 1.0} if failed[0] == "failed" and ending not in _BROKEN else {}
        message = f"{folder.run_id}: {failed[1]}"
        return replace(empty, outcome=failed[0], message=message, peak_memory_bytes=memory, evidence=facts)
    if capture.get("is_buffered") and not has_own_clock and told.step_seconds:
        if final is None:
            why = "its lines came in blocks, so they tell no times: print with flush=True, or start python with -u"
            return replace(empty, message=f"{folder.run_id}: {why}", evidence={UNTOLD: 1.0})
        times = (final,)
    seconds = median(times)
    samples = samples_of(metrics, config.params, empty.num_devices, seconds)
    return replace(
        empty,
        outcome="measured",
        step_seconds=times,
        startup_seconds=told.startup_seconds,
        warmup_seconds=told.warmup_seconds,
        samples_per_step=samples.per_step,
        samples_by=samples.how,
        tokens_per_step=tokens_of(metrics, told, seconds),
        slots_per_step=0.0,
        peak_memory_bytes=memory,
        evidence={CUT_STEPS: float(told.num_steps)} if ending == "out_of_budget" and told.num_steps else {},
    )


def _failure(
    folder: RunFolder, result: Mapping[str, Any], plan: BenchPlan, *, has_times: bool
) -> tuple[Any, str] | None:
    """Return outcome and reason of a run that cannot be used, or None."""
    outcome, reason = folder.ending() or ("lost", "it did not end")
    if outcome in _BROKEN:
        said = next((line for line in reversed(folder.log_tail().splitlines()) if not line.startswith("hotlap: ")), "")
        name = "out_of_memory" if outcome == "out_of_memory" else "failed"
        return name, f"{reason}{f': {said}' if said else ''} (see {folder.stdout_path})"
    if has_times:
        return None
    if outcome == "out_of_budget":
        limit = format_seconds(plan.limit_seconds)
        return "timed_out", f"told no two steps after the warm-up within {limit}; give it longer with --limit{_HOW}"
    return "failed", (
        f"its output named no two steps after the first {plan.warmup_steps} (see {folder.stdout_path}): "
        f"log more often{_HOW}"
    )


def _machine() -> dict[str, Any]:
    reader = GpuReader()
    try:
        gpus = reader.names()
    finally:
        reader.close()
    return {"device": gpus[0].partition(",")[0] if gpus else processor_name(), "threads": usable_cores()}
