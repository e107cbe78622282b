"""What a profile says, in words: what the step spends its time on, and what to do about it.

Every finding is a share of the step, so that the largest comes first; what none of them explains is work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from hotlap.core.bench_records import median

Bound = Literal["data", "host", "launch overhead", "communication", "compute", "memory bandwidth"]

_WORTH_TELLING: Final = 0.1
"""Share of a step below which a finding is left out."""
_COMPUTING: Final = ("forward", "backward", "optimizer")
_OVERHEAD_BOUND: Final = 0.5
"""Share of the computing parts that starting small operators takes, from which on it bounds the step."""
_MATMULS: Final = ("matmul", "attention")


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


def read_profile(figures: Mapping[str, Any]) -> Reading:
    """Return what a profile's figures say; `hotlap.train.profiling` describes them."""
    step = median(figures["step_seconds"])
    found = [*_data(figures, step), *_host(figures), *_launches(figures), *_communication(figures), _work(figures)]
    told = sorted((each for each in found if each.ratio >= _WORTH_TELLING), key=lambda each: -each.ratio)
    findings = tuple(told) or (found[-1],)
    return Reading(findings[0].kind, findings)


def _data(figures: Mapping[str, Any], step: float) -> list[Finding]:
    """Tell of what the step waits for: text that is prepared beside it, and the batch."""
    seconds, workers = figures["seconds_by_part"], int(figures["num_workers"])
    waiting, making = seconds["waiting"] / step, seconds["data"] / step
    found = [
        Finding(
            "data",
            waiting,
            f"{waiting:.0%} of a step waits for text that is still being prepared",
            "let `hotlap train` prepare it first with task.streaming: false, or give task.preprocessing_num_workers",
        )
    ]
    told = f"({_ms(seconds['data'])} of {_ms(step)})"
    if workers:
        text = f"{making:.0%} of a step waits for {_many(workers, 'data worker')} {told}: too slow for this model"
        advice = "raise training.dataloader_num_workers, or make a sample cheaper; `hotlap bench data` measures both"
    else:
        text = f"{making:.0%} of a step goes into making its batch, while nothing is computed {told}"
        advice = "set training.dataloader_num_workers; `hotlap bench data` says how many are needed"
    return [*found, Finding("data", making, text, advice)]


def _host(figures: Mapping[str, Any]) -> list[Finding]:
    """Tell of the parts in which nothing runs for long: code between the operators."""
    whole = _profiled_seconds(figures)
    found = []
    for part in _COMPUTING:
        gap = figures["parts"].get(part, {}).get("long_gap_seconds", 0.0)
        where = f"{' and '.join(figures['optimizers'])}.step()" if part == "optimizer" else f"the {part} pass"
        found.append(
            Finding(
                "host",
                gap / whole,
                f"{gap / whole:.0%} of a step ({_ms(gap)}) passes in the {part} with nothing computed, in gaps of "
                "a millisecond or more",
                f"look at the code of {where}: it sleeps, waits, prints or works in plain Python",
            )
        )
    return found


def _launches(figures: Mapping[str, Any]) -> list[Finding]:
    """Tell of operators so small that starting them takes longer than their work."""
    whole, overhead = _profiled_seconds(figures), _overhead_seconds(figures)
    computing = _computing(figures, "seconds") - _computing(figures, "long_gap_seconds")
    if overhead < _OVERHEAD_BOUND * computing:
        return []
    kind = "kernels" if figures["device"] == "cuda" else "operators"
    text = (
        f"{overhead / whole:.0%} of a step goes into starting tiny {kind}: {figures['kernels']:,.0f} of them, half "
        f"under {1e6 * figures['median_kernel_seconds']:.3g} µs"
    )
    ways = ["a larger training.per_device_train_batch_size"]
    ways += [] if figures["compiled"] else ["training.torch_compile: true"]
    ways += ["training.optim: adamw_torch_fused"] if _optimizer_calls_dominate(figures) else []
    return [Finding("launch overhead", overhead / whole, text, f"{' or '.join(ways)} gives each more to do")]


def _overhead_seconds(figures: Mapping[str, Any]) -> float:
    """Return the seconds of a step that starting operators takes: on a GPU while it is idle, on a CPU small ones, too.

    Long gaps have another reason.
    """
    gaps, long_gaps = (_computing(figures, name) for name in ("gap_seconds", "long_gap_seconds"))
    if figures["device"] == "cuda":
        return max(0.0, _computing(figures, "seconds") - _computing(figures, "device_seconds") - long_gaps)
    return gaps - long_gaps + float(figures["small_kernel_seconds"])


def _optimizer_calls_dominate(figures: Mapping[str, Any]) -> bool:
    return bool(_part(figures, "optimizer", "calls") > 0.5 * figures["calls"])


def _communication(figures: Mapping[str, Any]) -> list[Finding]:
    """Tell of what the devices say to each other."""
    seconds = figures["families"].get("communication", 0.0)
    ratio = seconds / _profiled_seconds(figures)
    text = f"{ratio:.0%} of a step ({_ms(seconds)}) goes into the exchange between devices"
    return [Finding("communication", ratio, text, "more rows per device, or fewer exchanges by accumulation")]


def _work(figures: Mapping[str, Any]) -> Finding:
    """Tell of the operators' own work, and what most of it is."""
    whole, families = _profiled_seconds(figures), figures["families"]
    busy = float(figures["device_busy_seconds"])
    if figures["device"] != "cuda" and _launches(figures):
        busy = max(0.0, busy - figures["small_kernel_seconds"])  # told as the cost of starting them
    total = sum(families.values()) or 1.0
    matmuls = sum(families.get(kind, 0.0) for kind in _MATMULS) / total
    largest = ", ".join(f"{kind} {seconds / total:.0%}" for kind, seconds in list(families.items())[:3])
    what = "on the device" if figures["device"] == "cuda" else "in operators"
    text = f"{busy / whole:.0%} of a step is work {what}, by kind: {largest}"
    if matmuls >= 0.5:
        return Finding("compute", busy / whole, text, _compute_advice(figures))
    advice = (
        "" if figures["compiled"] else "most of it moves numbers; training.torch_compile: true fuses such operators"
    )
    return Finding("memory bandwidth", busy / whole, text, advice)


def _compute_advice(figures: Mapping[str, Any]) -> str:
    return "matrix products bound it; training.bf16, a smaller model or fewer tokens make it shorter"


def _computing(figures: Mapping[str, Any], name: str) -> float:
    return sum(_part(figures, part, name) for part in _COMPUTING)


def _part(figures: Mapping[str, Any], part: str, name: str) -> float:
    return float(figures["parts"].get(part, {}).get(name, 0.0))


def _profiled_seconds(figures: Mapping[str, Any]) -> float:
    """Return the seconds of a step's parts while it was watched."""
    return sum(part["seconds"] for part in figures["parts"].values()) or 1.0


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def shares(figures: Mapping[str, Any]) -> Sequence[tuple[str, float, float, float, float]]:
    """Return a row for each part: its name, seconds, share of the step, seconds without an operator, on the device."""
    seconds = figures["seconds_by_part"]
    whole = sum(seconds.values()) or 1.0
    return [
        (part, taken, taken / whole, _part(figures, part, "gap_seconds"), _part(figures, part, "device_seconds"))
        for part, taken in seconds.items()
    ]
