"""Somebody else's command as a child process: in a session of its own, on a pseudo-terminal, its output as bytes.

    child = ChildProcess("python train.py", os.environ, Path("."), has_terminal=True)
    while (data := child.read(0.05)) != b"": ...        # None while nothing comes
    child.end_code()

A program that writes to a pipe keeps its lines back until some thousand bytes are together; on a terminal each comes
when it is printed.
"""

import fcntl
import os
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

_PIECE_BYTES: Final = 65536
_FLOOD_BYTES: Final = 2048
"""So much at once is no line that somebody waits for."""
_MOMENT_SECONDS: Final = 0.0005
_TOGETHER_SECONDS: Final = 0.004
"""Lines that follow each other faster are read together: to be woken for each would cost the machine more."""
_TOGETHER_BYTES_PER_SECOND: Final = 256_000
"""Output that comes faster fills a terminal within that time, and is read as soon as it is there."""
_ROWS, _COLUMNS = 50, 200
"""Size of the terminal: wide enough that no program breaks its lines."""
_PIPE_BYTES: Final = 2**20


class ChildProcess:
    """One started command, all of whose processes can be ended."""

    def __init__(self, shell: str, environment: Mapping[str, str], directory: Path, *, has_terminal: bool) -> None:
        self._output, output = _terminal() if has_terminal else _pipe()
        try:
            self._process = subprocess.Popen(
                [_shell_program(), "-c", shell],
                stdin=subprocess.DEVNULL,  # nobody is there to answer a question
                stdout=output,
                stderr=output,
                cwd=directory,
                env=dict(environment),
                start_new_session=True,
            )
        finally:
            os.close(output)
        self._read_at = time.monotonic()
        self._is_slow = False

    @property
    def pid(self) -> int:
        """Pid of the shell; the id of the command's process group and session."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The command's exit code (negative: the signal that ended it), None while it runs."""
        return self._process.poll()

    def read(self, timeout_seconds: float) -> bytes | None:
        """Return what was printed since the last call: None when nothing comes in time, empty at the end of it.

        A terminal hands on 4 KiB at once; of a flood, what follows within a moment is returned with them. Whole lines
        after a silence are returned at once, those that follow within a few milliseconds together.
        """
        if self._is_slow:
            time.sleep(max(0.0, self._read_at + _TOGETHER_SECONDS - time.monotonic()))
        pieces, size, wait = list[bytes](), 0, timeout_seconds
        while size < _PIECE_BYTES:
            if not select.select([self._output], [], [], wait)[0]:
                if not pieces:
                    return None
                break
            try:
                piece = os.read(self._output, _PIECE_BYTES)
            except OSError:  # what Linux says once the last process has closed its side of a terminal
                break
            pieces.append(piece)
            size += len(piece)
            if len(piece) < _FLOOD_BYTES:
                break
            wait = _MOMENT_SECONDS
        before, self._read_at = self._read_at, time.monotonic()
        is_line = bool(pieces) and pieces[-1].endswith((b"\n", b"\r"))
        self._is_slow = is_line and size < _TOGETHER_BYTES_PER_SECOND * (self._read_at - before)
        return b"".join(pieces)

    def wait(self, timeout_seconds: float) -> None:
        """Wait for the end of the command, at most so long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_seconds)

    def ask_to_end(self) -> None:
        """Send SIGTERM to the command's process group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the command and everything that it started, as far as it is still its child or in its group."""
        with suppress(psutil.Error):
            for process in psutil.Process(self.pid).children(recursive=True):
                with suppress(psutil.Error):
                    process.kill()
        self._signal(signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)

    def close(self) -> None:
        """Close the terminal; who still writes to it is told that it is gone."""
        os.close(self._output)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _terminal() -> tuple[int, int]:
    """Return both ends of a new pseudo-terminal that hands on what is written, byte for byte."""
    ours, theirs = os.openpty()
    mode = termios.tcgetattr(theirs)
    mode[1] &= ~termios.OPOST  # a line feed stays one
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, mode)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    return ours, theirs


def _pipe() -> tuple[int, int]:
    ours, theirs = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return ours, theirs


def _shell_program() -> str:
    return shutil.which("bash") or "/bin/sh"
