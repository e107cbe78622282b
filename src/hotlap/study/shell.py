"""Run somebody else's command line to its end or its time limit, and leave nothing of it running.

code, why = run_shell("python eval.py", directory, environment, output, timeout_seconds=600.0)
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final

import psutil

from hotlap.core.errors import StudyError
from hotlap.core.run_folder import RUN_VARIABLE
from hotlap.launch.sessions import end_session, kill_session

_GRACE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05


def run_shell(
    shell: str,
    directory: Path,
    environment: Mapping[str, str],
    output: IO[bytes],
    timeout_seconds: float,
    why_stop: Callable[[], str] = lambda: "",
) -> tuple[int | None, str]:
    """Return the exit code of a command, or None and why it had to be stopped; `why_stop` may say so at any time.

    The environment names what its processes belong to (`RUN_VARIABLE`): children that made a session of their own are
    found by it. Raises StudyError when no shell can be started.
    """
    try:
        process = subprocess.Popen(
            [shutil.which("bash") or "/bin/sh", "-c", shell],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise StudyError(f"cannot start a shell in {directory}: {error.strerror or error}") from error
    mark, watched = environment[RUN_VARIABLE], psutil.Process(process.pid)
    deadline = time.monotonic() + timeout_seconds
    try:
        why = ""
        while not (has_exited := _has_exited(watched)) and not why:
            is_late = time.monotonic() > deadline
            why = f"it took longer than {timeout_seconds:.0f} s and was stopped" if is_late else why_stop()
            time.sleep(_POLL_SECONDS)
        if not has_exited:
            end_session(process.pid, _GRACE_SECONDS, lambda: _has_exited(watched), mark)
    finally:
        kill_session(process.pid, mark)  # before it is reaped: until then its pid is nobody else's
        process.wait()
    return (None, why) if why else (process.returncode, "")


def _has_exited(watched: psutil.Process) -> bool:
    try:
        return bool(watched.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
