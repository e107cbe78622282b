"""The figures of each cell of a bench, computed from its repeats: times with their noise, throughput, memory, MFU.

cells = summarise(BenchFolder(path).repeats())
noise_of(cells).sigma                                      # of log step time between repeats of one cell
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Final, NamedTuple

from hotlap.core.bench_records import CellOutcome, CellRepeat, median

LOADING: Final = ("waiting", "data")
"""Parts of a step in which nothing is learnt: waiting for a loader, and making the batch in the same process."""
_FEW: Final = 5
_FLOOR_OF_FEW: Final = 0.02
_FLOOR: Final = 0.005
_OF_STEPS: Final = 0.1
_MOST: Final = 0.5
_MEDIAN_DIFFERENCE: Final = 0.6745 * math.sqrt(2)
"""Median difference of two draws from a normal distribution with σ = 1."""
_DISTURBED: Final = 5.0
_LEAST_DISTURBED: Final = 1.2
"""How much slower than its cell's fastest a repeat is that something disturbed: so many σ, and this factor at least."""
_TWO_SIDED: Final = 1.96
_LOWER_MEDIAN: Final = (1.0, 0.8256, 0.6698, 0.6004, 0.5356, 0.4962, 0.4587, 0.4326)
"""Standard deviation of the lower median of 1, 2, … draws from a normal distribution with σ = 1.

From the expected products of normal order statistics in Teichroew, Annals of Mathematical Statistics 27 (1956), 410.
"""
_MEDIAN: Final = math.sqrt(math.pi / 2)
"""The same of the median of many draws, times the square root of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One combination of settings with everything that was measured of it; what nobody measured is None."""

    number: int
    settings: Mapping[str, Any]
    outcome: CellOutcome
    """measured when any repeat was."""
    message: str = ""
    """Why there are no figures, or why some repeats have none."""
    not_quiet: str = ""
    """What disturbed repeats that were measured; empty where nothing is known to have."""
    repeat_seconds: tuple[float, ...] = ()
    """Median seconds per step of each measured repeat, in the order of measurement."""
    seconds_per_step: float = math.nan
    """Lower median of the repeats' medians: what disturbs a repeat makes it slower, never faster."""
    spread: float = math.nan
    """(90th − 10th percentile) / median over the repeats' medians; not a number below two repeats."""
    step_spread: float = math.nan
    """The same over all single steps."""
    samples_per_second: float | None = None
    """Rows a second on all devices together."""
    samples_by: str = ""
    """How somebody else's command has them counted; empty for hotlap's own trainer."""
    tokens_per_second: float | None = None
    """Without padding."""
    slots_per_second: float | None = None
    """With padding."""
    padding_ratio: float | None = None
    """Share of a batch's places that hold padding."""
    peak_memory_bytes: int | None = None
    """Highest of the repeats, of one device."""
    model_flops_per_second: float | None = None
    """On all devices together."""
    peak_ratio: float | None = None
    """MFU: model FLOP/s of one device over the peak that its maker states."""
    matmul_ratio: float | None = None
    """Model FLOP/s of one device over the matrix product's that was measured beside it."""
    compute_seconds: float | None = None
    """What a step's arithmetic, padding included, would take at the measured matrix product's rate."""
    loading_ratio: float | None = None
    """Share of the step spent waiting for data or making batches."""
    seconds_by_part: Mapping[str, float] = field(default_factory=dict)
    startup_seconds: float = 0.0
    warmup_seconds: float = 0.0
    device: str = ""
    num_devices: int = 1
    threads: int = 1
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_measured(self) -> bool:
        """Whether there are figures."""
        return self.outcome == "measured"

    @property
    def is_on_gpu(self) -> bool:
        """Whether the work is done on a GPU, beside the host."""
        return self.peak_ratio is not None or self.evidence.get("num_kernels", 0.0) > 0

    @property
    def num_repeats(self) -> int:
        """Measured repeats."""
        return len(self.repeat_seconds)

    @property
    def pay(self) -> float:
        """What cells are compared by: tokens a second, else samples, else steps."""
        return self.tokens_per_second or self.samples_per_second or 1 / self.seconds_per_step


