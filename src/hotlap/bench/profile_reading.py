"""What a profile says, in words: what the step spends its time on, and what to do about it.

Every finding is a share of the step, so that the largest comes first; what none of them explains is work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from hotlap.core.bench_records import PRODUCTS, median
from hotlap.report.text import count_text, ms_text

Bound = Literal["data", "host", "launch overhead", "communication", "compute", "memory bandwidth"]

_WORTH_TELLING: Final = 0.1
"""Share of a step below which a finding is left out."""
_COMPUTING: Final = ("forward", "backward", "optimizer")
_OVERHEAD_BOUND: Final = 0.5
"""Share of the computing parts that starting small operators takes, from which on it bounds the step."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that takes time."""

    kind: Bound
    ratio: float
    """Share of the step, 0 to 1."""
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a profile says."""

    bound: Bound
    """What the step spends most of its time on."""
    findings: tuple[Finding, ...]
    """The largest first; never empty."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"bound": self.bound, "findings": [asdict(finding) for finding in self.findings]}

    @property
    def sentences(self) -> list[str]:
        """The findings for people, with what to do about each."""
        return [f"{each.text}{f': {each.advice}' if each.advice else ''}" for each in self.findings]


@dataclass(frozen=True, slots=True)
class _Shared:
    """A step's seconds shared out, as they are without the profiler: that makes operators longer, but no sleep."""

    step: float
    waiting: float
    data: float
    host: Mapping[str, float]
    """Long gaps by part."""
    overhead: float
    """Starting small operators; 0 where that is too little to count."""
    communication: float
    work: float


def read_profile(figures: Mapping[str, Any]) -> Reading:
    """Return what a profile's figures say; `hotlap.train.profiling` describes them."""
    shared = _share_out(figures)
    work = _work(figures, shared)
    found = [*_data(figures, shared), *_host(figures, shared), _launches(figures, shared), _communication(shared)]
    told = sorted((each for each in [*found, work] if each.ratio >= _WORTH_TELLING), key=lambda each: -each.ratio)
    findings = tuple(told) or (work,)
    return Reading(findings[0].kind, findings)


def _share_out(figures: Mapping[str, Any]) -> _Shared:
    """Book data and long gaps as they are; what is left of the step in the proportions that the profiler saw."""
    step, seconds = median(figures["step_seconds"]), figures["seconds_by_part"]
    host = {part: _part(figures, part, "long_gap_seconds") for part in _COMPUTING}
    rest = max(0.0, step - seconds["waiting"] - seconds["data"] - sum(host.values()))
    computing = max(1e-12, _computing(figures, "seconds") - sum(host.values()))
    idle = _computing(figures, "gap_seconds") - sum(host.values())
    if figures["device"] == "cuda":
        idle = computing - _computing(figures, "device_seconds")
    overhead = idle + (0.0 if figures["device"] == "cuda" else figures["small_kernel_seconds"])
    overhead = min(1.0, max(0.0, overhead) / computing)
    is_bound = overhead >= _OVERHEAD_BOUND
    exchange = min(1.0, figures["families"].get("communication", 0.0) / computing)
    working = 1.0 - (overhead if is_bound else min(1.0, max(0.0, idle) / computing))
    return _Shared(
        step=max(step, 1e-12),
        waiting=seconds["waiting"],
        data=seconds["data"],
        host=host,
        overhead=rest * overhead if is_bound else 0.0,
        communication=rest * exchange,
        work=rest * max(0.0, working - exchange),
    )


def _data(figures: Mapping[str, Any], shared: _Shared) -> list[Finding]:
    """Tell of what the step waits for: text that is prepared beside it, and the batch."""
    workers = int(figures["num_workers"])
    waiting, making = (min(1.0, seconds / shared.step) for seconds in (shared.waiting, shared.data))
    found = [
        Finding(
            "data",
            waiting,
            f"{waiting:.0%} of a step waits for text that is still being prepared",
            "let `hotlap train` prepare it first with task.streaming: false, or give task.preprocessing_num_workers",
        )
    ]
    told = f"({ms_text(shared.data)} of {ms_text(shared.step)})"
    if workers:
        text = f"{making:.0%} of a step waits for {count_text(workers, 'data worker')} {told}: too slow for this model"
        advice = "raise training.dataloader_num_workers, or make a sample cheaper; `hotlap bench data` measures both"
    else:
        text = f"{making:.0%} of a step goes into making its batch, while nothing is computed {told}"
        advice = "set training.dataloader_num_workers; `hotlap bench data` says how many are needed"
    return [*found, Finding("data", making, text, advice)]


