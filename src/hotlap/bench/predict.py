"""Seconds per step of settings that nobody measured: a part that every step has, and a part that grows with its work.

model = StepTimes.fit(cells, axes)
model.seconds({"training.per_device_train_batch_size": 12, "training.bf16": True})
leave_out_errors(cells, axes)                              # how wrong it is where it could be looked up

    seconds = exp(overhead + Σ u[value] + Σ b[axis] · log(value / middle))
            + exp(work     + Σ v[value] + Σ a[axis] · log(value / middle))

after the roofline's idea (Williams et al. 2009) that a step has a fixed cost and one in proportion to its work. A
setting that is no number (precision, compile) scales both parts; a number (batch, length) scales the work by about its
first power and the rest by about none, which the cells may correct. All of this is fitted at once, on log seconds, by
damped least squares, with priors that hold what few cells cannot tell. What remains is smoothed over near settings by a
Gaussian process: caches and kernels that change their way at some size make it.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hotlap.bench.cells import Cell, noise_of, quantile
from hotlap.bench.measured_axes import MeasuredAxis, same
from hotlap.bench.setting_names import Role

FEWEST_CELLS: Final = 6
"""Cells below which nothing is left out to be predicted."""
_EXPONENTS: Final[Mapping[Role, tuple[float, float]]] = {"batch": (1.0, 0.15), "length": (1.1, 0.3)}
"""Mean and spread of what is believed of the power by which work grows; other numbers (1, 0.7)."""
_OTHER: Final = (1.0, 0.7)
_FIXED: Final[Mapping[Role, tuple[float, float]]] = {"batch": (0.0, 0.08), "length": (0.0, 0.15)}
"""The same of the power by which the rest of a step grows: more different shapes, more layers."""
_FIXED_OTHER: Final = (0.3, 0.4)
_SCALE: Final = 0.7
"""Spread of what is believed of a value's log factor."""
_ACCURACY: Final = 0.04
"""By how much (log) the formula may miss a cell without noise before that weighs like one prior spread."""
_REACH: Final = math.log(3)
"""Distance (log) over which what the formula misses is alike."""
_LIKENESS: Final = 0.6
"""How alike it is between two values that are no numbers."""
_ROUNDS: Final = 5
_MOST_STEPS: Final = 60

Vector = NDArray[np.float64]


class LeftOut(NamedTuple):
    """How well cells were predicted from others: a third of them left out at a time."""

    median: float
    """Median of |predicted / measured − 1|."""
    upper: float
    """Its 90th percentile."""
    num_cells: int

    @property
    def is_known(self) -> bool:
        """Whether there were cells enough to leave some out."""
        return math.isfinite(self.median)


@dataclass(frozen=True, slots=True)
class _Shape:
    """How settings become rows of numbers."""

    axes: tuple[MeasuredAxis, ...]

    @property
    def numbers(self) -> tuple[MeasuredAxis, ...]:
        return tuple(axis for axis in self.axes if _scales_work(axis))

    @property
    def levels(self) -> tuple[tuple[MeasuredAxis, int], ...]:
        """Every value but the first of each axis that is no number."""
        return tuple((a, n) for a in self.axes if not _scales_work(a) for n in range(1, len(a.values)))

    def logs(self, settings: Mapping[str, Any]) -> list[float]:
        """Return each number over the middle of its axis, as a logarithm."""
        return [math.log(settings[axis.key]) - _middle(axis) for axis in self.numbers]

    def marks(self, settings: Mapping[str, Any]) -> list[float]:
        """Return 1 for each value that the settings have."""
        return [float(same(settings.get(axis.key), axis.values[number])) for axis, number in self.levels]


