"""Measure one cell of a bench: `python -m hotlap.worker.bench JOB.json`. Started by `hotlap bench`, also by torchrun.

The job names config, project and cache, what to measure, and where the answer goes: one `CellRepeat` as JSON, written
last and atomically. Running out of memory and every other failure is an answer, too; the exit code is then 1.
"""

import gc
import json
import os
import resource
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil
import torch

from hotlap.config.load import load_config
from hotlap.config.schema import RunConfig
from hotlap.core.bench_records import CellOutcome, CellRepeat
from hotlap.core.errors import HotlapError
from hotlap.core.files import write_json
from hotlap.core.gpu_peaks import peak_flops
from hotlap.train.batch_size import is_out_of_memory
from hotlap.train.build import build_parts
from hotlap.train.distributed import World, broadcast_floats, join_world, leave_world
from hotlap.train.evidence import step_evidence
from hotlap.train.machine_speed import hardware_name, matmul_flops, number_format
from hotlap.train.measure import StepPlan
from hotlap.train.memory import device_memory_bytes, keep_freed_memory, peak_memory_bytes
from hotlap.train.parts import Parts, bf16_is_fast
from hotlap.train.worker_rounds import measure_training
from hotlap.worker.session import watch_driver, watch_parent

_ROOM: Final = 0.95
"""Share of the memory that nobody else uses that the processes of a cell may fill on a CPU."""
_SETUP_BYTES: Final = 2**28
"""What is still to be imported and built: a process that has no room for that says nothing of its batch."""
_SOFT_LIMIT: Final = 0.7
"""Share of the time limit after which a few steps will do: what follows them takes time, too."""


def main() -> int:
    """Return 0 for a measurement, 1 for an answer that is none."""
    if len(sys.argv) != 2:
        print("usage: python -m hotlap.worker.bench JOB.json", file=sys.stderr)
        return 2
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        threading.Thread(target=watch_parent, args=(os.getppid(),), daemon=True).start()
    threading.Thread(target=watch_driver, args=(job["driver"], lambda: None), daemon=True).start()
    empty = CellRepeat(job["cell"], job["repeat"], job["settings"], "failed")
    try:
        world, repeat = _measure(job, empty)
    except Exception as error:  # noqa: BLE001  the cell's entry point: whatever it was becomes its outcome
        outcome, message = _failure(error)
        print(f"{outcome}: {message}", flush=True)
        if not Path(job["result"]).exists():  # the first process to fail knows why: the others only lose it
            write_json(Path(job["result"]), replace(empty, outcome=outcome, message=message).to_json())
        sys.stdout.flush()
        os._exit(1)  # others may be waiting for this process, and would hold up its end
    if world.is_main:
        write_json(Path(job["result"]), repeat.to_json())
    leave_world(world)
    return 0


def _failure(error: Exception) -> tuple[CellOutcome, str]:
    """Return what an error makes of the cell; one that is our own bug is printed with its traceback."""
    if is_out_of_memory(error):
        return "out_of_memory", str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, HotlapError):
        return "failed", str(error)
    traceback.print_exc()
    return "failed", f"{type(error).__name__}: {error}"


def _measure(job: dict[str, Any], empty: CellRepeat) -> tuple[World, CellRepeat]:
    """Build the parts, take the steps, and say what the machine could do."""
    config = load_config(Path(job["config"]))
    keep_freed_memory(is_tight=config.training.gradient_checkpointing)
    world = join_world(config.training)
    if world.device.type == "cpu":
        _bound_memory(config, world)
    parts = build_parts(config, Path(job["directory"]), Path(job["cache"]), world)
    startup = time.monotonic() - job["launched_monotonic"] - parts.compile_seconds
    gc.collect()
    gc.freeze()
    gc.disable()
    parts.source.start()
    left = _SOFT_LIMIT * job["limit_seconds"] - (time.monotonic() - job["launched_monotonic"])
    (left,) = broadcast_floats(world, [left])  # all processes stop at one step
    plan = StepPlan(job["warmup_steps"], job["steps"], job["seconds"], enough_seconds=max(0.0, left))
    measured = measure_training(parts, plan)
    peak = peak_memory_bytes(parts.device)
    evidence = step_evidence(parts) if job["is_explained"] else {}
    evidence |= {"device_memory_bytes": float(device_memory_bytes(world.device, world.local_size))}
    if config.training.bf16 and not bf16_is_fast(world.device):
        evidence |= {"bf16_is_emulated": 1.0}
    evidence |= {"is_computed": 1.0} if measured.is_computed else {}
    parts.source.close()
    return world, replace(
        empty,
        outcome="measured",
        step_seconds=tuple(measured.step_seconds),
        startup_seconds=startup,
        warmup_seconds=parts.compile_seconds + measured.warmup_seconds,
        samples_per_step=measured.samples_per_step,
        tokens_per_step=measured.tokens_per_step,
        slots_per_step=measured.slots_per_step,
        seconds_by_part=measured.seconds_by_part,
        peak_memory_bytes=peak,
        flops_per_step=measured.flops_per_step,
        evidence=evidence,
        **_machine(parts),
    )


def _machine(parts: Parts) -> dict[str, Any]:
    """Return what the device is and can do."""
    kind, device = number_format(parts), parts.device
    name = hardware_name(device)
    return {
        "matmul_flops": matmul_flops(device, kind),
        "peak_flops": peak_flops(name, kind) if device.type == "cuda" else None,
        "device": name,
        "num_devices": parts.world.size,
        "threads": torch.get_num_threads(),
    }


def _bound_memory(config: RunConfig, world: World) -> None:
    """Let allocations fail where the machine's memory ends: the kernel would kill some process else, maybe not ours."""
    whole = config.training.device_memory_ratio * device_memory_bytes(world.device, world.local_size)
    room = _ROOM * psutil.virtual_memory().available / world.local_size
    held = psutil.Process().memory_info()
    limit = max(min(whole, room), getattr(held, "data", held.vms) + _SETUP_BYTES)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    bound = int(limit) if hard == resource.RLIM_INFINITY else min(int(limit), hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))


if __name__ == "__main__":
    sys.exit(main())
