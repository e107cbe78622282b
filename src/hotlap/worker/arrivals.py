"""Whether the lines of a command came when they were printed, or kept back and then several at once.

A program that keeps its lines back falsifies every time that is taken from their arrival. On a busy machine it may be
the reader who is late, though: what it waited for a core is known, and holds nothing against the program.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

AT_ONCE_SECONDS: Final = 0.002
"""Lines that come within so short a time come at once: a training takes longer for a step."""
LEAST_SILENCE_SECONDS: Final = 0.2
"""Silence before them that makes their arrival a matter of luck."""


class Arrivals:
    """Counts the points of a run that came at once with others after a silence."""

    def __init__(self, reader_delay: Callable[[], float] = lambda: 0.0) -> None:
        """`reader_delay` gives the seconds that the reader waited for a core since it was asked before."""
        self._reader_delay = reader_delay
        self._num_points = self._num_late = 0
        self._last_output = 0.0
        self._began = float("-inf")
        self._silence = self._reader_late = 0.0
        self._moments = 0
        self._seen: dict[str, int | None] = {}

    def note_start(self, at_seconds: float) -> None:
        """Note when the command was started; what it took before that was no silence of the command's."""
        self._last_output = at_seconds

    def note_silence(self) -> None:
        """Note a look that found nothing printed."""
        self._reader_delay()

    def note_output(self, at_seconds: float) -> None:
        """Note that something was printed, whatever it says; call it before `note` for the same moment."""
        if at_seconds - self._began > AT_ONCE_SECONDS:
            self._close()
            self._began, self._silence = at_seconds, at_seconds - self._last_output
            self._reader_late = self._reader_delay() if self._silence >= LEAST_SILENCE_SECONDS else 0.0
        self._last_output = at_seconds

    def note(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Note a point; one that tells a metric anew, of another step, is of another moment than those before it."""
        if not self._moments or any(name in self._seen and _is_other(self._seen[name], step) for name in metrics):
            self._moments += 1
            self._seen = {}
        self._seen.update(dict.fromkeys(metrics, step))

    @property
    def is_buffered(self) -> bool:
        """Whether most points so far came at once with others: how late they are, nobody can tell."""
        late = self._num_late + (self._moments if self._are_late() else 0)
        return late > (self._num_points + self._moments) / 2

    def _close(self) -> None:
        self._num_points += self._moments
        self._num_late += self._moments if self._are_late() else 0
        self._moments, self._seen = 0, {}

    def _are_late(self) -> bool:
        is_block = self._moments > 1 and self._silence >= LEAST_SILENCE_SECONDS
        return is_block and self._reader_late < AT_ONCE_SECONDS


def _is_other(before: int | None, now: int | None) -> bool:
    """Say whether two points belong to different moments, by their steps; without steps they do."""
    return before is None or now is None or before != now


class ReaderDelay:
    """How long this thread was ready and waited for a core, from the kernel's scheduler; 0 where that is not told."""

    def __init__(self, path: Path = Path("/proc/thread-self/schedstat")) -> None:
        self._path = path
        self._before = self._total()

    def since_last(self) -> float:
        """Return the seconds since the call before, or since it was made."""
        total = self._total()
        self._before, before = total, self._before
        return total - before

    def _total(self) -> float:
        """Return the second figure of the file, nanoseconds spent waiting on a run queue, in seconds."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return 0.0
        try:
            return int(os.read(descriptor, 100).split()[1]) * 1e-9
        except (OSError, IndexError, ValueError):
            return 0.0
        finally:
            os.close(descriptor)
