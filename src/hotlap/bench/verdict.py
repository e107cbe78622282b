"""What bounds a step: its seconds shared out among causes, and the largest of them named with the figures that say so.

    verdict_of(cell, cells, axes, model).bound             # "launch_overhead"

Seconds are booked in this order, each cause from what the ones before it left over: data (the step stood still for it,
or made batches itself), communication (what the same step takes longer on several devices; where these are processes
on one CPU the exchange alone, and the rest is that they share its cores), optimizer (its update, where the host waits
for every part), host (gaps of a millisecond or more with nothing computed; of a command the time in which the machine
was seen idle), launch overhead (starting operations; on a GPU the rest of its idle time; without such figures what does
not grow with the work), compute (matrix products; without such figures the FLOPs, padding included, at the rate of a
product measured beside the step). What is left over is memory bandwidth: element-wise operations and norms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from hotlap.bench.cells import LOADING, Cell
from hotlap.bench.measured_axes import MeasuredAxis, agrees, axis_with
from hotlap.bench.predict import StepTimes
from hotlap.report.text import count_text, ms_text

Bound = Literal[
    "data",
    "communication",
    "sharing",
    "optimizer",
    "host",
    "compute",
    "launch_overhead",
    "memory_bandwidth",
    "work",
]
BOUND_NAMES: Final[Mapping[Bound, str]] = {
    "data": "data",
    "communication": "communication between devices",
    "sharing": "sharing the cores",
    "optimizer": "the optimizer's update",
    "host": "the host, which does something else",
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
_COMPUTED: Final = (
    "the step is computed, since rounds of its workers take too long to be measured: the slower of a step whose "
    "batches lie ready and its workers' batches"
)
_ADVICE: Final[Mapping[Bound, str]] = {
    "data": "more data workers or tokenising beforehand make it faster; `hotlap bench data` looks closer",
    "communication": "larger batches or accumulation per device, or fewer devices, make less of it",
    "optimizer": (
        "it takes the same for every batch: larger batches or accumulation spread it, a fused one is faster; "
        "`hotlap profile` shows whether it computes at all"
    ),
    "sharing": "processes on one CPU take each other's cores: several devices pay on GPUs",
    "host": (
        "nothing is computed meanwhile: code of one's own sleeps, waits, prints or works in plain Python; a profiler "
        "(of a config `hotlap profile`) says where"
    ),
    "compute": "the arithmetic itself is the limit: fewer FLOPs, a faster number format or more devices",
    "launch_overhead": "the kernels are small: larger batches, torch_compile or fused kernels spread it",
    "memory_bandwidth": "fused kernels (torch_compile, SDPA), shorter numbers and less padding move fewer bytes",
    "work": "FLOPs are not known here, so neither is what the time goes into; a profiler of your own says it",
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


@dataclass(slots=True)
class _Booked:
    """A step's seconds as far as they are shared out."""

    left: float
    seconds: dict[Bound, float] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    def book(self, bound: Bound, wanted: float, sentence: str) -> None:
        """Book seconds on a cause, as many as are left at most, with what shows it."""
        self.seconds[bound] = min(max(wanted, 0.0), self.left)
        self.left -= self.seconds[bound]
        self.sentences.append(sentence)


def verdict_of(cell: Cell, cells: Sequence[Cell], axes: Sequence[MeasuredAxis], model: StepTimes | None) -> Verdict:
    """Return what bounds a measured cell; its neighbours tell what more devices and larger batches bring."""
    booked = _Booked(cell.seconds_per_step)
    _book_causes(booked, cell, cells, axes, model)
    seconds, sentences = booked.seconds, booked.sentences
    rest: Bound = "memory_bandwidth" if "compute" in seconds else "work"
    seconds[rest] = booked.left
    shares = {bound: value / cell.seconds_per_step for bound, value in seconds.items()}
    first, *others = sorted(shares, key=lambda bound: -shares[bound])
    near = [bound for bound in others if shares[bound] > shares[first] - _CLEAR]
    if rest == "memory_bandwidth" and shares[rest] >= _WORTH_TELLING:
        sentences.append(f"the other {_percent(shares[rest])} moves data more than it computes")
    if rest == "work" and not cell.evidence.keys() & {"gpu_ratio", "used_cores"}:
        sentences.append("how busy the device was is not known")
    if cell.step_spread > _UNLIKE:
        sentences.append(
            f"single steps differ widely (90th less 10th percentile: {cell.step_spread:.2g} × the median): batches of "
            "different shapes, or something else on the machine"
        )
    if cell.evidence.get("is_computed"):
        sentences.append(_COMPUTED)
    if "launch_overhead" not in seconds:
        sentences.append("launch overhead is not told apart: that takes more than one batch or length")
    return Verdict(cell.number, first, near[0] if near else None, shares, tuple(sentences))


