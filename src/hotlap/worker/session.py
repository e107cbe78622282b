"""The process that a run lives in: its identity, its wall clock, its limits, its signals, its driver."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from hotlap.core.processes import is_alive, process_identity
from hotlap.core.run_folder import RunFolder

_WATCH_SECONDS = 1.0
_ASK_TO_END: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""SIGUSR1 is what batch systems send some time before they kill (SLURM: --signal=USR1@120)."""


class Session:
    """What the worker knows of the world outside the training."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.command: dict[str, Any] = folder.read("command") or {}
        self._started = float(self.command.get("launched_monotonic", time.monotonic()))
        self._wall_before = float(self.command.get("wall_before_seconds") or 0.0)
        self._signal: int | None = None
        rank = os.environ.get("RANK")
        # Of several processes the torchrun above them stands for the run, or without a launcher the first of them.
        if rank is None or (rank == "0" and not folder.is_running()):
            folder.write("worker", process_identity())

    @property
    def process_seconds(self) -> float:
        """Seconds since the launcher forked this process."""
        return time.monotonic() - self._started

    @property
    def wall_seconds(self) -> float:
        """Seconds of this process and of the run's earlier attempts: the reading of the wall clock."""
        return self._wall_before + self.process_seconds

    @property
    def resume(self) -> Path | None:
        """The checkpoint that the run goes on from, None for a run from the start."""
        name = self.command.get("resume")
        return self.folder.path / str(name) if name else None

    def limit(self, clock: str) -> float | None:
        """Return the bound on a clock (`train` or `wall`), or None."""
        limits = self.command.get("limits") or {}
        return limits.get(f"{clock}_seconds")

    @property
    def interrupted_by(self) -> str | None:
        """Name of the signal that asked the run to end, or None."""
        return signal.Signals(self._signal).name if self._signal is not None else None

    def listen(self, before_end: Callable[[], object] = lambda: None) -> None:
        """Note SIGTERM, SIGINT and SIGUSR1 for the next step end, and watch the driver.

        `before_end` is called before this process ends itself, since its driver is gone.
        """
        for number in _ASK_TO_END:
            signal.signal(number, self._note)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            threading.Thread(target=watch_parent, args=(os.getppid(),), daemon=True).start()
        driver = self.command.get("driver")
        if driver is not None:
            threading.Thread(target=watch_driver, args=(driver, before_end), daemon=True).start()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number


def watch_parent(parent: int) -> None:
    """End this process, and the group that it leads, once what started it is gone, such as a killed torchrun."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    _end_now()


def watch_driver(driver: dict[str, Any], before_end: Callable[[], object]) -> None:
    """End the whole process group once the driver is gone: nobody would read the result."""
    while is_alive(driver):
        time.sleep(_WATCH_SECONDS)
    try:
        before_end()
    finally:
        _end_now()


def _end_now() -> None:
    """Kill this process, and its group if it leads one: started by hand, the group is somebody's script."""
    if os.getpgid(0) == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
