"""What a machine offers for timed training, and what stands in the way: the checks behind `hotlap doctor`.

Packages are looked up, never imported, so that the checks cost nothing but the two seconds of the noise check.
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import psutil

from hotlap.core.processes import usable_cores
from hotlap.launch.environment import worker_threads
from hotlap.launch.gpu import GpuReader

State = Literal["ok", "warning", "missing"]

NOISE_SECONDS: Final = 2.0
QUIET_NOISE_PERCENT: Final = 5.0
BUSY_PERCENT: Final = 10.0
MIN_FREE_BYTES: Final = 2 * 2**30
EXTRAS: Final = {
    "train": ("numpy", "safetensors", "sacrebleu"),
    "report": ("matplotlib",),
    "hf": ("transformers", "accelerate"),
}
_BF16_FLAGS: Final = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    text: str
    is_essential: bool = False
    """Whether nothing can be timed while it is missing."""


def machine_checks(project: Path) -> list[Check]:
    """Look at everything that bears on timed runs of a project."""
    return [
        check_python(sys.version_info[:3]),
        check_torch(),
        *(check_extra(extra, packages) for extra, packages in EXTRAS.items()),
        check_threads(),
        check_bf16(),
        check_gpus(),
        check_load(),
        check_noise(),
        check_writable(project),
        check_disk(project),
        check_git(project),
    ]


def check_python(version: tuple[int, int, int]) -> Check:
    """Python 3.11 or newer."""
    state: State = "ok" if version >= (3, 11) else "missing"
    need = "" if state == "ok" else "; hotlap needs 3.11 or newer"
    return Check(name="python", state=state, text=f"{'.'.join(map(str, version))}{need}", is_essential=True)


def check_torch() -> Check:
    """PyTorch, by its metadata."""
    version = _version("torch")
    if version is None:
        text = "not installed; run: pip install 'hotlap[train]'"
        return Check(name="torch", state="missing", text=text, is_essential=True)
    return Check(name="torch", state="ok", text=version, is_essential=True)


def check_extra(extra: str, packages: tuple[str, ...]) -> Check:
    """The packages of an optional extra."""
    absent = [package for package in packages if _version(package) is None]
    if absent:
        text = f"without {', '.join(absent)}; run: pip install 'hotlap[{extra}]'"
        return Check(name=f"extra {extra}", state="warning", text=text)
    return Check(name=f"extra {extra}", state="ok", text="installed")


def check_threads() -> Check:
    """Cores, and the threads that a run gets."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(worker_threads())
    return Check(name="cores", state="ok", text=f"{usable_cores()} usable; a run computes with {threads} threads")


def check_bf16() -> Check:
    """Whether the processor computes in bfloat16 itself."""
    found = [flag for flag in _BF16_FLAGS if flag in _cpu_flags()]
    if found:
        return Check(name="bf16", state="ok", text=f"in hardware ({', '.join(found)})")
    return Check(name="bf16", state="warning", text=f"not in hardware on this {platform.machine()} CPU, so slow")


def check_gpus() -> Check:
    """NVIDIA GPUs, by their driver."""
    reader = GpuReader()
    names = reader.names()
    reader.close()
    return Check(name="gpu", state="ok", text="; ".join(names) if names else "none; runs use the CPU")


def check_load() -> Check:
    """How busy the machine is right now."""
    percent = psutil.cpu_percent(interval=0.5)
    state: State = "ok" if percent < BUSY_PERCENT else "warning"
    hint = "" if state == "ok" else "; timed runs need a quiet machine"
    return Check(name="load", state=state, text=f"{percent:.0f} % busy, load average {os.getloadavg()[0]:.2f}{hint}")


def check_noise() -> Check:
    """How evenly the same work takes the same time."""
    percent = clock_noise_percent(NOISE_SECONDS)
    state: State = "ok" if percent < QUIET_NOISE_PERCENT else "warning"
    hint = "" if state == "ok" else "; small gains will be hard to see here"
    return Check(name="clock noise", state=state, text=f"±{percent:.1f} % between equal pieces of work{hint}")


def clock_noise_percent(seconds: float) -> float:
    """Repeat a fixed piece of work for so long and return the standard deviation of its times, in percent."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 2:
        start = time.perf_counter()
        sum(number * number for number in range(200_000))
        times.append(time.perf_counter() - start)
    return 100 * statistics.stdev(times) / statistics.mean(times)


def check_writable(project: Path) -> Check:
    """Whether run folders can be made, by writing something."""
    folder = project / ".hotlap" if (project / ".hotlap").is_dir() else project
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"hotlap")
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror or error}); choose another folder with -p"
        return Check(name="folder", state="missing", text=text, is_essential=True)
    return Check(name="folder", state="ok", text=f"{folder.absolute()} can be written", is_essential=True)


def check_disk(project: Path) -> Check:
    """Room for runs."""
    try:
        free = shutil.disk_usage(project).free
    except OSError as error:
        return Check(name="disk", state="missing", text=f"cannot tell: {error.strerror or error}")
    text = f"{free / 2**30:.1f} GiB free for .hotlap"
    if free < MIN_FREE_BYTES:
        return Check(name="disk", state="warning", text=f"{text}; weights may fill it, set training.save_model: false")
    return Check(name="disk", state="ok", text=text)


def check_git(project: Path) -> Check:
    """Whether runs can name the commit they ran at."""
    if shutil.which("git") is None:
        return Check(name="git", state="warning", text="not installed; runs will not name their commit")
    try:
        asked = subprocess.run(
            ["git", "status", "--porcelain"], cwd=project, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name="git", state="warning", text=f"does not answer: {error}")
    if asked.returncode:
        return Check(name="git", state="warning", text="not a repository; runs will not name their commit")
    changed = len(asked.stdout.splitlines())
    text = f"repository with {changed} uncommitted file(s)" if changed else "repository, all committed"
    return Check(name="git", state="ok", text=text)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())
