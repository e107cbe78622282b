"""What a bench measures, and in which order: pure functions of its plan and of what was measured so far.

Each round measures every cell once, in an order of its own, so that neither a machine that gets slower nor a busy
neighbour looks like the effect of a setting. Since nothing else decides what comes next, a bench that was killed goes
on where it was.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, Final, Self

from hotlap.bench.axes import Axis, combinations
from hotlap.core.bench_records import CellRepeat, median

RUNGS: Final = 20
"""Batch sizes of a ladder at most: up to half a million rows."""
_PAYS: Final = 1.03
"""A larger batch pays when it makes so many times as many samples per second as the best smaller one."""
_PATIENCE: Final = 2
"""A ladder ends after so many sizes in a row that did not pay."""


@dataclass(frozen=True, slots=True)
class GridCell:
    """One combination of the axes' values."""

    number: int
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """The axes of a bench and how each of its cells is measured."""

    axes: tuple[Axis, ...]
    repeats: int = 3
    """Processes that measure a cell, one in each round."""
    seed: int = 0
    """Of the order."""
    warmup_steps: int = 3
    steps: int = 10
    """Measured steps of a repeat, at least."""
    seconds: float = 3.0
    """Measured seconds of a repeat, at least."""
    limit_seconds: float = 300.0
    """Longest that the process of a repeat may take."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """Settings that a round begins with, then those that differ from them the least: for a bench that may be cut short.
    """
    own: Mapping[str, Any] = field(default_factory=dict)
    """What the user's config has by dotted key, where the config that all cells start from has something else."""
    left_out: tuple[Mapping[str, Any], ...] = ()
    """Combinations of the axes' values that are not measured."""
    most_rows: int | None = None
    """Batch size with which a ladder ends at the latest; None: what fits and pays decides alone."""

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        axes = [{"key": axis.key, "values": list(axis.values) or "auto"} for axis in self.axes]
        plain = {**asdict(self), "axes": axes, "left_out": [dict(settings) for settings in self.left_out]}
        return plain if self.left_out else {name: value for name, value in plain.items() if name != "left_out"}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the plan of stored values."""
        axes = tuple(
            Axis(axis["key"], () if axis["values"] == "auto" else tuple(axis["values"])) for axis in stored["axes"]
        )
        names = ("repeats", "seed", "warmup_steps", "steps", "seconds", "limit_seconds", "base", "own", "most_rows")
        left_out = tuple(stored.get("left_out", ()))
        return cls(axes=axes, left_out=left_out, **{name: stored[name] for name in names if name in stored})

    @property
    def auto_key(self) -> str | None:
        """The key of the batch size where the bench finds its values."""
        return next((axis.key for axis in self.axes if axis.is_auto), None)

    @property
    def ladders(self) -> list[dict[str, Any]]:
        """The combinations of all axes with values, in which a ladder of batch sizes is climbed each; or the cells."""
        return [settings for settings in combinations(self.axes) if settings not in self.left_out]


def next_repeat(plan: BenchPlan, done: Sequence[CellRepeat]) -> tuple[GridCell, int] | None:
    """Return the cell that is measured next and the number of its repeat; None when everything is measured.

    A cell that could not be measured is not tried again.
    """
    measured = {(repeat.cell, repeat.repeat) for repeat in done}
    rung = _next_rung(plan, done)
    if rung is not None:
        return rung, 0
    for turn in range(plan.repeats):
        for cell in _order(plan, turn, _open_cells(plan, done, turn)):
            if (cell.number, turn) not in measured:
                return cell, turn
    return None


def planned_repeats(plan: BenchPlan, done: Sequence[CellRepeat]) -> int:
    """Return how many repeats there will be in all, as far as that is known now."""
    return sum(len(_open_cells(plan, done, turn)) for turn in range(plan.repeats)) + (
        1 if _next_rung(plan, done) is not None else 0
    )


def cells_of(plan: BenchPlan, done: Sequence[CellRepeat]) -> list[GridCell]:
    """Return the cells of the grid; of ladders, as far as they were climbed."""
    if plan.auto_key is None:
        return [GridCell(number, settings) for number, settings in enumerate(plan.ladders)]
    firsts = [repeat for repeat in done if repeat.repeat == 0]
    return [GridCell(repeat.cell, repeat.settings) for repeat in sorted(firsts, key=lambda repeat: repeat.cell)]


def _open_cells(plan: BenchPlan, done: Sequence[CellRepeat], turn: int) -> list[GridCell]:
    """Return the cells that a round measures: in the first one all, then those that could be measured."""
    cells = cells_of(plan, done)
    failed = {repeat.cell for repeat in done if not repeat.is_measured and repeat.repeat < turn}
    return [cell for cell in cells if cell.number not in failed]


def _order(plan: BenchPlan, turn: int, cells: Sequence[GridCell]) -> list[GridCell]:
    """Return the cells in the order of a round; it does not depend on which of them are left."""
    places = {
        cell.number: (_distance(plan, cell), Random(f"{plan.seed}:{turn}:{cell.number}").random()) for cell in cells
    }
    return sorted(cells, key=lambda cell: places[cell.number])


def _distance(plan: BenchPlan, cell: GridCell) -> int:
    """Return in how many settings a cell differs from those that a round begins with."""
    return sum(key in cell.settings and cell.settings[key] != value for key, value in plan.base.items())


def _next_rung(plan: BenchPlan, done: Sequence[CellRepeat]) -> GridCell | None:
    """Return the next batch size of the ladder that was climbed least; None where no ladder goes on."""
    key = plan.auto_key
    if key is None:
        return None
    ladders: dict[int, list[CellRepeat]] = {number: [] for number in range(len(plan.ladders))}
    for repeat in done:
        if repeat.repeat == 0:
            ladders[repeat.cell // RUNGS].append(repeat)
    most = math.inf if plan.most_rows is None else plan.most_rows
    going_on = {number: rungs for number, rungs in ladders.items() if 2 ** len(rungs) <= most and _goes_on(rungs)}
    if not going_on:
        return None
    height = min(map(len, going_on.values()))
    lowest = [number for number, rungs in going_on.items() if len(rungs) == height]
    number = Random(f"{plan.seed}:{height}:{len(lowest)}").choice(lowest)
    size = 2**height
    settings = {axis.key: size if axis.is_auto else plan.ladders[number][axis.key] for axis in plan.axes}
    return GridCell(number * RUNGS + height, settings)


def _goes_on(rungs: Sequence[CellRepeat]) -> bool:
    """Say whether a larger batch size is to be tried after those that were, the smallest first."""
    if len(rungs) >= RUNGS or not all(rung.is_measured for rung in rungs):
        return False
    best, in_vain = 0.0, 0
    for rung in rungs:
        speed = (rung.samples_per_step or 1.0) / median(rung.step_seconds)  # a command may not tell its samples
        in_vain = 0 if speed > _PAYS * best else in_vain + 1
        best = max(best, speed)
    return in_vain < _PATIENCE
