"""Measure a cell of hotlap's own trainer in a process of its own, within a time limit.

repeat = measure_cell(bench, config, (cell, 0), plan, project)
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil

from hotlap.bench.plan import BenchPlan, GridCell
from hotlap.config.load import config_text
from hotlap.config.schema import RunConfig
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.bench_records import CellRepeat
from hotlap.core.capped_log import log_end
from hotlap.core.durations import format_seconds
from hotlap.core.errors import StorageError
from hotlap.core.files import read_json, write_json
from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RUN_VARIABLE
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.environment import worker_environment, worker_threads
from hotlap.launch.local import LaunchError, program_for
from hotlap.launch.sessions import kill_session
from hotlap.launch.system import SystemReader, contamination

PROGRAM: Final = (sys.executable, "-P", "-m", "hotlap.worker.bench")
_POLL_SECONDS: Final = 0.05
_SAMPLE_SECONDS: Final = 0.5
_SHOWN_BYTES: Final = 4096
_COMPILED_CODE: Final[Mapping[str, str]] = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Where compilers keep what they made: an empty place for each repeat, else the first one would warm up the others."""
_KILLED: Final = re.compile(r"SIGKILL|Signal 9\b|exitcode\s*:\s*-9")


def bench_mark(bench: BenchFolder) -> str:
    """Return what the processes of a bench carry in a variable, so that they can be found."""
    return str(bench.path.resolve())


def measure_cell(
    bench: BenchFolder,
    config: RunConfig,
    where: tuple[GridCell, int],
    plan: BenchPlan,
    project: ProjectFolder,
    *,
    tick: Callable[[], object] = lambda: None,
    program: Sequence[str] = PROGRAM,
) -> CellRepeat:
    """Return what the process of a cell and repeat measured, or why it did not; `tick` is called while it runs.

    Nothing of it is left when this returns, or is interrupted. Raises LaunchError when it cannot be started, and
    StorageError when nothing can be written.
    """
    cell, number = where
    empty = CellRepeat(cell.number, number, dict(cell.settings), "failed", num_devices=config.devices)
    job, result, log = _write_job(bench, config, empty, plan, project)
    argv = [*program_for(program, config.devices), str(job)]
    compiled = _empty_compiled_path(bench)
    environment = {
        **worker_environment(os.environ, config.devices),
        **{name: str(compiled / place) for name, place in _COMPILED_CODE.items()},
        RUN_VARIABLE: bench_mark(bench),
    }
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=project.project,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"cannot start {argv[0]}: {error.strerror or error}") from error
    reader, samples = SystemReader(process.pid, mark=bench_mark(bench)), list[dict[str, Any]]()
    try:
        is_in_time = _wait(process, time.monotonic() + plan.limit_seconds, tick, lambda: samples.append(reader.read()))
    finally:
        reader.close()
        kill_session(process.pid, bench_mark(bench))
        process.wait()
        shutil.rmtree(compiled, ignore_errors=True)
    found = read_json(result)
    if found is not None:
        return with_disturbance(CellRepeat.from_json(found), samples)
    if not is_in_time:
        limit = format_seconds(plan.limit_seconds)
        return replace(empty, outcome="timed_out", message=f"not done after {limit}; give it longer with --limit")
    return _silent_end(empty, process.returncode, log)


def with_disturbance(repeat: CellRepeat, samples: Sequence[Mapping[str, Any]]) -> CellRepeat:
    """Return a measured repeat that says so where other programs kept the machine busy beside it."""
    if not repeat.is_measured:
        return repeat
    told = [repeat.message, contamination(samples, worker_threads())]
    return replace(repeat, message="; ".join(filter(None, told)))


def _write_job(
    bench: BenchFolder, config: RunConfig, empty: CellRepeat, plan: BenchPlan, project: ProjectFolder
) -> tuple[Path, Path, Path]:
    """Write what a process is to do; return the files of the job, of its answer and of what it prints."""
    scratch = bench.scratch_path
    try:
        scratch.mkdir(exist_ok=True)
        bench.logs_path.mkdir(exist_ok=True)
        result = scratch / "result.json"
        result.unlink(missing_ok=True)
        (scratch / "config.yaml").write_text(config_text(config), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write in {bench.path}: {error.strerror or error}") from error
    job = {
        "config": str(scratch / "config.yaml"),
        "directory": str(project.project),
        "cache": str(project.cache_path),
        "result": str(result),
        "driver": process_identity(),
        "cell": empty.cell,
        "repeat": empty.repeat,
        "settings": dict(empty.settings),
        "warmup_steps": plan.warmup_steps,
        "steps": plan.steps,
        "seconds": plan.seconds,
        "limit_seconds": plan.limit_seconds,
        "is_explained": empty.repeat == 0,
        "launched_monotonic": time.monotonic(),
    }
    write_json(scratch / "job.json", job)
    return scratch / "job.json", result, bench.log_path(empty.cell, empty.repeat)


def _empty_compiled_path(bench: BenchFolder) -> Path:
    """Return where the process of a repeat may keep compiled code; nothing is there yet."""
    path = bench.compiled_path.resolve()
    if re.search(r"\s", str(path)):  # torch's own call of the compiler falls apart at a space
        return Path(tempfile.mkdtemp(prefix="hotlap-bench-"))
    shutil.rmtree(path, ignore_errors=True)  # of a repeat that was killed
    return path


def _wait(
    process: "subprocess.Popen[bytes]", deadline: float, tick: Callable[[], object], sample: Callable[[], object]
) -> bool:
    """Wait for the end of a process; say whether it came in time. It is not reaped: its pid names its session."""
    watched, sampled = psutil.Process(process.pid), time.monotonic()
    while not _has_exited(watched):
        now = time.monotonic()
        if now > deadline:
            return False
        if now - sampled >= _SAMPLE_SECONDS:
            sampled = now
            sample()
        tick()
        time.sleep(_POLL_SECONDS)
    return True


def _has_exited(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _silent_end(empty: CellRepeat, code: int, log: Path) -> CellRepeat:
    """Return what to make of a process that ended without an answer."""
    said = log_end(log, _SHOWN_BYTES).decode("utf-8", errors="replace").strip()
    if code == -signal.SIGKILL or _KILLED.search(said):
        message = "killed by the system, most likely since the machine's memory was used up"
        return replace(empty, outcome="out_of_memory", message=message)
    last = said.splitlines()[-1] if said else "it printed nothing"
    return replace(empty, message=f"ended with exit code {code}: {last} (see {log})")