class Noise(NamedTuple):
    """How much repeats of one cell differ in this bench."""

    sigma: float
    """Standard deviation of log seconds per step between repeats, pooled over cells; never below a floor."""
    degrees: int
    """Degrees of freedom that it was estimated with; 0: nothing was repeated, it is the floor alone."""
    num_disturbed: int = 0
    """Repeats that took far longer than another one of their cell."""

    def level_error(self, num_repeats: int) -> float:
        """Return the standard deviation of a cell's step time (log), which is the lower median of its repeats."""
        if num_repeats > len(_LOWER_MEDIAN):
            return self.sigma * _MEDIAN / math.sqrt(num_repeats)
        return self.sigma * _LOWER_MEDIAN[max(num_repeats, 1) - 1]

    def uncertainty(self, num_repeats: int) -> float:
        """Return the half-width of the 95 % interval of a cell's step time, as a share of it."""
        return _TWO_SIDED * self.level_error(num_repeats)

    def of_difference(self, one: Cell, other: Cell) -> float:
        """Return the share by which two cells have to differ to be told apart."""
        return math.hypot(self.uncertainty(one.num_repeats), self.uncertainty(other.num_repeats))


def summarise(repeats: Iterable[CellRepeat]) -> tuple[Cell, ...]:
    """Return the cells of some repeats by their numbers; a repeat that stands there twice counts once, the last."""
    by_cell: dict[int, dict[int, CellRepeat]] = defaultdict(dict)
    for repeat in repeats:
        by_cell[repeat.cell].pop(repeat.repeat, None)
        by_cell[repeat.cell][repeat.repeat] = repeat
    return tuple(_cell(list(by_cell[number].values())) for number in sorted(by_cell))


def noise_of(cells: Iterable[Cell]) -> Noise:
    """Return how much repeats differ: by the median difference of two repeats of a cell, over all cells.

    Few repeats that something disturbed do not count so; they are counted apart. With few repeats noise is not believed
    to be small, nor to be less than a tenth of what single steps differ by.
    """
    cells = [cell for cell in cells if cell.is_measured]
    logs = [[math.log(seconds) for seconds in cell.repeat_seconds] for cell in cells]
    differences = [abs(one - other) for values in logs for one, other in combinations(values, 2)]
    degrees = sum(len(values) - 1 for values in logs)
    sigma = median(differences) / _MEDIAN_DIFFERENCE if differences else 0.0
    if degrees >= _FEW:
        sigma = max(sigma, _FLOOR)
    else:
        unlike = median([cell.step_spread for cell in cells if math.isfinite(cell.step_spread)])
        sigma = max(sigma, _FLOOR_OF_FEW, 0.0 if math.isnan(unlike) else min(_OF_STEPS * unlike, _MOST))
    far = max(_DISTURBED * sigma, math.log(_LEAST_DISTURBED))
    return Noise(sigma, degrees, sum(value > min(values) + far for values in logs for value in values))


