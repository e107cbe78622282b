"""The clocks of a run, and the grid of readings at which it is evaluated.

`train` counts the seconds inside optimizer steps only. `wall` counts everything since the launcher started the
process. Evaluation falls on the first step end after geometrically growing readings of the judged clock, so every
run of a protocol is looked at equally often and no run gains by being looked at more.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

ClockName = Literal["train", "wall"]

GRID_START_SECONDS: Final = 0.1
"""Early enough for recipes of a second; below some dozens of steps every step end is looked at anyhow."""
GRID_RATIO: Final = {"train": 1.03, "wall": 1.10}
SPARSE_RATIO: Final = 1.2
"""Where there is no target to be found early, a curve needs fewer points."""


class TrainClock:
    """Seconds inside training steps: start-up, compiling, evaluating and saving are not counted."""

    def __init__(self, now: Callable[[], float] = time.perf_counter, start_seconds: float = 0.0) -> None:
        self._now = now  # a test passes its own
        self._counted = start_seconds  # a resumed run goes on from its checkpoint's reading

    @property
    def seconds(self) -> float:
        """Seconds counted so far."""
        return self._counted

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the time spent inside the block."""
        start = self._now()
        try:
            yield
        finally:
            self._counted += self._now() - start


class EvaluationGrid:
    """Says at which step ends an evaluation is due; resolution is `ratio - 1`."""

    def __init__(self, clock: ClockName, next_reading: float = GRID_START_SECONDS, *, is_sparse: bool = False) -> None:
        self._ratio = SPARSE_RATIO if is_sparse else GRID_RATIO[clock]
        self._next = next_reading

    @property
    def next_reading(self) -> float:
        """The reading at which the next evaluation falls due: what a resumed run goes on from."""
        return self._next

    def is_due(self, reading_seconds: float) -> bool:
        """Say whether a grid reading was passed since the last evaluation, and move on to the next one."""
        if reading_seconds < self._next:
            return False
        while self._next <= reading_seconds:
            self._next *= self._ratio
        return True
