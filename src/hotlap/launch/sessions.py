"""End a worker and everything that it started: its process group first, then whatever left the group.

A worker leads a process session of its own, so the session's id names the whole family, also after the worker has
died and its children have been handed to init.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import psutil

from hotlap.core.errors import RunFailedError

_PATIENCE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02


def session_pids(leader: int) -> list[int]:
    """Return the pids in the session that a process leads or led, ended but unreaped ones included."""
    pids = []
    for pid in psutil.pids():
        with suppress(OSError):  # gone since the listing
            if os.getsid(pid) == leader:
                pids.append(pid)
    return pids


def end_session(leader: int, grace_seconds: float, has_ended: Callable[[], bool]) -> None:
    """Ask a worker's process group to end, wait, then kill what is left of it and of its session.

    Raises RunFailedError when something cannot be killed.
    """
    family = _family(leader)  # before any signal: a child with a session of its own is found only through its parent
    _signal_group(leader, signal.SIGTERM)
    if family and not _leads_group(leader):
        with suppress(psutil.Error):
            family[0].terminate()
    deadline = time.monotonic() + grace_seconds
    while not has_ended() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    kill_session(leader, family)


def kill_session(leader: int, family: Sequence[psutil.Process] = ()) -> None:
    """Kill what still lives of a session and of the given processes.

    Raises RunFailedError when something cannot be killed.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        members = [process for process in (*_session(leader), *family) if _is_active(process)]
        if not members:
            return
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in members)
            raise RunFailedError(f"cannot kill process {pids} of the run; end it by hand before the next run")
        _signal_group(leader, signal.SIGKILL)
        for process in members:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(_POLL_SECONDS)


def _family(leader: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(leader)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _session(leader: int) -> list[psutil.Process]:
    members = []
    for pid in session_pids(leader):
        with suppress(psutil.Error):
            members.append(psutil.Process(pid))
    return members


def _is_active(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _leads_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except OSError:
        return True


def _signal_group(leader: int, number: signal.Signals) -> None:
    # The group with this id is the one that the worker made: a process that leads no group has none to be hit.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