def shares_cores(cell: Cell) -> bool:
    """Say whether the devices of a measured cell are processes on one CPU, as far as that is known."""
    is_on_cpu = "num_kernels" in cell.evidence or {"used_cores"} == cell.evidence.keys() & {"used_cores", "gpu_ratio"}
    return cell.num_devices > 1 and is_on_cpu and not cell.is_on_gpu


def _book_causes(
    booked: _Booked, cell: Cell, cells: Sequence[Cell], axes: Sequence[MeasuredAxis], model: StepTimes | None
) -> None:
    if cell.loading_ratio is not None:
        booked.book("data", cell.loading_ratio * cell.seconds_per_step, _data_text(cell))
    _book_devices(booked, cell, cells, axes)
    optimizer = _optimizer_seconds(cell)
    if optimizer is not None:
        booked.book("optimizer", optimizer, _optimizer_text(cell, optimizer))
    _book_host(booked, cell)
    _book_overhead(booked, cell, axes, model)
    _book_compute(booked, cell)


def _book_devices(booked: _Booked, cell: Cell, cells: Sequence[Cell], axes: Sequence[MeasuredAxis]) -> None:
    """Book what the step takes longer than on fewer devices, and what the exchange between them takes."""
    step, exchange = cell.seconds_per_step, cell.evidence.get("all_reduce_seconds")
    alone = _on_fewest(cell, cells, axes)
    compared = ""
    if alone is not None:
        there = ms_text(alone.seconds_per_step)
        compared = f"the same step takes {there} on {alone.num_devices} device(s), here {ms_text(step)}"
    if alone is not None and not shares_cores(cell):
        booked.book("communication", step - alone.seconds_per_step, compared)
        return
    if exchange is not None:
        text = f"exchanging the gradients alone takes {ms_text(exchange)} of {ms_text(step)}"
        booked.book("communication", exchange, text)
    if alone is not None:
        longer = step - alone.seconds_per_step - (exchange or 0.0)
        booked.book("sharing", longer, f"{compared}: {cell.num_devices} processes share the cores of one CPU")


def _book_host(booked: _Booked, cell: Cell) -> None:
    """Book the time in which nothing is computed though the step does not wait for data.

    The optimizer's gaps are left out where its time stands on its own. Devices that wait for each other have such gaps,
    too.
    """
    step, facts = cell.seconds_per_step, cell.evidence
    if (gpu := facts.get("gpu_ratio")) is not None:
        booked.book("host", (1.0 - gpu) * step, f"the GPU was busy {_percent(gpu)} of the time (samples of the system)")
    elif (cores := facts.get("used_cores")) is not None:
        of_all = f" of {facts['cores']:.3g}" if "cores" in facts else ""
        text = f"its processes kept {cores:.2g}{of_all} cores busy (samples of the system)"
        booked.book("host", (1.0 - cores) * step, text)
    elif (gaps := facts.get("long_gap_seconds")) is not None:
        apart = facts.get("optimizer_long_gap_seconds", 0.0) if "optimizer" in booked.seconds else 0.0
        waited = booked.seconds.get("communication", 0.0) + booked.seconds.get("sharing", 0.0)
        if (gap := gaps - apart - waited) >= _WORTH_TELLING * step:
            what = "data and optimizer" if "optimizer" in booked.seconds else "data"
            text = (
                f"for {ms_text(min(gap, booked.left))} of {ms_text(step)} nothing is computed beside {what}, in gaps "
            )
            booked.book("host", gap, f"{text}of a millisecond or more: the host does something else")


