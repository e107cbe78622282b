"""Who looks on while a study goes on, and how people stop it."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from hotlap.core.records import RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.study.plan import Action
from hotlap.study.study import Study


class Watcher(Protocol):
    """Whoever shows a study to people; it changes nothing."""

    def acts(self, action: Action, study: Study) -> None:
        """Called before an action is carried out."""

    def follows(self, folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        """Called a few times a second while a run goes on."""

    def ended(self, record: RunRecord) -> None:
        """Called with each finished run."""

    def says(self, text: str) -> None:
        """Called with a sentence for the user."""


class Teller(Protocol):
    """Whoever hands sentences on to the user."""

    def says(self, text: str) -> None:
        """Called with a sentence for the user."""


class Interrupts:
    """Counts Ctrl-C: once finishes the current run, twice stops now. SIGTERM stops now."""

    def __init__(self, watcher: Teller) -> None:
        self.count = 0
        self._watcher = watcher
        self._breaks_off = False

    @contextmanager
    def caught(self) -> Iterator["Interrupts"]:
        """Catch the signals inside the block."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Leave the block at the first signal: nothing runs yet that could be finished."""
        self._breaks_off = True
        try:
            yield
        except KeyboardInterrupt:
            pass  # it is counted
        finally:
            self._breaks_off = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1 if number == signal.SIGINT else 2
        if self._breaks_off:
            raise KeyboardInterrupt
        if self.count == 1:
            self._watcher.says("finishing the current run, then stopping; Ctrl-C again stops now")
