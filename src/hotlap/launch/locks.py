"""Locks: one timed run per device, whatever project it belongs to, and one driver per study and bench."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from hotlap.core.bench_folder import BenchFolder
from hotlap.core.errors import StorageError, StudyError
from hotlap.core.files import write_json
from hotlap.core.processes import process_identity
from hotlap.core.study_folder import StudyFolder

_POLL_SECONDS: Final = 0.5


@contextmanager
def device_lock(
    device: str | Sequence[str], on_wait: Callable[[str], None] | None = None, *, directory: Path | None = None
) -> Iterator[None]:
    """Hold a device (`cpu`, `cuda:0`), or several, for a timed run; `on_wait` is told once of each that is taken.

    Raises StorageError when the folder of the locks cannot be used.
    """
    folder = _lock_directory() if directory is None else directory
    devices = [device] if isinstance(device, str) else device
    wanted = {folder / f"device-{_device_name(name)}.lock": name for name in devices}
    with ExitStack() as held:
        for path in sorted(wanted):  # all runs take them in one order, so no two wait for each other
            held.enter_context(_one_device_lock(path, wanted[path], on_wait))
        yield


@contextmanager
def _one_device_lock(path: Path, device: str, on_wait: Callable[[str], None] | None) -> Iterator[None]:
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait(f"waiting for {device}: {_holder(path)} is running on it")
            lock.acquire(poll_interval=_POLL_SECONDS)
    except OSError as error:
        raise StorageError(f"cannot lock {path}: {error.strerror or error}") from error
    try:
        _write_holder(path)
        yield
    finally:
        lock.release()


def study_lock(study: StudyFolder) -> AbstractContextManager[None]:
    """Be the only driver of a study.

    Raises StudyError that names the process which already drives it.
    """
    what = f"the study {study.name!r} is already being driven"
    return _driver_lock(study.lock_path, what, "stop that one first, or give this study another name")


def bench_lock(bench: BenchFolder) -> AbstractContextManager[None]:
    """Be the only one who measures a bench.

    Raises StudyError that names the process which already does.
    """
    what = f"the bench {bench.bench_id} is already being measured"
    return _driver_lock(bench.lock_path, what, "wait for it, or stop that one first")


@contextmanager
def _driver_lock(path: Path, what: str, advice: str) -> Iterator[None]:
    """Hold a lock that one process has at a time; raises StudyError, `what` by whom and `advice`, where it is held."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(f"{what} by {_holder(path)}; {advice}") from None
    except OSError as error:
        raise StorageError(f"cannot lock {path}: {error.strerror or error}") from error
    try:
        _write_holder(path)
        yield
    finally:
        lock.release()


def _lock_directory() -> Path:
    """Return the per-user folder of the device locks; raises StorageError when it belongs to someone else."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        path = Path(runtime) / "hotlap"
    else:
        path = Path(tempfile.gettempdir()) / f"hotlap-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        is_ours = path.stat().st_uid == os.getuid()
    except OSError as error:
        raise StorageError(f"cannot make {path} for the device locks: {error.strerror or error}") from error
    if not is_ours:
        raise StorageError(f"{path} belongs to another user; remove it, or set XDG_RUNTIME_DIR to a folder of yours")
    return path


def _device_name(device: str) -> str:
    """Return what names the physical device: `cuda:0` means another one under each CUDA_VISIBLE_DEVICES."""
    kind, _, number = device.partition(":")
    if kind == "cuda":
        index = int(number or 0)
        visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        device = f"cuda-{visible[index] if index < len(visible) else index}"
    return re.sub(r"[^A-Za-z0-9]+", "-", device)


def _write_holder(path: Path) -> None:
    # Beside the lock, because taking a lock empties its file.
    write_json(path.with_name(f"{path.name}.holder"), process_identity())


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.with_name(f"{path.name}.holder").read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