def _book_overhead(booked: _Booked, cell: Cell, axes: Sequence[MeasuredAxis], model: StepTimes | None) -> None:
    """Book what starting operations takes."""
    step, facts = cell.seconds_per_step, _beside_optimizer(booked, cell)
    busy = facts.get("busy_seconds")
    if cell.is_on_gpu and busy is not None:
        idle = max(step - busy, 0.0)
        small = f"; {_percent(facts['small_ratio'])} of its kernels are below 10 µs" if "small_ratio" in facts else ""
        told = booked.seconds.get("data", 0.0) + booked.seconds.get("host", 0.0)
        booked.book("launch_overhead", idle - told, f"the GPU is idle for {ms_text(idle)}{small}")
    elif "num_operations" in facts and "operation_seconds" in facts:
        count, most = facts["num_operations"], booked.left
        started = count * facts["operation_seconds"]
        about = f"about {ms_text(started)}" if started <= most else f"up to {ms_text(most)}"
        text = f"starting {count:,.0f} operations takes {about} of {ms_text(step)}"
        gap = 0.0 if busy is None else most - busy
        if gap > max(started, _WORTH_TELLING * step):
            text += f"; for {ms_text(gap)}, in short gaps between them, nothing computes"
        tiny = facts.get("small_seconds", 0.0) * _unwatched(cell)
        if min(tiny, most) > max(started, gap):
            text += f"; in all {ms_text(min(tiny, most))} go into operations so small that starting them is most of it"
        booked.book("launch_overhead", max(started, gap, tiny), text)
    elif model is not None and _tells_overhead(axes):
        fixed = model.overhead_ratio(cell.settings)
        told = booked.seconds.get("optimizer", 0.0) + booked.seconds.get("host", 0.0)
        text = f"{_percent(fixed)} of the step does not grow with its work (fitted over the grid)"
        booked.book("launch_overhead", fixed * step - told, text)


def _book_compute(booked: _Booked, cell: Cell) -> None:
    """Book the arithmetic."""
    step, facts, least = cell.seconds_per_step, _beside_optimizer(booked, cell), cell.compute_seconds
    products = facts.get("product_seconds")
    padding = cell.padding_ratio or 0.0
    padded = f", {_percent(padding)} of it padding" if padding >= _WORTH_TELLING else ""
    peak = f"; MFU {_percent(cell.peak_ratio)}" if cell.peak_ratio is not None else ""
    if products is not None:
        # On a CPU small ones are overhead, which is booked; on a GPU their time is not what starting them costs.
        small = 0.0 if cell.is_on_gpu else facts.get("small_product_seconds", 0.0) * _unwatched(cell)
        products *= _unwatched(cell)
        rate = _rate_text(least / products) if least and products else ""
        text = f"matrix products take {ms_text(products)} of {ms_text(step)}{rate}{padded}{peak}"
        if small >= _WORTH_TELLING * step:
            text += f"; {ms_text(small)} of that are small ones, which count as launch overhead"
        booked.book("compute", products - small, text)
    elif least is not None:
        taken = f"its arithmetic{padded} would take {ms_text(least)} of {ms_text(step)}"
        booked.book("compute", least, f"{taken} at the rate of a large matrix product{peak}")


def _beside_optimizer(booked: _Booked, cell: Cell) -> dict[str, float]:
    """Return the evidence without what belongs to the optimizer's part, where that has its own seconds."""
    facts = dict(cell.evidence)
    if "optimizer" in booked.seconds:
        for name in facts:
            facts[name] = max(0.0, facts[name] - facts.get(f"optimizer_{name}", 0.0))
    return facts


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
    idle = min(seconds, cell.evidence.get("optimizer_long_gap_seconds", 0.0))
    if idle > seconds / 2:
        text += f", and for {ms_text(idle)} of it nothing is computed"
    gradients, rate = cell.evidence.get("gradient_bytes"), cell.evidence.get("copy_bytes_per_second")
    if not gradients or not rate:
        return text
    return f"{text}; reading and writing weights, gradients and moments once would take {ms_text(7 * gradients / rate)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"
