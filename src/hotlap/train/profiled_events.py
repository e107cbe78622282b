"""What a profiler's events say of the steps: time by part, gaps between operators, the largest operators.

Plain numbers in, plain numbers out: the events come from `train.profiler`, in microseconds of one clock.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any, Final

from hotlap.core.bench_records import PRODUCTS

SMALL_SECONDS: Final = {"cpu": 30e-6, "cuda": 10e-6}
"""Below this an operator on a CPU, or a kernel on a GPU, takes about as long as it takes to start one."""
LONG_GAP_SECONDS: Final = 1e-3
"""No operator is started so slowly: in a gap of this length something else goes on."""
COMPUTING: Final = ("forward", "backward", "optimizer")
"""Parts of a step in which something should be computed all the time."""
_MICRO: Final = 1e-6
_LISTED: Final = 20  # operators in each table
_FAMILIES: Final[tuple[tuple[str, str], ...]] = (
    ("compiled", r"triton_(poi|per|red|for)_"),  # named after all that they fuse, but none of them multiplies matrices
    ("attention", r"scaled_dot_product|flash|fmha|efficient_attention|flex_attention"),
    ("optimizer", r"fused_adam|_foreach_|multi_tensor|adam|sgd|muon"),
    ("matmul", r"mm\b|mm_|bmm|addmv|::mv\b|linear|matmul|einsum|gem[mv]|cutlass|cublas|xmma|wgmma|nvjet|mkldnn"),
    ("communication", r"nccl|gloo|c10d|all_?reduce|all_?gather"),
    ("loss and softmax", r"softmax|nll_loss|cross_entropy|logsumexp"),
    ("normalisation", r"layer_norm|rms_norm|group_norm|batch_norm"),
    ("indexing", r"embedding|index|gather|scatter|select_backward|slice_backward"),
    ("copies", r"copy|memcpy|memset|::cat\b|::to\b|clone|contiguous|fill_|zero_|zeros|ones|empty"),
    ("compiled", r"triton|inductor|compiled|fxgraph|graph_\d"),
)
"""Kinds of operators by their names; the first that fits counts, what fits none is element by element."""


Intervals = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that ran from `start` to `end`, in microseconds."""

    name: str
    start: float
    end: float
    self_micros: float = 0.0
    """Without what it called."""
    num_bytes: int = 0
    """Memory that it and what it called took and did not give back."""
    on_device: bool = False
    """Whether it ran on a GPU."""
    is_outermost: bool = False
    """Whether no other operator called it."""


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of a step that the training loop names."""

    part: str
    start: float
    end: float


@dataclass(slots=True)
class _Sum:
    """What one operator amounts to."""

    calls: int = 0
    micros: float = 0.0
    num_bytes: int = 0


@dataclass(slots=True)
class PartFigures:
    """Seconds of one part of one step."""

    seconds: float = 0.0
    gap_seconds: float = 0.0
    """In which nothing ran, neither on the host nor on a GPU: Python, sleeping, waiting."""
    long_gap_seconds: float = 0.0
    """Those of them that lay in gaps of a millisecond or more."""
    device_seconds: float = 0.0
    """In which the GPU was at work."""
    calls: float = 0.0
    """Operators that were called, without those called by others."""


def merged(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the union of intervals as ascending ones that do not touch."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def overlap(intervals: Intervals, start: float, end: float) -> float:
    """Return how much of `start` to `end` ascending intervals cover that do not overlap each other."""
    place = max(0, bisect_right(intervals, (start, start)) - 1)
    covered = 0.0
    for low, high in intervals[place:]:
        if low >= end:
            break
        covered += max(0.0, min(high, end) - max(low, start))
    return covered


def gaps_in(intervals: Intervals, start: float, end: float) -> list[float]:
    """Return the lengths of what `start` to `end` has that ascending intervals do not cover."""
    place = max(0, bisect_right(intervals, (start, start)) - 1)
    found, reached = [], start
    for low, high in intervals[place:]:
        if low >= end:
            break
        if low > reached:
            found.append(low - reached)
        reached = max(reached, high)
    return [*found, end - reached] if end > reached else found


def family(name: str) -> str:
    """Return what kind of work an operator or kernel does, by its name."""
    low = name.lower()
    return next((kind for kind, pattern in _FAMILIES if re.search(pattern, low)), "element by element")


def summarise(events: Sequence[Event], regions: Sequence[Region], device: str) -> dict[str, Any]:
    """Return the figures of a profile, for one step.

    `parts` has the fields of PartFigures by name, the median of the steps; `operators` and `memory` the largest, by
    time and by bytes; `families` seconds by kind of work. `kernels`, `kernel_seconds` and `small_kernel_seconds` are
    the number and time of the kernels, and the time of small ones: on a GPU its kernels, on a CPU the operators that
    no other called, each as long as it typically takes. `device_busy_seconds` and `device_idle_ratio`: on a CPU the
    device is busy while an operator runs.
    """
    steps = _steps(regions)
    work = [event for event in events if event.on_device == (device == "cuda")]
    kernels = work if device == "cuda" else [event for event in work if event.is_outermost]
    sizes = _typical_sizes(kernels, steps)
    parts = _parts(events, steps)
    seconds = sum(part.seconds for part in parts.values())
    busy = merged((event.start, event.end) for event in work)
    busy_seconds = median(sum(overlap(busy, one.start, one.end) for one in step) for step in steps) * _MICRO
    return {
        "parts": {name: asdict(part) for name, part in parts.items()},
        "operators": _largest(work, len(steps), by="micros"),
        "memory": _largest([one for one in events if one.is_outermost], len(steps), by="num_bytes"),
        "families": _families(work, len(steps)),
        "calls": sum(part.calls for part in parts.values()),
        "kernels": len(sizes),
        "kernel_seconds": sum(sizes),
        "small_kernel_seconds": sum(size for size in sizes if size < SMALL_SECONDS[device]),
        "median_kernel_seconds": median(sizes) if sizes else 0.0,
        "device_busy_seconds": busy_seconds,
        "device_idle_ratio": max(0.0, 1.0 - busy_seconds / seconds) if seconds else 0.0,
    }


def composition(events: Sequence[Event], device: str, regions: Sequence[Region] = ()) -> dict[str, float]:
    """Return what the events of one step amount to; on a GPU its kernels are the work, on a CPU all that it ran.

    `num_operations` of PyTorch, those that others called included; `num_kernels`; `busy_seconds` of the work itself,
    `product_seconds` of the matrix products in it, `small_ratio`: the share of it, by number, that took below 10 µs.
    `small_seconds` and `small_product_seconds` are the parts of these seconds that went into what is so small that
    starting it is most of it. With the regions of the step also what `long_gaps` says, and by names that begin with
    `optimizer_` how much of operations and seconds began in the optimizer's part.
    """
    small = 1e6 * SMALL_SECONDS["cuda"]
    work = [event for event in events if event.on_device == (device == "cuda")]
    bounds = [(region.start, region.end) for region in regions if region.part == "optimizer"]
    updating = [event for event in events if any(start <= event.start < end for start, end in bounds)]
    return {
        **_amounts(events, device),
        **{f"optimizer_{name}": value for name, value in _amounts(updating, device).items()},
        **long_gaps(events, regions),
        "num_kernels": float(sum(event.on_device for event in events)),
        "small_ratio": sum(event.self_micros < small for event in work) / max(1, len(work)),
    }


def _amounts(events: Sequence[Event], device: str) -> dict[str, float]:
    """Return operations and seconds of some events."""
    work = [event for event in events if event.on_device == (device == "cuda")]
    products = [event for event in work if family(event.name) in PRODUCTS]
    tiny = 1e6 * SMALL_SECONDS[device]
    return {
        "num_operations": float(sum(event.name.startswith("aten::") for event in events if not event.on_device)),
        "busy_seconds": sum(event.self_micros for event in work) * _MICRO,
        "small_seconds": sum(event.self_micros for event in work if event.self_micros < tiny) * _MICRO,
        "product_seconds": sum(event.self_micros for event in products) * _MICRO,
        "small_product_seconds": sum(event.self_micros for event in products if event.self_micros < tiny) * _MICRO,
    }


def long_gaps(events: Sequence[Event], regions: Sequence[Region]) -> dict[str, float]:
    """Return the seconds of a median step that lie in gaps of a millisecond or more with nothing computed.

    `long_gap_seconds` in forward, backward and optimizer together, `optimizer_long_gap_seconds` in the last alone; what
    a step waits for its data is in neither.
    """
    parts = _parts(events, _steps(regions))
    gaps = {part: parts[part].long_gap_seconds for part in COMPUTING if part in parts}
    return {"long_gap_seconds": sum(gaps.values()), "optimizer_long_gap_seconds": gaps.get("optimizer", 0.0)}


def _steps(regions: Sequence[Region]) -> list[list[Region]]:
    """Return the regions by step, in order of time: each step begins with the part that the first one does."""
    found: list[list[Region]] = []
    ordered = sorted(regions, key=lambda region: region.start)
    for region in ordered:
        if region.part == ordered[0].part:
            found.append([])
        found[-1].append(region)
    return found


def _parts(events: Sequence[Event], steps: Sequence[Sequence[Region]]) -> dict[str, PartFigures]:
    """Return the median step's parts. A pause that the machine made now and then is in few steps, so in no median."""
    anything = merged((event.start, event.end) for event in events)
    at_work = merged((event.start, event.end) for event in events if event.on_device)
    called = sorted(event.start for event in events if event.is_outermost)
    found: dict[str, list[PartFigures]] = {region.part: [] for step in steps for region in step}
    for step in steps:
        sums = {part: PartFigures() for part in found}
        for region in step:
            _add(sums[region.part], region, anything, at_work, called)
        for part, figures in sums.items():
            found[part].append(figures)
    names = [each.name for each in fields(PartFigures)]
    return {
        part: PartFigures(**{name: median(getattr(one, name) for one in figures) for name in names})
        for part, figures in found.items()
    }


