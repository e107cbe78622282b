"""Has the machine changed its speed? Read off the step times of recipes that ran before and after.

A step of one recipe costs nearly the same in every run, whatever the seed: that spread, the clock's own noise, is ten
times smaller than that of the time to target. So a machine that became slower shows in the step time at once. One run
that is out makes a suspicion, and the incumbent runs again; if both say the same, it is a drift. All times measured
before a drift then count in seconds of the machine as it is now, and the runs of which nobody knows on which side of it
they lie count for nothing: what was decided on them is open again. The other recipes narrow that down: one that ran
alike before and after the last good run of the drifted one had no drift in between, and one that ran only after it
tells, as soon as it runs again, whether the drift came before all of its runs or after them.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Final

from hotlap.core.records import History, Role, RunRecord

DRIFT_SIGMAS: Final = 4.0
LEAST_DRIFT: Final = math.log(1.03)
"""A change of speed below this is not worth a run."""
CLOCK_SIGMA_FLOOR: Final = 0.001
FEW_RUNS_CLOCK_SIGMA: Final = 0.01
"""Least clock noise believed below five degrees of freedom."""
TRUSTED_DEGREES_OF_FREEDOM: Final = 5
MEASURED_ROLES: Final = ("baseline", "incumbent", "record")
MEASURED_OUTCOMES: Final = ("reached", "missed", "out_of_budget")
"""A step takes as long in a run that did not reach."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One change of the machine's speed."""

    start: int
    """Index of the first run that is known to have been made after it."""
    last_good: int
    """Index of the last run that is known to have been made before it: the change lies between the two."""
    ratio: float
    """Step time after it, relative to before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockNoise:
    """Spread of log step time between runs of one recipe."""

    sigma: float
    degrees_of_freedom: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Runs of one recipe that agreed, of which it is not known whether they were made before the last drift."""

    first: int
    last: int
    values: tuple[float, ...]


@dataclass(slots=True)
class _Fold:
    """What is known of the step times while the runs are read in order."""

    known: dict[int, list[float]] = field(default_factory=dict)
    """Log step times of each candidate since the last drift."""
    first: dict[int, int] = field(default_factory=dict)
    """Index of each candidate's first run since the last drift."""
    last_good: dict[int, int] = field(default_factory=dict)
    unplaced: dict[int, _Group] = field(default_factory=dict)
    """What ran only after the last good run of the recipe by which the last drift was seen."""
    suspicious: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Index and log step time of a candidate's last run, where that was out."""
    drifts: list[Drift] = field(default_factory=list)
    squares: float = 0.0
    degrees: int = 0
    """Spread of the runs before the last drift."""

    def noise(self) -> ClockNoise:
        """Return the clock noise so far."""
        squares, degrees = pooled(self.known.values())
        return _clock_noise(self.squares + squares, self.degrees + degrees)

    def add(self, index: int, run: RunRecord) -> None:
        """Take in the next run."""
        if not run.seconds_per_step > 0:
            return
        value, known = math.log(run.seconds_per_step), self.known.setdefault(run.candidate, [])
        self._place(run.candidate, value)
        self.first.setdefault(run.candidate, index)
        before = self.suspicious.pop(run.candidate, None)
        if before is not None:
            first, second = before[1] - fmean(known), value - fmean(known)
            shift, agree = (first + second) / 2, first * second > 0 and abs(second) > LEAST_DRIFT
            if agree and abs(shift) > self._limit(2, len(known)):
                self._start_again(run.candidate, before[0], [before[1], value], shift)
            else:
                known += [before[1], value]
        elif self._can_tell(known) and abs(value - fmean(known)) > self._limit(1, len(known)):
            self.suspicious[run.candidate] = (index, value)
            return
        else:
            known.append(value)
        self.last_good[run.candidate] = index

    def _can_tell(self, known: Sequence[float]) -> bool:
        """Say whether another reading can be held against those known; one is enough where others tell the noise."""
        return len(known) >= 2 or (len(known) == 1 and self.noise().degrees_of_freedom >= 2)

    def _limit(self, new: int, old: int) -> float:
        """Return the log distance of two means above which it is no accident."""
        return max(LEAST_DRIFT, DRIFT_SIGMAS * self.noise().sigma * math.sqrt(1 / new + 1 / old))

    def _start_again(self, candidate: int, start: int, values: list[float], shift: float) -> None:
        """Note a drift after the last good run of a candidate, or of another that ran alike on both sides of that."""
        last_good = self.last_good[candidate]
        steady = [self.last_good[other] for other in self.known if self.first[other] <= last_good]
        self.drifts.append(Drift(start, max(steady), math.exp(shift)))
        self.unplaced = {
            other: _Group(self.first[other], self.last_good[other], tuple(known))
            for other, known in self.known.items()
            if self.first[other] > last_good
        }
        squares, degrees = pooled(self.known.values())
        self.squares, self.degrees = self.squares + squares, self.degrees + degrees
        self.known, self.first, self.suspicious = {candidate: values}, {candidate: start}, {}

    def _place(self, candidate: int, value: float) -> None:
        """Narrow the last drift down by another run of a recipe that ran, before it was seen, on one side of it."""
        group = self.unplaced.get(candidate)
        if group is None:
            return
        found, change = self.drifts[-1], value - fmean(group.values)
        missing = change - math.log(found.ratio)
        if min(abs(change), abs(missing)) > self._limit(1, len(group.values)):
            return  # a disturbance: the next run may tell
        del self.unplaced[candidate]
        if abs(change) < abs(missing):
            found = replace(found, start=min(found.start, group.first))
        else:
            found = replace(found, last_good=max(found.last_good, group.last))
        if found.last_good < found.start:  # recipes that contradict each other place nothing
            self.drifts[-1] = found


