"""What a larger batch brings: where it stops to pay, what it needs of memory; and what more devices bring."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from hotlap.bench.cells import Cell, Noise
from hotlap.bench.measured_axes import MeasuredAxis, axis_with, groups

TOLERANCE: Final = 0.03
"""What a smaller batch may cost of the best throughput and still be called as good."""
MOST_TOLERANCE: Final = 0.04
"""What a suggestion may cost where the noise is so large that less cannot be told apart."""
_NO_GROWTH: Final = 1e-3
"""Growth over all batches, as a share, that is none."""
HEADROOM: Final = 0.92
"""Share of a device's memory that a batch may fill: allocators scatter."""


class Knee(NamedTuple):
    """The smallest batch that is as good as the best, everything else equal."""

    settings: Mapping[str, Any]
    """Without the batch."""
    batch: int
    best_batch: int
    pay: float
    """Throughput at `batch`."""
    best_pay: float
    is_inside: bool
    """Whether larger batches were measured that bring no more; else the throughput may go on growing."""


class MemoryLine(NamedTuple):
    """Peak memory of one device by batch, everything else equal: fixed_bytes + row_bytes · batch."""

    settings: Mapping[str, Any]
    """Without the batch."""
    fixed_bytes: float
    row_bytes: float
    error: float
    """Largest |fitted / measured − 1|; not a number for two batches, which any line fits."""
    num_batches: int
    largest_measured: int
    """Largest batch that was measured to fit."""
    smallest_refused: int | None
    """Smallest batch that did not."""
    limit_bytes: int | None
    """Memory of the device; None where it is not known."""
    largest_predicted: int | None
    """Largest batch that the line lets into `HEADROOM` of that memory, below what was refused; None without a limit
    or a line that grows."""

    def bytes_at(self, batch: float) -> float:
        """Return the peak at a batch."""
        return self.fixed_bytes + self.row_bytes * batch


class Scaling(NamedTuple):
    """Throughput on several devices against that many times the throughput on the fewest, everything else equal."""

    settings: Mapping[str, Any]
    """Without the devices."""
    devices: int
    fewest: int
    speedup: float
    efficiency: float
    """1 is ideal."""


def tolerance_of(noise: Noise, best: Cell, other: Cell) -> float:
    """Return the share of the best throughput that another cell may lack and still count as good."""
    return min(max(TOLERANCE, noise.of_difference(best, other)), MOST_TOLERANCE)


def knees(cells: Sequence[Cell], axes: Sequence[MeasuredAxis]) -> tuple[Knee, ...]:
    """Return the knee for every combination of the other axes that has more than one batch."""
    axis = axis_with(axes, "batch")
    if axis is None or not axis.is_number:
        return ()
    found = []
    for group in groups([cell for cell in cells if cell.is_measured], axes, axis.key):
        ordered = sorted(group, key=lambda cell: cell.settings[axis.key])
        if len(ordered) < 2:
            continue
        best = max(ordered, key=lambda cell: cell.pay)
        knee = next(cell for cell in ordered if cell.pay >= best.pay * (1 - TOLERANCE))
        found.append(
            Knee(
                _without(best.settings, axis.key),
                knee.settings[axis.key],
                best.settings[axis.key],
                knee.pay,
                best.pay,
                knee is not ordered[-1],
            )
        )
    return tuple(found)


def memory_lines(
    cells: Sequence[Cell], axes: Sequence[MeasuredAxis], limit_bytes: int | None = None
) -> tuple[MemoryLine, ...]:
    """Return the line for every combination of the other axes with peaks at more than one batch."""
    axis = axis_with(axes, "batch")
    if axis is None or not axis.is_number:
        return ()
    found = []
    for group in groups(cells, axes, axis.key):
        peaks = {cell.settings[axis.key]: cell.peak_memory_bytes for cell in group if cell.is_measured}
        points = {batch: peak for batch, peak in peaks.items() if peak is not None}
        if len(points) < 2:
            continue
        fixed, row = _line(points)
        refused = [cell.settings[axis.key] for cell in group if cell.outcome == "out_of_memory"]
        errors = [abs((fixed + row * batch) / peak - 1) for batch, peak in points.items()]
        line = MemoryLine(
            _without(group[0].settings, axis.key),
            fixed,
            row,
            max(errors) if len(points) > 2 else math.nan,
            len(points),
            max(points),
            min((batch for batch in refused if batch > max(points)), default=None),
            limit_bytes,
            None,
        )
        found.append(line._replace(largest_predicted=_largest(line)))
    return tuple(found)


def _line(points: Mapping[int, int]) -> tuple[float, float]:
    """Fit a line by least squares of relative errors: a small batch's peak counts as much as a large one's.

    Memory neither is negative nor shrinks with the batch.
    """
    weights = {batch: 1 / peak**2 for batch, peak in points.items()}
    total = sum(weights.values())
    x = sum(weight * batch for batch, weight in weights.items()) / total
    y = sum(weights[batch] * peak for batch, peak in points.items()) / total
    across = sum(weight * (batch - x) ** 2 for batch, weight in weights.items())
    row = sum(weights[batch] * (batch - x) * (peak - y) for batch, peak in points.items()) / across
    row = max(row, 0.0)
    if row * (max(points) - min(points)) < _NO_GROWTH * y:
        return y, 0.0
    if y - row * x < 0:
        square = sum(weight * batch**2 for batch, weight in weights.items())
        return 0.0, sum(weights[batch] * batch * peak for batch, peak in points.items()) / square
    return y - row * x, row


def _largest(line: MemoryLine) -> int | None:
    if line.limit_bytes is None or line.row_bytes <= 0:
        return None
    fits = math.floor((HEADROOM * line.limit_bytes - line.fixed_bytes) / line.row_bytes)
    if line.smallest_refused is not None:
        fits = min(fits, line.smallest_refused - 1)
    return max(fits, line.largest_measured)


def scalings(cells: Sequence[Cell], axes: Sequence[MeasuredAxis]) -> tuple[Scaling, ...]:
    """Return what more devices bring, for every combination of the other axes (the batch is one device's)."""
    axis = axis_with(axes, "devices")
    if axis is None or not axis.is_number:
        return ()
    found = []
    for group in groups([cell for cell in cells if cell.is_measured], axes, axis.key):
        fewest, *more = sorted(group, key=lambda cell: cell.settings[axis.key])
        few = fewest.settings[axis.key]
        for cell in more:
            many = cell.settings[axis.key]
            speedup = cell.pay / fewest.pay
            found.append(Scaling(_without(cell.settings, axis.key), many, few, speedup, speedup * few / many))
    return tuple(found)


def _without(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != key}