def _add(figures: PartFigures, region: Region, anything: Intervals, at_work: Intervals, called: list[float]) -> None:
    """Add what happened in a region; operators on a thread of the backward pass count there, too."""
    gaps = [gap * _MICRO for gap in gaps_in(anything, region.start, region.end)]
    figures.seconds += (region.end - region.start) * _MICRO
    figures.gap_seconds += sum(gaps)
    figures.long_gap_seconds += sum(gap for gap in gaps if gap >= LONG_GAP_SECONDS)
    figures.device_seconds += overlap(at_work, region.start, region.end) * _MICRO
    figures.calls += bisect_left(called, region.end) - bisect_left(called, region.start)


def _typical_sizes(kernels: Sequence[Event], steps: Sequence[Sequence[Region]]) -> list[float]:
    """Return the seconds of each kernel of a step: the median over the steps of the n-th one of each name."""
    begins = [step[0].start for step in steps]
    seen: Counter[tuple[int, str]] = Counter()
    sizes: dict[tuple[str, int], list[float]] = {}
    for event in sorted(kernels, key=lambda event: event.start):
        step = bisect_right(begins, event.start) - 1
        if step < 0:
            continue
        seen[step, event.name] += 1
        sizes.setdefault((event.name, seen[step, event.name]), []).append((event.end - event.start) * _MICRO)
    return [median(found) for found in sizes.values() if 2 * len(found) >= len(steps)]


def _largest(work: Sequence[Event], num_steps: int, by: str) -> list[dict[str, Any]]:
    """Return the operators that amount to most, with their share of all."""
    sums: dict[str, _Sum] = {}
    for event in work:
        one = sums.setdefault(event.name, _Sum())
        one.calls += 1
        one.micros += event.self_micros
        one.num_bytes += max(0, event.num_bytes)
    whole = sum(getattr(one, by) for one in sums.values()) or 1.0
    largest = sorted(sums.items(), key=lambda item: (-getattr(item[1], by), item[0]))[:_LISTED]
    return [
        {
            "name": name,
            "calls": one.calls / num_steps,
            "seconds": one.micros * _MICRO / num_steps,
            "bytes": one.num_bytes / num_steps,
            "ratio": getattr(one, by) / whole,
        }
        for name, one in largest
    ]


def _families(work: Sequence[Event], num_steps: int) -> dict[str, float]:
    """Return the seconds of each kind of work, most first."""
    sums: dict[str, float] = {}
    for event in work:
        kind = family(event.name)
        sums[kind] = sums.get(kind, 0.0) + event.self_micros * _MICRO / num_steps
    return dict(sorted(sums.items(), key=lambda item: -item[1]))
