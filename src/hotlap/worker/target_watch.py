"""Whether the targets hold by what a command has printed, digits that were rounded away included."""

import math
from collections.abc import Mapping, Sequence

from hotlap.capture.precision import verdict
from hotlap.capture.reading import Reading
from hotlap.core.targets import Target


class TargetWatch:
    """Puts the lines of one evaluation together; the targets hold when all of them hold in one evaluation."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.undecided: dict[str, str] = {}
        """Metrics that were printed with too few digits to decide a target, with what was printed."""
        self._targets = targets
        self.names = {target.metric for target in targets}
        self._values: dict[str, float] = {}
        self._decimals: dict[str, int | None] = {}
        self._step: int | None = None

    @property
    def evaluation(self) -> Mapping[str, float]:
        """The targets' metrics of the last evaluation, as far as it has told them."""
        return self._values

    def note(self, reading: Reading) -> bool:
        """Take a reading in; return whether all targets hold by now."""
        told = {n: value for n, value in reading.metrics.items() if n in self.names and n not in reading.doubts}
        if not told:
            return False
        is_same = reading.step is not None and reading.step == self._step
        is_other = reading.step is not None and self._step is not None and not is_same
        if is_other or not (is_same or told.keys().isdisjoint(self._values)):
            self._values, self._decimals = {}, {}
        self._step = reading.step if reading.step is not None else self._step
        for name, value in told.items():
            self._values[name] = value
            self._decimals[name] = reading.decimals.get(name)
        held = [self._holds(target) for target in self._targets]  # each is asked: each may be undecided
        return all(held)

    def _holds(self, target: Target) -> bool:
        """Say whether a target holds for every number that would have been printed like this."""
        value, digits = self._values.get(target.metric, math.nan), self._decimals.get(target.metric)
        holds = verdict(target, value, digits)
        if holds is None:
            self.undecided[target.metric] = f"{value:.{max(digits or 0, 0)}f}"
        return holds is True
