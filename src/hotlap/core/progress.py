"""How far a long piece of work is, in one line: what is done, how fast, and when it will be over."""

import time
from collections.abc import Callable
from typing import Final

from hotlap.core.durations import format_seconds

PREFIX: Final = "preparing: "
"""What such a line begins with where it goes through a pipe beside other lines."""
_SHOWN_EVERY_SECONDS: Final = 0.5
_UNITS: Final = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


class Progress:
    """Says how far work on so many bytes is, at most twice a second."""

    def __init__(
        self, total: int | None, say: Callable[[str], None] | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Start to count; `total` is None where nobody knows how much there is, `say` None where nobody listens."""
        self._total = total
        self._say = say
        self._now = now
        self._done = self._made = 0
        self._start = self._said = now()

    def advance(self, num_bytes: int, *, is_new: bool = True) -> None:
        """Count bytes that are done, and say so when it is time; those from an earlier call do not count as speed."""
        self._done += num_bytes
        self._made += num_bytes if is_new else 0
        now = self._now()
        if self._say is not None and now - self._said >= _SHOWN_EVERY_SECONDS:
            self._said = now
            self._say(self.text())

    def text(self) -> str:
        """Return the line, such as `34 %, 680 MB of 2.0 GB, 12.3 MB/s, 1:47 left`."""
        speed = self._made / max(self._now() - self._start, 1e-9)
        told = f"{show_bytes(speed)}/s"
        if not self._total:
            return f"{show_bytes(self._done)} read, {told}"
        share = min(1.0, self._done / self._total)
        left = f", {format_seconds((self._total - self._done) / speed)} left" if speed and share < 1 else ""
        return f"{share:.0%}, {show_bytes(self._done)} of {show_bytes(self._total)}, {told}{left}"


def show_bytes(count: float) -> str:
    """Write a number of bytes for people: `12.3 MB`."""
    for unit, size in _UNITS:
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 999.5 * size else f"{count / size:,.0f} {unit}"
    return f"{count:.0f} B"
