"""End a run and everything that it started: its process group first, then whatever left the group.

A run's first process leads a process session, so the session's id names the family, also after that process has died
and its children have been handed to init. What makes a session of its own, as torchrun's ranks do, is known by a
variable that all processes of a run inherit.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import psutil

from hotlap.core.errors import RunFailedError
from hotlap.core.run_folder import RUN_VARIABLE, RunFolder

_PATIENCE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02


def run_mark(folder: RunFolder) -> str:
    """Return what the variable of a run's processes says."""
    return str(folder.path.resolve())


class RunProcesses:
    """Finds a run's processes: the session that its first process leads or led, and each session with its mark."""

    def __init__(self, leader: int | None, mark: str = "") -> None:
        self._leader = leader  # None once its pid may belong to somebody else
        self._mark = mark
        self._is_ours: dict[int, bool] = {}

    def pids(self) -> list[int]:
        """Return the pids, ended but unreaped ones included; after the first call it looks into new sessions only."""
        sessions = _sessions()
        ours = {session: self._belongs(session, members) for session, members in sessions.items()}
        self._is_ours = {session: answer for session, answer in ours.items() if answer is not None}
        return [pid for session, answer in ours.items() if answer for pid in sessions[session]]

    def _belongs(self, session: int, members: Sequence[int]) -> bool | None:
        """Say whether a session is the run's: all its processes are, or none; None when it cannot be told yet."""
        if session == self._leader:
            return True
        if not self._mark or session == 0:  # 0: the kernel's own threads, or led from outside a container
            return False
        if session in self._is_ours:
            return self._is_ours[session]
        marks = [_mark_of(pid) for pid in members]
        if self._mark in marks:
            return True
        return None if None in marks else False


def living_marks() -> set[str]:
    """Return the marks of all runs that have a process on this machine."""
    return {mark for pid in psutil.pids() if (mark := _mark_of(pid))}


def end_session(leader: int, grace_seconds: float, has_ended: Callable[[], bool], mark: str = "") -> None:
    """Ask a worker's process group to end, wait, then kill what is left of it, of its session and of its mark.

    Raises RunFailedError when something cannot be killed.
    """
    family = _family(leader)  # before any signal: a child with a session of its own may carry no mark
    _signal_group(leader, signal.SIGTERM)
    if family and not _leads_group(leader):
        with suppress(psutil.Error):
            family[0].terminate()
    deadline = time.monotonic() + grace_seconds
    while not has_ended() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    kill_session(leader, mark, family)


def kill_session(leader: int | None, mark: str = "", family: Sequence[psutil.Process] = ()) -> None:
    """Kill what still lives of a session, of the processes with a mark, and of the given ones.

    Raises RunFailedError when something cannot be killed.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    processes = RunProcesses(leader, mark)
    while True:
        members = [process for process in (*_processes(processes.pids()), *family) if _is_active(process)]
        if not members:
            return
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in members)
            raise RunFailedError(f"cannot kill process {pids} of the run; end it by hand before the next run")
        if leader is not None:
            _signal_group(leader, signal.SIGKILL)
        for process in members:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(_POLL_SECONDS)


def _sessions() -> dict[int, list[int]]:
    """Return every process session of this machine with its members."""
    found: dict[int, list[int]] = {}
    for pid in psutil.pids():
        with suppress(OSError):  # gone since the listing
            found.setdefault(os.getsid(pid), []).append(pid)
    return found


def _mark_of(pid: int) -> str | None:
    """Return a process's mark, empty for none and for other users' processes; None when it cannot be told just now."""
    try:
        environment = psutil.Process(pid).environ()
    except psutil.AccessDenied:
        return ""
    except (psutil.Error, OSError):
        return None
    # Empty while a program is being started, and once it has ended.
    return str(environment.get(RUN_VARIABLE, "")) if environment else None


def _family(leader: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(leader)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _processes(pids: Sequence[int]) -> list[psutil.Process]:
    members = []
    for pid in pids:
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
