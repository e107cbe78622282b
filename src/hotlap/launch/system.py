"""Once a second, what the machine and the run are doing: the evidence that a timing was not disturbed.

It samples from the driver, never from the timed process, and costs well under a thousandth of a core.
"""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import psutil

from hotlap.core.errors import StorageError
from hotlap.core.files import append_json_line
from hotlap.core.run_folder import RunFolder
from hotlap.launch.container_usage import ContainerReader, Usage
from hotlap.launch.environment import worker_threads
from hotlap.launch.gpu import GpuReader
from hotlap.launch.sessions import RunProcesses, run_mark

Sample = Mapping[str, Any]

SETTLE_SECONDS: Final = 3.0
"""The first seconds are the start of the processes, not the run."""
MIN_SAMPLES: Final = 3
OTHER_CORES_MARGIN: Final = 0.25
STEAL_PERCENT_MARGIN: Final = 5.0
LONGEST_GAP_SECONDS: Final = 3.0
"""Between two samples of a driver that is not held up; they are meant to be a second apart."""
STILL_RATIO: Final = 0.01
"""Share of a run that everything may stand still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedRange:
    """What was normal on this machine while the noise was measured."""

    other_cores: float = 0.0
    """Cores that other processes kept busy, median of the busiest calibration run."""
    steal_percent: float = 0.0
    """Share of time that the hypervisor took away, median of the worst calibration run."""


def calibrated_range(runs: Iterable[Sequence[Sample]]) -> CalibratedRange:
    """Return the range that the given calibration runs cover."""
    settled = [samples for run in runs if len(samples := _settled(run)) >= MIN_SAMPLES]
    return CalibratedRange(
        other_cores=max((_median(samples, "other_cores") for samples in settled), default=0.0),
        steal_percent=max((_median(samples, "steal_percent") for samples in settled), default=0.0),
    )


def contamination(samples: Sequence[Sample], threads: int, calibrated: CalibratedRange | None = None) -> str:
    """Say why the machine was not quiet during a run that computes with `threads`; empty when it was.

    Medians over the run, so that a short disturbance does not cost a run. Cores that the run leaves idle are free
    for others.
    """
    settled = _settled(samples)
    if len(settled) < MIN_SAMPLES:
        return ""
    normal = calibrated or CalibratedRange()
    spare = max(0.0, _median(settled, "cores") - threads)
    others, allowed = _median(settled, "other_cores"), max(normal.other_cores, spare) + OTHER_CORES_MARGIN
    if others > allowed:
        return f"other processes kept {others:.2f} cores busy (median of the run; at most {allowed:.2f} is quiet)"
    steal, allowed = _median(settled, "steal_percent"), normal.steal_percent + STEAL_PERCENT_MARGIN
    if steal > allowed:
        return f"the hypervisor took {steal:.1f} % of the time (median of the run; at most {allowed:.1f} % is quiet)"
    return ""


def stood_still(samples: Sequence[Sample]) -> str:
    """Say so when the machine, or all of the study, was held for a while: a run cannot leave that out of its clock."""
    seconds = [0.0, *(float(sample["seconds"]) for sample in samples if "seconds" in sample)]
    still = sum(max(0.0, after - before - LONGEST_GAP_SECONDS) for before, after in pairwise(seconds))
    if still <= max(1.0, STILL_RATIO * seconds[-1]):
        return ""
    return f"everything stood still for {still:.0f} s of it"


def _settled(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.get("seconds", 0.0) > SETTLE_SECONDS]


def _median(samples: Sequence[Sample], key: str) -> float:
    values = [float(sample[key]) for sample in samples if isinstance(sample.get(key), int | float)]
    return statistics.median(values) if values else 0.0


class SystemSampler:
    """A thread that appends to system.jsonl while its `with` block runs; `samples` holds what it wrote."""

    def __init__(self, folder: RunFolder, pid: int, interval_seconds: float = 1.0) -> None:
        self.samples: list[dict[str, Any]] = []
        self._path = folder.system_path
        self._interval_seconds = interval_seconds
        containers = ContainerReader(folder.containers_path)
        self._reader = SystemReader(pid, mark=run_mark(folder), containers=containers)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"system-{folder.run_id}", daemon=True)

    def __enter__(self) -> "SystemSampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_seconds):
            sample = self._reader.read()
            self.samples.append(sample)
            try:
                append_json_line(self._path, sample)
            except StorageError:
                return  # the run meets the same full disk and says so; samples so far still count


class SystemReader:
    """Reads what happened since the last reading, for the machine and for a run: all its processes, on all devices."""

    def __init__(
        self,
        pid: int,
        now: Callable[[], float] = time.monotonic,
        mark: str = "",
        containers: ContainerReader | None = None,
    ) -> None:
        self._family = RunProcesses(pid, mark)
        self._containers = containers
        self._now = now
        self._gpus = GpuReader()
        self._cores = worker_threads()
        self._start = self._last = now()
        self._machine = _machine_times()
        self._processes: dict[int, float] = {}
        self._run_times()

    def read(self) -> dict[str, Any]:
        """Return one sample."""
        now, machine = self._now(), _machine_times()
        elapsed = max(now - self._last, 1e-3)
        total, busy, steal = (new - old for new, old in zip(machine, self._machine, strict=True))
        contained = self._containers.read(elapsed) if self._containers is not None else Usage()
        run_seconds, memory_bytes = self._run_times(contained.pids)
        run_seconds, memory_bytes = run_seconds + contained.seconds, memory_bytes + contained.memory_bytes
        self._last, self._machine = now, machine
        is_known = not contained.problem
        return {
            "seconds": round(now - self._start, 2),
            "cores": self._cores,
            "cpu_percent": round(100 * busy / total, 1) if total > 0 else 0.0,
            "run_cores": round(run_seconds / elapsed, 3) if is_known else None,
            "other_cores": round(max(0.0, busy - run_seconds) / elapsed, 3) if is_known else None,
            "steal_percent": round(100 * steal / total, 2) if total > 0 else 0.0,
            "memory_bytes": memory_bytes if is_known else None,
            "load_average": round(os.getloadavg()[0], 2),
            **self._gpus.read(),
            **({"containers": contained.problem or contained.how} if contained.how else {}),
        }

    def close(self) -> None:
        """Let go of the GPU library."""
        self._gpus.close()

    def _run_times(self, left_out: Set[int] = frozenset()) -> tuple[float, int]:
        """Return CPU seconds since the last call, and resident memory, of the run's processes but some."""
        seconds, memory_bytes, seen = 0.0, 0, {}
        for pid in {*self._family.pids()} - left_out:
            with suppress(psutil.Error):  # ended since the listing
                process = psutil.Process(pid)
                times = process.cpu_times()
                seen[pid] = times.user + times.system
                seconds += max(0.0, seen[pid] - self._processes.get(pid, 0.0))
                memory_bytes += process.memory_info().rss
        self._processes = seen
        return seconds, memory_bytes


def _machine_times() -> tuple[float, float, float]:
    """Return total, busy and stolen CPU seconds of the cores that this process may use."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    total = busy = steal = 0.0
    for core, times in enumerate(psutil.cpu_times(percpu=True)):
        if allowed is not None and core not in allowed:
            continue
        waiting = times.idle + getattr(times, "iowait", 0.0)
        stolen = getattr(times, "steal", 0.0)
        # Linux books the time of guests under user as well, so these two are not added.
        whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        total, busy, steal = total + whole, busy + whole - waiting - stolen, steal + stolen
    return total, busy, steal
