"""What a command's readings become: points, the last value of each metric, and how the run stands."""

import math
import time
from collections.abc import Mapping
from typing import Any

from hotlap.capture.reading import CLOCK, Reading
from hotlap.core.clock import ClockName
from hotlap.core.errors import DivergedError, HotlapError
from hotlap.core.run_folder import RunFolder
from hotlap.worker.arrivals import Arrivals, ReaderDelay
from hotlap.worker.command_settings import CommandSettings
from hotlap.worker.point_writer import PointWriter
from hotlap.worker.target_watch import TargetWatch

_TOKEN_NAMES = ("tokens", "num_input_tokens_seen", "total_tokens", "num_tokens")


class ClockError(HotlapError):
    """A clock of the command's own that cannot be believed."""


class CommandRecord:
    """Books the readings of one run."""

    def __init__(self, folder: RunFolder, settings: CommandSettings) -> None:
        self.clock: ClockName = settings.clock
        self.watch = TargetWatch(settings.targets)
        self.arrivals = Arrivals(ReaderDelay().since_last)
        self.metrics: dict[str, float] = {}
        self.sources: dict[str, int] = {}
        self.step = self.tokens = 0
        self.started_seconds = 0.0
        """Reading of the wall clock when the command was started."""
        self.reached: dict[str, float] | None = None
        self._own_seconds: float | None = None
        self._is_stamped = False
        self._looked_seconds = 0.0
        self.doubts: dict[str, str] = {}
        """Metrics, or the clock, that are not believed, each with the reason."""
        self._points = PointWriter(folder)
        self._has_steps = False
        self._told_at_step: set[str] = set()

    @property
    def has_own_clock(self) -> bool:
        """Whether the command tells a clock of its own."""
        return self._own_seconds is not None

    @property
    def is_timed(self) -> bool:
        """Whether the times on the judged clock can be believed: lines that are kept back falsify their arrival."""
        is_own = self.clock == "train" and self.has_own_clock
        return is_own or self._is_stamped or not self.arrivals.is_buffered

    def train_seconds(self, wall_seconds: float) -> float:
        """Return the command's own clock or, where it has none, the seconds since it was started.

        Where that clock is judged, its first reading is waited for.
        """
        if self._own_seconds is not None:
            return self._own_seconds
        return 0.0 if self.clock == "train" else max(0.0, wall_seconds - self.started_seconds)

    def book(self, reading: Reading, now_seconds: float) -> bool:
        """Write a reading down that has been looked at just now, on the wall clock; return whether all targets hold.

        Raises DivergedError for a loss or a target's metric that is not finite, ClockError where the command's own
        clock went back.
        """
        wall_seconds = self._arrival(reading, now_seconds)
        self._book_clock(reading)
        self._book_step(reading)
        if reading.at_seconds is not None:
            self.arrivals.note(reading.metrics, reading.step)
        self.doubts.update(reading.doubts)
        metrics = _with_train_loss(reading.metrics)
        self.metrics.update(metrics)
        self.sources[reading.source] = self.sources.get(reading.source, 0) + 1
        self.tokens = next((int(metrics[name]) for name in _TOKEN_NAMES if _is_count(metrics.get(name))), self.tokens)
        holds = self.watch.note(reading)
        is_watched = any(target in reading.metrics for target in self.watch.names)
        train_seconds = self.train_seconds(wall_seconds)
        place: dict[str, float | int] = {
            "step": self.step,
            "train_seconds": train_seconds,
            "wall_seconds": wall_seconds,
            "tokens": self.tokens,
        }
        if not self._has_steps:
            place["is_step_counted"] = True
        self._points.add({**place, **metrics}, is_needed=is_watched or _is_evaluation(metrics))
        self._refuse_not_finite({name: value for name, value in reading.metrics.items() if name not in reading.doubts})
        if holds and self.reached is None:
            self._is_stamped = reading.unix_seconds is not None and reading.at_seconds is None
            self.reached = {"train": train_seconds, "wall": wall_seconds, "step": self.step}
        return holds

    def flush(self) -> None:
        """Bring the points to the disk."""
        self._points.flush()

    def facts(self) -> dict[str, Any]:
        """Return what result.json says of the capture."""
        return {
            "clock": "own" if self.has_own_clock else "arrival",
            "is_buffered": self.arrivals.is_buffered,
            "sources": self.sources,
            "rounded": self.watch.undecided,
            "doubts": self.doubts,
        }

    def look(self, wall_seconds: float) -> None:
        """Note when the files that the command writes metrics to were last looked at."""
        self._looked_seconds = wall_seconds

    def _arrival(self, reading: Reading, now_seconds: float) -> float:
        """Return when a reading was told: when its line came, or when the command says that it wrote it down.

        The latter is believed within the time since the last look alone, so a clock that was set back gains nothing.
        """
        if reading.at_seconds is not None:
            return min(reading.at_seconds, now_seconds)
        if reading.unix_seconds is None:
            return now_seconds
        said = now_seconds - (time.time() - reading.unix_seconds)
        return min(now_seconds, max(said, self._looked_seconds))

    def _book_clock(self, reading: Reading) -> None:
        if CLOCK in reading.doubts and self.clock == "train":
            raise ClockError(reading.doubts[CLOCK])
        seconds, before = reading.clock_seconds, self._own_seconds
        if seconds is None or not math.isfinite(seconds) or CLOCK in reading.doubts:
            return
        if before is not None and seconds < before:
            raise ClockError(f"its own clock went back from {before:g} s to {seconds:g} s, after step {self.step}")
        self._own_seconds = seconds

    def _book_step(self, reading: Reading) -> None:
        """Take the step over; a command that tells none has its evaluations counted, or its points."""
        if reading.step is not None:
            self.step, self._has_steps = reading.step, True
            return
        if self._has_steps:
            return
        if not self.step or not reading.metrics.keys().isdisjoint(self._told_at_step):
            self.step += 1
            self._told_at_step = set()
        self._told_at_step |= reading.metrics.keys()

    def _refuse_not_finite(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if not math.isfinite(value) and ("loss" in name.lower() or name in self.watch.names):
                raise DivergedError(f"{name} is {value} at step {self.step}")


def _with_train_loss(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics with the training loss under hotlap's name too, where the command calls it just `loss`."""
    is_wanted = "loss" in metrics and "train_loss" not in metrics
    return {**metrics, "train_loss": metrics["loss"]} if is_wanted else dict(metrics)


def _is_evaluation(metrics: Mapping[str, float]) -> bool:
    return any(name.startswith(("eval", "val", "test")) for name in metrics)


def _is_count(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value >= 0
