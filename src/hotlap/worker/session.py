"""The process that a run lives in: its identity, its wall clock, its limits, its signals, its driver."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from hotlap.core.processes import is_alive, process_identity
from hotlap.core.run_folder import RunFolder

_WATCH_SECONDS = 1.0


class Session:
    """What the worker knows of the world outside the training."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.command: dict[str, Any] = folder.read("command") or {}
        self._started = float(self.command.get("launched_monotonic", time.monotonic()))
        self._signal: int | None = None
        folder.write("worker", process_identity())

    @property
    def wall_seconds(self) -> float:
        """Seconds since the launcher forked this process."""
        return time.monotonic() - self._started

    def limit(self, clock: str) -> float | None:
        """Return the bound on a clock (`train` or `wall`), or None."""
        limits = self.command.get("limits") or {}
        return limits.get(f"{clock}_seconds")

    def out_of_budget(self, train_seconds: float) -> str | None:
        """Say which bound was passed, or None."""
        for clock, reading in (("train", train_seconds), ("wall", self.wall_seconds)):
            bound = self.limit(clock)
            if bound is not None and reading >= bound:
                return f"{reading:.1f} s on the {clock} clock, the limit is {bound:.1f} s"
        return None

    @property
    def interrupted_by(self) -> str | None:
        """Name of the signal that asked the run to end, or None."""
        return signal.Signals(self._signal).name if self._signal is not None else None

    def listen(self) -> None:
        """Note SIGTERM and SIGINT for the next step end, and watch the driver."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        driver = self.command.get("driver")
        if driver is not None:
            threading.Thread(target=_watch_driver, args=(driver,), daemon=True).start()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number


def _watch_driver(driver: dict[str, Any]) -> None:
    """End the whole process group once the driver is gone: nobody would read the result."""
    while is_alive(driver):
        time.sleep(_WATCH_SECONDS)
    os.killpg(os.getpgid(0), signal.SIGKILL)