def _host(figures: Mapping[str, Any], shared: _Shared) -> list[Finding]:
    """Tell of the parts in which nothing runs for long: code between the operators."""
    found = []
    for part, gap in shared.host.items():
        ratio = min(1.0, gap / shared.step)
        where = f"{' and '.join(figures['optimizers'])}.step()" if part == "optimizer" else f"the {part} pass"
        text = f"{ratio:.0%} of a step ({ms_text(gap)}) passes in the {part} with nothing computed, in gaps of a "
        advice = f"look at the code of {where}: it sleeps, waits, prints or works in plain Python"
        found.append(Finding("host", ratio, f"{text}millisecond or more", advice))
    return found


def _launches(figures: Mapping[str, Any], shared: _Shared) -> Finding:
    """Tell of operators so small that starting them takes longer than their work."""
    kind = "kernels" if figures["device"] == "cuda" else "operators"
    ratio = shared.overhead / shared.step
    text = (
        f"{ratio:.0%} of a step goes into starting tiny {kind}: {figures['kernels']:,.0f} of them, half under "
        f"{1e6 * figures['median_kernel_seconds']:.3g} µs"
    )
    ways = ["a larger training.per_device_train_batch_size"]
    ways += [] if figures["compiled"] else ["training.torch_compile: true"]
    ways += ["training.optim: adamw_torch_fused"] if _optimizer_calls_dominate(figures) else []
    return Finding("launch overhead", ratio, text, f"{' or '.join(ways)} gives each more to do")


def _optimizer_calls_dominate(figures: Mapping[str, Any]) -> bool:
    return bool(_part(figures, "optimizer", "calls") > 0.5 * figures["calls"])


def _communication(shared: _Shared) -> Finding:
    """Tell of what the devices say to each other."""
    ratio = shared.communication / shared.step
    text = f"{ratio:.0%} of a step ({ms_text(shared.communication)}) goes into the exchange between devices"
    return Finding("communication", ratio, text, "more rows per device, or fewer exchanges by accumulation")


def _work(figures: Mapping[str, Any], shared: _Shared) -> Finding:
    """Tell of the operators' own work, and what most of it is."""
    families, ratio = figures["families"], shared.work / shared.step
    total = sum(families.values()) or 1.0
    matmuls = sum(families.get(kind, 0.0) for kind in PRODUCTS) / total
    largest = ", ".join(f"{kind} {seconds / total:.0%}" for kind, seconds in list(families.items())[:3])
    what = "on the device" if figures["device"] == "cuda" else "in operators"
    text = f"{ratio:.0%} of a step is work {what}, by kind: {largest}"
    if matmuls >= 0.5:
        advice = "matrix products bound it; training.bf16, a smaller model or fewer tokens make it shorter"
        return Finding("compute", ratio, text, advice)
    advice = (
        "" if figures["compiled"] else "most of it moves numbers; training.torch_compile: true fuses such operators"
    )
    return Finding("memory bandwidth", ratio, text, advice)


def _computing(figures: Mapping[str, Any], name: str) -> float:
    return sum(_part(figures, part, name) for part in _COMPUTING)


def _part(figures: Mapping[str, Any], part: str, name: str) -> float:
    return float(figures["parts"].get(part, {}).get(name, 0.0))


def shares(figures: Mapping[str, Any]) -> Sequence[tuple[str, float, float, float, float]]:
    """Return a row for each part: its name, seconds, share of the step, seconds without an operator, on the device."""
    seconds = figures["seconds_by_part"]
    whole = sum(seconds.values()) or 1.0
    return [
        (part, taken, taken / whole, _part(figures, part, "gap_seconds"), _part(figures, part, "device_seconds"))
        for part, taken in seconds.items()
    ]