class _Rows(NamedTuple):
    """The measured cells as numbers."""

    marks: Vector
    logs: Vector
    seconds: Vector
    """Logarithms."""
    accuracy: Vector
    """By how much (log) each may be missed."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """A fitted model of seconds per step."""

    _shape: _Shape
    _beliefs: Vector
    """overhead, work, u of each level, v of each level, b of each number, a of each number."""
    _marks: Vector
    _logs: Vector
    _rest: Vector
    """Weights of what the formula missed at each cell it was fitted to."""

    @classmethod
    def fit(cls, cells: Sequence[Cell], axes: Sequence[MeasuredAxis]) -> "StepTimes":
        """Fit the measured ones of some cells; raises ValueError when there is none."""
        measured = [cell for cell in cells if cell.is_measured]
        if not measured:
            raise ValueError("no cell was measured, so there is nothing to predict from")
        shape = _Shape(tuple(axes))
        marks = np.array([shape.marks(cell.settings) for cell in measured]).reshape(len(measured), -1)
        logs = np.array([shape.logs(cell.settings) for cell in measured]).reshape(len(measured), -1)
        seconds = np.log([cell.seconds_per_step for cell in measured])
        between = noise_of(measured)
        noise = np.array([between.level_error(cell.num_repeats) for cell in measured])
        beliefs = _fitted(_Rows(marks, logs, seconds, np.hypot(_ACCURACY, noise)), shape)
        missed = seconds - _log_seconds(beliefs, marks, logs)[0]
        return cls(shape, beliefs, marks, logs, _smoothed(marks, logs, missed, noise, shape))

    def seconds(self, settings: Mapping[str, Any]) -> float:
        """Return the seconds per step of settings that have a known value for each axis that is no number.

        Raises ValueError for another value of such an axis: nothing is known of it.
        """
        marks, logs = self._row(settings)
        found, _ = _log_seconds(self._beliefs, marks, logs)
        near = _kernel(marks, logs, self._marks, self._logs, self._shape) @ self._rest
        return float(math.exp(found[0] + near[0]))

    def overhead_ratio(self, settings: Mapping[str, Any]) -> float:
        """Return the share of a step that does not grow with its work."""
        marks, logs = self._row(settings)
        found, overhead = _log_seconds(self._beliefs, marks, logs)
        return float(math.exp(overhead[0] - found[0]))

    def exponent(self, key: str) -> float | None:
        """Return by which power of a number the work grows; None for what is no number or no axis."""
        keys = [axis.key for axis in self._shape.numbers]
        return float(self._beliefs[-len(keys) :][keys.index(key)]) if key in keys else None

    def is_inside(self, settings: Mapping[str, Any]) -> bool:
        """Say whether every number lies between measured ones."""
        row = self._row(settings)[1][0]
        return bool(np.all(row >= self._logs.min(axis=0) - 1e-9) and np.all(row <= self._logs.max(axis=0) + 1e-9))

    def _row(self, settings: Mapping[str, Any]) -> tuple[Vector, Vector]:
        for axis in self._shape.axes:
            value = settings.get(axis.key)
            if not _scales_work(axis) and not any(same(value, other) for other in axis.values):
                raise ValueError(f"{axis.key} was measured at {list(axis.values)}, nothing is known of {value!r}")
        return np.array([self._shape.marks(settings)]), np.array([self._shape.logs(settings)])


def leave_out_errors(cells: Sequence[Cell], axes: Sequence[MeasuredAxis], seed: int = 0) -> LeftOut:
    """Return how well each measured cell is predicted when a random third, it among them, is left out.

    Not numbers with fewer than `FEWEST_CELLS`.
    """
    measured = [cell for cell in cells if cell.is_measured]
    if len(measured) < FEWEST_CELLS:
        return LeftOut(math.nan, math.nan, 0)
    chance = random.Random(seed)
    errors = []
    for _ in range(_ROUNDS):
        order = chance.sample(measured, len(measured))
        for third in range(3):
            left = order[third::3]
            model = StepTimes.fit([cell for cell in order if cell not in left], axes)
            errors += [abs(model.seconds(cell.settings) / cell.seconds_per_step - 1) for cell in left]
    return LeftOut(quantile(errors, 0.5), quantile(errors, 0.9), len(measured))


def _scales_work(axis: MeasuredAxis) -> bool:
    return axis.is_number and axis.role in ("batch", "length", "what")


def _middle(axis: MeasuredAxis) -> float:
    return sum(map(math.log, axis.values)) / len(axis.values)


def _log_seconds(beliefs: Vector, marks: Vector, logs: Vector) -> tuple[Vector, Vector]:
    """Return log seconds per step of each row, and log seconds of its overhead alone."""
    num = marks.shape[1]
    fixed, grown = np.split(beliefs[2 + 2 * num :], 2)
    overhead = beliefs[0] + marks @ beliefs[2 : 2 + num] + logs @ fixed
    work = beliefs[1] + marks @ beliefs[2 + num : 2 + 2 * num] + logs @ grown
    return np.logaddexp(overhead, work), overhead


def _fitted(rows: _Rows, shape: _Shape) -> Vector:
    """Return the likeliest beliefs: cells and priors weighed against each other (Levenberg and Marquardt)."""
    seconds = rows.seconds
    num, roles = rows.marks.shape[1], [axis.role for axis in shape.numbers]
    powers = [_FIXED.get(role, _FIXED_OTHER) for role in roles] + [_EXPONENTS.get(role, _OTHER) for role in roles]
    at = np.array([seconds.min() - 1.0, seconds.mean() - 0.2, *[0.0] * (2 * num), *(mean for mean, _ in powers)])
    spread = np.array([2.0, 2.0, *[_SCALE] * (2 * num), *(width for _, width in powers)])
    prior, damping = at.copy(), 1e-2
    cost, pull, bend = _slopes(at, prior, spread, rows)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(bend + damping * np.diag(np.diag(bend)), -pull)
        tried = _slopes(at + step, prior, spread, rows)
        if tried[0] > cost:
            damping *= 4
            continue
        is_done = cost - tried[0] < 1e-9 * cost
        at, damping = at + step, damping / 3
        cost, pull, bend = tried
        if is_done:
            break
    return at


def _slopes(at: Vector, prior: Vector, spread: Vector, cells: _Rows) -> tuple[float, Vector, Vector]:
    """Return half the sum of squares, its gradient and its (Gauss–Newton) curvature."""
    found, overhead = _log_seconds(at, cells.marks, cells.logs)
    share = np.exp(overhead - found)[:, None]
    rows = [np.ones_like(share), cells.marks, cells.logs]
    slope = np.hstack([part * row for row in rows for part in (share, 1 - share)]) / cells.accuracy[:, None]
    misses, pulls = (found - cells.seconds) / cells.accuracy, (at - prior) / spread
    cost = 0.5 * float(misses @ misses + pulls @ pulls)
    pull = slope.T @ misses + pulls / spread
    return cost, pull, slope.T @ slope + np.diag(spread**-2)


def _kernel(marks: Vector, logs: Vector, other_marks: Vector, other_logs: Vector, shape: _Shape) -> Vector:
    """Return how alike what the formula misses is between rows, from 0 to 1."""
    apart = ((logs[:, None, :] - other_logs[None, :, :]) / _REACH) ** 2
    alike: Vector = np.exp(-0.5 * apart.sum(axis=2))
    keys = [axis.key for axis, _ in shape.levels]
    for key in dict.fromkeys(keys):
        columns = [number for number, other in enumerate(keys) if other == key]
        differs = (marks[:, None, columns] != other_marks[None, :, columns]).any(axis=2)
        alike = np.where(differs, _LIKENESS * alike, alike)
    return alike


def _smoothed(marks: Vector, logs: Vector, missed: Vector, noise: Vector, shape: _Shape) -> Vector:
    """Return the weights with which near cells' misses are carried over, as far as they are not noise."""
    scale = float(np.mean(missed**2))
    alike = _kernel(marks, logs, marks, logs, shape) * scale
    weights = np.linalg.solve(alike + 0.1 * scale * np.eye(len(missed)) + np.diag(noise**2), missed) * scale
    return weights.astype(np.float64)
