"""Look after the trackers of one run: the process `python -m hotlap.launch.tracking`, started beside the worker.

    FOLDER FINISH_SECONDS NAME=MODULE:CLASS ...

Every tracker has a process of its own below this one. All of them run only where a processor would be idle. One that
ends early, keeps a processor busy, or does not come to its end once the run has, is killed with everything that it
started, and `trackers.json` says so. Nobody waits for this process: it ends by itself, soon after the run.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from hotlap.core.errors import RunFailedError, StorageError
from hotlap.core.processes import is_alive, process_identity
from hotlap.core.run_folder import RUN_VARIABLE, RunFolder
from hotlap.launch.sessions import kill_session, run_mark
from hotlap.launch.trackers import SCHEMA

MIRROR: Final = (sys.executable, "-P", "-m", "hotlap.launch.mirror")
POLL_SECONDS: Final = 0.5
WRITE_SECONDS: Final = 5.0
"""Between two notes of how far trackers have come; changes of state are written at once."""
LAST_SECONDS: Final = 5.0
"""What the process of a tracker that has finished gets to end by itself."""
START_PROCESSOR_SECONDS: Final = 60.0
PROCESSOR_SHARE: Final = 0.1
"""What a tracker may keep busy of one processor, beside that for its start: more would disturb the run's clock."""

Facts = dict[str, Any]


class TrackerProcess:
    """One tracker of a run: its process, and what is known of it."""

    def __init__(self, folder: RunFolder, name: str, factory: str, before: Mapping[str, Any]) -> None:
        position = before.get("position") or {}
        self.name = name
        self.facts: Facts = {"state": "running", "phase": "start", "problem": "", "told": {}, "position": position}
        self._began = time.monotonic()
        self._pending = b""
        # Not the run's own mark: its processes are counted, and killed at its end.
        self._mark = f"{run_mark(folder)} mirrored by {name}"
        known = {**(before.get("told") or {}), **{key: str(value) for key, value in position.items()}}
        self._pipe, descriptor = os.pipe()
        os.set_blocking(self._pipe, False)
        with folder.trackers_log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*MIRROR, str(folder.path), name, factory, str(descriptor), json.dumps(known)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, RUN_VARIABLE: self._mark},
                pass_fds=(descriptor,),
                start_new_session=True,
            )
        os.close(descriptor)

    @property
    def is_running(self) -> bool:
        """Whether it may still mirror something."""
        return bool(self.facts["state"] == "running")

    def look(self) -> bool:
        """Read what it tells and see whether it has ended; return whether its state or phase has changed."""
        before = (self.facts["state"], self.facts["phase"])
        has_ended = self._process.poll() is not None  # asked first: what it told before is in the pipe by now
        self._read()
        if self.is_running and has_ended:
            self.facts |= {"state": "failed", "problem": f"its process {_how(self._process.returncode)}"}
        elif self.is_running and (busy := self._processor_seconds()) > self._allowed_seconds():
            self.facts |= {"state": "stopped", "problem": f"it kept a processor busy for {busy:.0f} s"}
        if not self.is_running:
            self._end()
        return before != (self.facts["state"], self.facts["phase"])

    def stop(self, problem: str) -> None:
        """End it, and say why."""
        self.facts |= {"state": "stopped", "problem": problem}
        self._end()

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._pipe, 65536):
                self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            with suppress(ValueError):
                message = json.loads(line)
                self.facts |= message if isinstance(message, dict) else {}

    def _allowed_seconds(self) -> float:
        return START_PROCESSOR_SECONDS + PROCESSOR_SHARE * (time.monotonic() - self._began)

    def _processor_seconds(self) -> float:
        """Return the processor seconds of its process and of those below it."""
        seconds = 0.0
        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    times = each.cpu_times()
                    seconds += times.user + times.system
        return seconds

    def _end(self) -> None:
        """Leave nothing of it running; a tracker that has finished may be writing its last files."""
        if self.facts["state"] == "finished":
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_SECONDS)
        leader = self._process.pid if self._process.poll() is None else None  # else its pid may be somebody else's
        with suppress(RunFailedError):
            kill_session(leader, self._mark)
        self._process.wait()
        os.close(self._pipe)


def supervise(folder: RunFolder, factories: Mapping[str, str], finish_seconds: float) -> None:
    """Mirror a run with trackers of these names until all of them have ended."""
    earlier = folder.read("trackers") or {}
    while is_alive(earlier.get("supervisor") or {}) and earlier["supervisor"]["pid"] != os.getpid():
        time.sleep(POLL_SECONDS)  # the trackers of an earlier attempt still finish; that takes a bounded time
        earlier = folder.read("trackers") or {}
    before = earlier.get("trackers") or {}
    board = _Board(folder, before)
    board.write([])
    trackers = [TrackerProcess(folder, name, factory, before.get(name) or {}) for name, factory in factories.items()]
    board.write(trackers)
    deadline = float("inf")
    while any(tracker.is_running for tracker in trackers):
        time.sleep(POLL_SECONDS)
        if deadline == float("inf") and (folder.ending() is not None or not folder.path.is_dir()):
            deadline = time.monotonic() + finish_seconds
        for tracker in [tracker for tracker in trackers if tracker.is_running]:
            board.is_stale |= tracker.look()
            if tracker.is_running and time.monotonic() > deadline:
                tracker.stop(f"it had not finished {finish_seconds:g} s after the end of the run")
                board.is_stale = True
        board.write_if_needed(trackers)
    board.write(trackers)


class _Board:
    """Keeps trackers.json up to date."""

    def __init__(self, folder: RunFolder, before: Mapping[str, Any]) -> None:
        self.is_stale = True
        self._folder = folder
        self._before = before
        self._written = 0.0
        self._identity = process_identity()

    def write_if_needed(self, trackers: Sequence[TrackerProcess]) -> None:
        """Write what is new, at once where a state has changed."""
        if self.is_stale or time.monotonic() - self._written > WRITE_SECONDS:
            self.write(trackers)

    def write(self, trackers: Sequence[TrackerProcess]) -> None:
        """Write what is known of all trackers, of earlier attempts, too."""
        known = {**self._before, **{tracker.name: tracker.facts for tracker in trackers}}
        self.is_stale, self._written = False, time.monotonic()
        with suppress(StorageError):  # the folder is gone, or the disk full: the run says so
            self._folder.write("trackers", {"schema": SCHEMA, "supervisor": self._identity, "trackers": known})


def be_idle() -> None:
    """Leave the processors to everybody else, this process and what it starts."""
    with suppress(OSError):
        os.setsid()  # already done where the system can start a process in a session of its own
    with suppress(OSError):
        os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _how(code: int | None) -> str:
    return f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


def main() -> int:
    """Supervise the run of the command line."""
    be_idle()
    path, finish_seconds, *named = sys.argv[1:]
    factories = dict(word.split("=", 1) for word in named)
    supervise(RunFolder(Path(path)), factories, float(finish_seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
