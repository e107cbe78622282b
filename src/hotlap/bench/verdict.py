"""What bounds a step: its seconds shared out among causes, and the largest of them named with the figures that say so.

    verdict_of(cell, cells, axes, model).bound             # "launch_overhead"

Seconds are booked in this order, each cause from what the ones before it left over: data (the step stood still for it,
or made batches itself), communication (what the same step takes longer on several devices), optimizer (its update,
where the host waits for every part), launch overhead (starting operations; on a GPU its idle time; without such figures
what does not grow with the work), compute (matrix products; without such figures the FLOPs, padding included, at the
rate of a product measured beside the step). What is left over is memory bandwidth: element-wise operations and norms.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hotlap.bench.cells import LOADING, Cell
from hotlap.bench.measured_axes import MeasuredAxis, agrees, axis_with
from hotlap.bench.predict import StepTimes
from hotlap.report.text import count_text, ms_text

Bound = Literal["data", "communication", "optimizer", "compute", "launch_overhead", "memory_bandwidth", "work"]
BOUND_NAMES: Final[Mapping[Bound, str]] = {
    "data": "data",
    "communication": "communication between devices",
    "optimizer": "the optimizer's update",
    "compute": "compute",
    "launch_overhead": "launch overhead",
    "memory_bandwidth": "memory bandwidth",
    "work": "compute or memory bandwidth",
}
"""What each bound is called; `work` where FLOPs or their rate are not known, so that the two cannot be told apart."""
_CLEAR: Final = 0.1
"""Share by which the largest cause has to lead to stand alone."""
_WORTH_TELLING: Final = 0.01
_FAR_FROM_FULL: Final = 0.4
_UNLIKE: Final = 0.3
"""Spread of single steps from which on it is told."""
_ADVICE: Final[Mapping[Bound, str]] = {
    "data": "more data workers or tokenising beforehand make it faster; `hotlap bench data` looks closer",
    "communication": "larger batches or accumulation per device, or fewer devices, make less of it",
    "optimizer": (
        "it takes the same for every batch: larger batches or accumulation spread it, a fused one is faster; "
        "`hotlap profile` shows whether it computes at all"
    ),
    "compute": "the arithmetic itself is the limit: fewer FLOPs, a faster number format or more devices",
    "launch_overhead": "the kernels are small: larger batches, torch_compile or fused kernels spread it",
    "memory_bandwidth": "fused kernels (torch_compile, SDPA), shorter numbers and less padding move fewer bytes",
    "work": "the device is busy; FLOPs are not known here, so what it is busy with is not either",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds a step back."""

    cell: int
    bound: Bound
    """The cause with the most seconds."""
    second: Bound | None
    """The next one, where it has nearly as many."""
    shares: Mapping[Bound, float]
    """Share of the step by cause; they add up to 1."""
    evidence: tuple[str, ...]
    """The figures in words, a sentence each."""

    @property
    def text(self) -> str:
        """The verdict in words, without its evidence."""
        share = f"{100 * self.shares[self.bound]:.0f} % of the step"
        named = f"bound by {BOUND_NAMES[self.bound]} ({share})"
        if self.second is None:
            return named
        return f"{named}, nearly as much by {BOUND_NAMES[self.second]} ({100 * self.shares[self.second]:.0f} %)"

    @property
    def advice(self) -> str:
        """What makes such a step faster."""
        return _ADVICE[self.bound]