def drift_of(repeats: Sequence[CellRepeat]) -> tuple[float, float]:
    """Return by which factor step times grew from the first to the last measurement, and its standard error (log).

    Cells are compared with themselves alone, so it needs cells that were measured more than once: 1 and infinite
    without.
    """
    by_cell: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for place, repeat in enumerate(repeats):
        if repeat.is_measured and repeat.step_seconds:
            by_cell[repeat.cell].append((place, math.log(median(repeat.step_seconds))))
    xs, ys = [], []
    for points in by_cell.values():
        if len(points) > 1:
            middle = [sum(values) / len(points) for values in zip(*points, strict=True)]
            xs += [place - middle[0] for place, _ in points]
            ys += [value - middle[1] for _, value in points]
    square = sum(x * x for x in xs)
    if not square:
        return 1.0, math.inf
    slope = sum(x * y for x, y in zip(xs, ys, strict=True)) / square
    degrees = len(xs) - sum(len(points) > 1 for points in by_cell.values()) - 1
    rest = sum((y - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    error = math.sqrt(rest / degrees / square) if degrees > 0 else math.inf
    span = len(repeats) - 1
    return math.exp(slope * span), error * span


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, between the two nearest values in proportion; not a number for no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _cell(repeats: Sequence[CellRepeat]) -> Cell:
    measured = [repeat for repeat in repeats if repeat.is_measured and repeat.step_seconds]
    failed = [repeat for repeat in repeats if not repeat.is_measured]
    if not measured:
        why = (failed or repeats)[-1]
        outcome: CellOutcome = why.outcome if failed else "failed"
        return Cell(
            number=why.cell,
            settings=dict(why.settings),
            outcome=outcome,
            message=why.message if failed else "it was measured for no step",
            peak_memory_bytes=_highest(repeats),
        )
    first = measured[0]
    told = [f"repeat {one.repeat}: {one.outcome.replace('_', ' ')}: {one.message}" for one in failed]
    medians = tuple(median(repeat.step_seconds) for repeat in measured)
    cell = Cell(
        number=first.cell,
        settings=dict(first.settings),
        outcome="measured",
        message="; ".join(filter(None, [*told, *dict.fromkeys(repeat.message for repeat in measured)])),
        not_quiet="; ".join(dict.fromkeys(repeat.message for repeat in measured if repeat.message)),
        repeat_seconds=medians,
        seconds_per_step=sorted(medians)[(len(medians) - 1) // 2],
        spread=_spread(medians),
        step_spread=_spread([seconds for repeat in measured for seconds in repeat.step_seconds]),
        peak_memory_bytes=_highest(measured),
        seconds_by_part=_means([repeat.seconds_by_part for repeat in measured]),
        startup_seconds=median([repeat.startup_seconds for repeat in measured]),
        warmup_seconds=median([repeat.warmup_seconds for repeat in measured]),
        samples_by=first.samples_by,
        device=first.device,
        num_devices=first.num_devices,
        threads=first.threads,
        evidence=_means([repeat.evidence for repeat in measured]),
    )
    return _with_rates(cell, measured)


def _with_rates(cell: Cell, measured: Sequence[CellRepeat]) -> Cell:
    """Return a cell with everything that is so much a second, or a share."""
    seconds, parts = cell.seconds_per_step, cell.seconds_by_part
    samples = _mean_of(measured, "samples_per_step")
    tokens, slots = _mean_of(measured, "tokens_per_step"), _mean_of(measured, "slots_per_step")
    flops, devices = _mean_of(measured, "flops_per_step"), measured[0].num_devices
    peak, matmul = _mean_of(measured, "peak_flops"), _mean_of(measured, "matmul_flops")
    rate = flops / seconds if flops else None
    padded = slots / tokens if slots and tokens else 1.0
    whole = sum(parts.values())
    return replace(
        cell,
        samples_per_second=samples / seconds if samples else None,
        tokens_per_second=tokens / seconds if tokens else None,
        slots_per_second=slots / seconds if slots else None,
        padding_ratio=max(0.0, 1 - 1 / padded) if slots and tokens else None,
        model_flops_per_second=rate,
        peak_ratio=rate / devices / peak if rate and peak else None,
        matmul_ratio=rate / devices / matmul if rate and matmul else None,
        compute_seconds=flops * padded / devices / matmul if flops and matmul else None,
        loading_ratio=sum(parts.get(name, 0.0) for name in LOADING) / whole if whole else None,
    )


def _spread(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.nan
    return (quantile(values, 0.9) - quantile(values, 0.1)) / median(values)


def _mean_of(measured: Sequence[CellRepeat], name: str) -> float | None:
    """Return the mean of a figure over the repeats that have it; None for none, and for nothing but zeros."""
    values = [value for repeat in measured if (value := getattr(repeat, name))]
    return sum(values) / len(values) if values else None


def _highest(repeats: Sequence[CellRepeat]) -> int | None:
    return max((one.peak_memory_bytes for one in repeats if one.peak_memory_bytes), default=None)


def _means(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every figure over the mappings that have it."""
    found: dict[str, list[float]] = defaultdict(list)
    for mapping in mappings:
        for name, value in mapping.items():
            found[name].append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}
