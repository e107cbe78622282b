"""Look at a few steps of a training with the PyTorch profiler.

    profile = profile_steps(parts, num_steps=10, num_warmup=3, trace_path=Path("trace.json.gz"))

The steps are those of `train_steps`, with nothing between them. They are timed without the profiler first, since
watching every operator makes short ones longer; what the two say of a step's length stands beside each other.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import profile, record_function

from hotlap.core.bench_records import STEP_PARTS
from hotlap.core.errors import StorageError
from hotlap.train.loop import Step, StepTimer
from hotlap.train.machine_speed import hardware_name
from hotlap.train.measure import measured_loop
from hotlap.train.memory import peak_memory_bytes
from hotlap.train.parts import Parts
from hotlap.train.profiled_events import summarise
from hotlap.train.profiler import read_events, region_mark, watch


class RegionTimer(StepTimer):
    """A step timer that also marks the parts of the step for the profiler, while it `marks`."""

    def __init__(self, num_batches: int) -> None:
        """Set up the timer of steps of so many micro-batches."""
        super().__init__()
        self.marks = False
        self._num_batches = num_batches
        self._done = 0
        self._open: record_function | None = None

    def start(self) -> None:
        """Start to count."""
        self._done = 0
        super().start()
        self._enter("waiting")

    def book(self, part: str) -> None:
        """Book the time since the last call on a part."""
        self._leave()
        super().book(part)
        self._done += part == "backward"
        follows = {"waiting": "data", "data": "forward", "forward": "backward"}
        follows["backward"] = "forward" if self._done < self._num_batches else "optimizer"
        if part in follows:
            self._enter(follows[part])

    def _enter(self, part: str) -> None:
        if self.marks:
            self._open = region_mark(part)
            self._open.__enter__()

    def _leave(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None


def profile_steps(
    parts: Parts, *, num_steps: int = 10, num_warmup: int = 3, trace_path: Path | None = None
) -> dict[str, Any]:
    """Take steps and return where their time went; the figures of `summarise` and what else `hotlap profile` tells.

    `step_seconds` are those without the profiler, `profiled_seconds` the mean of those with it. The trace goes to
    `trace_path`, compressed where the name ends in .gz; raises StorageError when it cannot be written. Weights and
    optimizer are trained on; the source of the batches is closed in the end. Raises DivergedError as the training does.
    """
    gc.collect()
    gc.disable()  # as in a training
    timer = RegionTimer(parts.accumulation_steps)
    parts.source.start()
    try:
        steps = measured_loop(parts, timer)
        list(islice(steps, num_warmup))
        before = dict(timer.seconds)
        taken, seconds = _timed(steps, num_steps)
        by_part = {part: (timer.seconds[part] - before[part]) / num_steps for part in STEP_PARTS}
        figures, profiled = _profiled(parts, timer, steps, num_steps, trace_path)
    finally:
        parts.source.close()
        gc.enable()
    training = parts.config.training
    return {
        "device": parts.device.type,
        "device_name": hardware_name(parts.device),
        "threads": torch.get_num_threads(),
        "steps": num_steps,
        "step_seconds": seconds,
        "seconds_by_part": by_part | {"between": max(0.0, sum(seconds) / num_steps - sum(by_part.values()))},
        "profiled_seconds": profiled,
        "samples_per_step": parts.batch_size * parts.accumulation_steps * parts.world.size,
        "tokens_per_step": sum(step.num_tokens for step in taken) / num_steps,
        "slots_per_step": sum(step.num_slots for step in taken) / num_steps,
        "num_workers": training.dataloader_num_workers,
        "optimizers": [type(member).__name__ for member in parts.optimizers.members],
        "compiled": training.torch_compile,
        "peak_memory_bytes": peak_memory_bytes(parts.device),
        **figures,
    }


def _timed(steps: Iterator[Step], count: int) -> tuple[list[Step], list[float]]:
    """Take steps; return them and the seconds of each, what lies between them included."""
    taken, seconds = [], []
    last = time.perf_counter()
    for step in islice(steps, count):
        now = time.perf_counter()
        taken.append(step)
        seconds.append(now - last)
        last = now
    return taken, seconds


def _profiled(
    parts: Parts, timer: RegionTimer, steps: Iterator[Step], count: int, trace_path: Path | None
) -> tuple[dict[str, Any], float]:
    """Take steps under the profiler; return the figures and the mean seconds of a step."""
    timer.marks = True
    parts.synchronize()
    with watch(parts.device, with_memory=True) as profiler:
        _, seconds = _timed(steps, count)
    timer.marks = False
    if trace_path is not None:
        _write_trace(profiler, trace_path)
    events, regions = read_events(profiler)
    return summarise(events, regions, parts.device.type), median(seconds)


def _write_trace(profiler: profile, path: Path) -> None:
    problem = "the profiler wrote nothing"  # it only prints what went wrong
    try:
        profiler.export_chrome_trace(str(path))
        if path.exists() and path.stat().st_size:
            return
    except OSError as error:
        problem = error.strerror or str(error)
    with suppress(OSError):
        path.unlink()
    raise StorageError(f"cannot write the trace {path}: {problem}; free space, or choose another folder with -p")