def verdict_of(cell: Cell, cells: Sequence[Cell], axes: Sequence[MeasuredAxis], model: StepTimes | None) -> Verdict:
    """Return what bounds a measured cell; its neighbours tell what more devices and larger batches bring."""
    seconds: dict[Bound, float] = {}
    left = cell.seconds_per_step
    sentences: list[str] = []
    for bound, wanted, sentence in _causes(cell, cells, axes, model):
        seconds[bound] = min(max(wanted, 0.0), left)
        left -= seconds[bound]
        sentences.append(sentence)
    rest: Bound = "memory_bandwidth" if "compute" in seconds else "work"
    seconds[rest] = left
    shares = {bound: value / cell.seconds_per_step for bound, value in seconds.items()}
    first, *others = sorted(shares, key=lambda bound: -shares[bound])
    near = [bound for bound in others if shares[bound] > shares[first] - _CLEAR]
    if rest == "memory_bandwidth" and shares[rest] >= _WORTH_TELLING:
        sentences.append(f"the other {_percent(shares[rest])} moves data more than it computes")
    if cell.step_spread > _UNLIKE:
        sentences.append(
            f"single steps differ widely (90th less 10th percentile: {cell.step_spread:.2g} × the median): batches of "
            "different shapes, or something else on the machine"
        )
    if "launch_overhead" not in seconds:
        sentences.append("launch overhead is not told apart: that takes more than one batch or length")
    return Verdict(cell.number, first, near[0] if near else None, shares, tuple(sentences))


def _causes(
    cell: Cell, cells: Sequence[Cell], axes: Sequence[MeasuredAxis], model: StepTimes | None
) -> Iterator[tuple[Bound, float, str]]:
    """Yield causes with their seconds and what shows it, in the order in which they are booked."""
    if cell.loading_ratio is not None:
        yield "data", cell.loading_ratio * cell.seconds_per_step, _data_text(cell)
    yield from _communication(cell, cells, axes)
    optimizer = _optimizer_seconds(cell)
    if optimizer is not None:
        yield "optimizer", optimizer, _optimizer_text(cell, optimizer)
    yield from _overhead(cell, axes, model, optimizer or 0.0)
    yield from _compute(cell)


def _communication(
    cell: Cell, cells: Sequence[Cell], axes: Sequence[MeasuredAxis]
) -> Iterator[tuple[Bound, float, str]]:
    step = cell.seconds_per_step
    alone = _on_fewest(cell, cells, axes)
    if alone is not None:
        there, here = ms_text(alone.seconds_per_step), ms_text(step)
        text = f"the same step takes {there} on {alone.num_devices} device(s), here {here}"
        yield "communication", step - alone.seconds_per_step, text
    elif (exchange := cell.evidence.get("all_reduce_seconds")) is not None:
        yield "communication", exchange, f"exchanging the gradients alone takes {ms_text(exchange)} of {ms_text(step)}"


def _overhead(
    cell: Cell, axes: Sequence[MeasuredAxis], model: StepTimes | None, optimizer: float
) -> Iterator[tuple[Bound, float, str]]:
    step, facts = cell.seconds_per_step, cell.evidence
    busy = facts.get("busy_seconds")
    if cell.is_on_gpu and busy is not None:
        idle = max(step - busy, 0.0)
        small = f"; {_percent(facts['small_ratio'])} of its kernels are below 10 µs" if "small_ratio" in facts else ""
        yield (
            "launch_overhead",
            idle - (cell.loading_ratio or 0.0) * step,
            f"the GPU is idle for {ms_text(idle)}{small}",
        )
    elif "num_operations" in facts and "operation_seconds" in facts:
        count = facts["num_operations"]
        started = count * facts["operation_seconds"]
        text = f"starting {count:,.0f} operations takes about {ms_text(started)} of {ms_text(step)}"
        gap = step - (cell.loading_ratio or 0.0) * step - optimizer - (step if busy is None else busy)
        if gap > max(started, _WORTH_TELLING * step):
            text += f"; for {ms_text(gap)} beside data and optimizer nothing computes"
        tiny = facts.get("small_seconds", 0.0) * _unwatched(cell)
        if tiny > max(started, gap):
            text += f"; in all {ms_text(tiny)} go into operations so small that starting them is most of it"
        yield "launch_overhead", max(started, gap, tiny), text
    elif model is not None and _tells_overhead(axes):
        fixed = model.overhead_ratio(cell.settings)
        text = f"{_percent(fixed)} of the step does not grow with its work (fitted over the grid)"
        yield "launch_overhead", fixed * step - optimizer, text