def drifts(history: History) -> tuple[Drift, ...]:
    """Return the changes of the machine's speed that the study has seen, oldest first."""
    return tuple(_folded(history).drifts)


def suspected_drift(history: History) -> float | None:
    """Return by what factor the incumbent's last run was slower per step, if it has to run again to tell why."""
    fold = _folded(history)
    found = fold.suspicious.get(history.incumbent)
    return math.exp(found[1] - fmean(fold.known[history.incumbent])) if found else None


def clock_noise(history: History) -> ClockNoise:
    """Return the spread of log step time within recipes; at least 1 % while few runs were made, 0.1 % later."""
    return history.once("clock noise", lambda: _clock_noise_of(history))


def equivalent_factor(history: History, run: RunRecord) -> float:
    """Return what a run's seconds are multiplied by to be seconds of the machine as it is now."""
    found = drifts(history)
    if not found:
        return 1.0
    index = history.once("index of runs", lambda: {run.run_id: n for n, run in enumerate(history.runs)})
    return math.prod(drift.ratio for drift in found if index.get(run.run_id, len(history.runs)) < drift.start)


def blind_runs(history: History) -> frozenset[str]:
    """Return the runs that no one can compare: made after the last run before a drift and before the first after it."""
    return history.once("blind runs", lambda: frozenset(_blind_runs(history)))


def comparable_runs(history: History, candidate: int, *roles: Role) -> tuple[RunRecord, ...]:
    """Return a candidate's runs (in these roles) that count, without the blind ones."""
    return tuple(run for run in history.runs_of(candidate, *roles) if is_comparable(history, run))


def is_comparable(history: History, run: RunRecord) -> bool:
    """Say whether a run counts, and it is known how fast the machine was."""
    return not run.is_infrastructure_failure and run.run_id not in blind_runs(history)


def _blind_runs(history: History) -> Iterator[str]:
    for drift in drifts(history):
        yield from (run.run_id for run in history.runs[drift.last_good + 1 : drift.start])


def pooled(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Return the sum of squares within groups and its degrees of freedom."""
    squares, degrees = 0.0, 0
    for values in groups:
        if len(values) >= 2:
            center = fmean(values)
            squares += sum((value - center) ** 2 for value in values)
            degrees += len(values) - 1
    return squares, degrees


def _folded(history: History) -> _Fold:
    return history.once("drift", lambda: _fold(history))


def _fold(history: History) -> _Fold:
    fold = _Fold()
    for index, run in enumerate(history.runs):
        if run.role in MEASURED_ROLES and run.outcome in MEASURED_OUTCOMES and not run.contaminated:
            fold.add(index, run)
    return fold


def _clock_noise_of(history: History) -> ClockNoise:
    """Pool what the fold knows with the timing runs, each lane a group of its own."""
    fold = _folded(history)
    squares, degrees = pooled([*fold.known.values(), *_timing_groups(history)])
    return _clock_noise(fold.squares + squares, fold.degrees + degrees)


def _timing_groups(history: History) -> list[list[float]]:
    """Return the log step times of the timing runs by candidate and seed: a lane has one seed."""
    groups: dict[tuple[int, int], list[float]] = {}
    for run in history.runs:
        if run.role == "timing" and not run.is_infrastructure_failure and run.seconds_per_step > 0:
            groups.setdefault((run.candidate, run.seed), []).append(math.log(run.seconds_per_step))
    return list(groups.values())


def _clock_noise(squares: float, degrees: int) -> ClockNoise:
    measured = math.sqrt(squares / degrees) if degrees else 0.0
    floor = FEW_RUNS_CLOCK_SIGMA if degrees < TRUSTED_DEGREES_OF_FREEDOM else CLOCK_SIGMA_FLOOR
    return ClockNoise(sigma=max(measured, floor), degrees_of_freedom=degrees)