def _compute(cell: Cell) -> Iterator[tuple[Bound, float, str]]:
    step, facts, least = cell.seconds_per_step, cell.evidence, cell.compute_seconds
    products = facts.get("product_seconds")
    padding = cell.padding_ratio or 0.0
    padded = f", {_percent(padding)} of it padding" if padding >= _WORTH_TELLING else ""
    peak = f"; MFU {_percent(cell.peak_ratio)}" if cell.peak_ratio is not None else ""
    if products is not None:
        if not cell.is_on_gpu:  # there the time of small kernels is not what starting them costs
            products -= facts.get("small_product_seconds", 0.0)
        products *= _unwatched(cell)
        rate = _rate_text(least / products) if least and products else ""
        yield "compute", products, f"matrix products take {ms_text(products)} of {ms_text(step)}{rate}{padded}{peak}"
    elif least is not None:
        taken = f"its arithmetic{padded} would take {ms_text(least)} of {ms_text(step)}"
        yield "compute", least, f"{taken} at the rate of a large matrix product{peak}"


def _unwatched(cell: Cell) -> float:
    """Return what a second under the profiler, which slows the step down, is without it."""
    return min(1.0, cell.seconds_per_step / max(cell.evidence.get("busy_seconds", 0.0), 1e-12))


def _rate_text(ratio: float) -> str:
    small = ": they are small, or oddly shaped" if ratio < _FAR_FROM_FULL else ""
    return f", at {_percent(ratio)} of the rate of a large one{small}"


def _tells_overhead(axes: Sequence[MeasuredAxis]) -> bool:
    """Say whether the grid has steps of different work, without which nothing tells what stays."""
    return any(axis.is_number and axis.role in ("batch", "length") for axis in axes)


def _optimizer_seconds(cell: Cell) -> float | None:
    """Return the seconds of the optimizer's part in a median step.

    None where parts were not timed, and on a GPU, for which the host does not wait before the step's end.
    """
    whole = sum(cell.seconds_by_part.values())
    if cell.is_on_gpu or not whole or "optimizer" not in cell.seconds_by_part:
        return None
    return cell.seconds_by_part["optimizer"] / whole * cell.seconds_per_step


def _on_fewest(cell: Cell, cells: Sequence[Cell], axes: Sequence[MeasuredAxis]) -> Cell | None:
    """Return the measured cell that differs in having fewer devices, the fewest of all; None where there is none."""
    axis = axis_with(axes, "devices")
    if axis is None or not axis.is_number:
        return None
    others = [
        other
        for other in cells
        if other.is_measured
        and other.settings[axis.key] < cell.settings[axis.key]
        and agrees(other.settings, cell.settings, but=axis.key)
    ]
    return min(others, key=lambda other: other.settings[axis.key], default=None)


def _data_text(cell: Cell) -> str:
    assert cell.loading_ratio is not None
    whole = sum(cell.seconds_by_part.values())
    waiting, making = (cell.seconds_by_part.get(name, 0.0) / whole for name in LOADING)
    if cell.loading_ratio < 0.01:
        return "data is always there: less than 1 % of the step is spent on it"
    if waiting > making:
        return f"{_percent(waiting)} of the step is spent waiting for text that is still being prepared"
    if workers := int(cell.evidence.get("num_workers", 0)):
        return f"{_percent(making)} of the step is spent waiting for {count_text(workers, 'data worker')}"
    return f"{_percent(making)} of the step is spent making batches in the training process"


def _optimizer_text(cell: Cell, seconds: float) -> str:
    text = f"the optimizer's update takes {ms_text(seconds)} of {ms_text(cell.seconds_per_step)}"
    gradients, rate = cell.evidence.get("gradient_bytes"), cell.evidence.get("copy_bytes_per_second")
    if not gradients or not rate:
        return text
    return f"{text}; reading and writing weights, gradients and moments once would take {ms_text(7 * gradients / rate)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"
