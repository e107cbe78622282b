"""Whether the data keep up, in words: the speed of the pipeline against what a training step takes.

What decides is the training itself: steps that take batches from so many workers against steps whose batches lie ready.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hotlap.report.text import ms_text

_HARMLESS: Final = 0.05
"""Share of a step that data may cost before they are worth a word."""
_AS_GOOD: Final = 0.03
"""Share by which a step may be longer than the fastest one for fewer workers to be preferred."""


@dataclass(frozen=True, slots=True)
class DataReading:
    """What the measurements of a pipeline say."""

    is_bottleneck: bool | None
    """Whether the data hold the training up, as it is set up now; None where nothing says what it needs."""
    factor: float | None
    """How many times as fast as the training needs them the batches come, as it is set up now."""
    workers: int | None
    """How many workers to use."""
    text: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {name: getattr(self, name) for name in ("is_bottleneck", "factor", "workers", "text", "advice")}


def read_data(
    parts: Sequence[Mapping[str, Any]], need: Mapping[str, Any], loaders: Sequence[Mapping[str, Any]]
) -> DataReading:
    """Return what the figures of a config say; `hotlap.worker.bench_data` describes them.

    `need["workers"]` is what the config has; where that was not measured, no workers stand for it.
    """
    now = next((one for one in loaders if one["workers"] == need["workers"]), loaders[0])
    best = best_loader(loaders)
    step = need["step_seconds"]
    factor = step / max(now["seconds_per_step"], 1e-12)
    lost = lost_ratio(now)
    told = f"{ms_text(now['seconds_per_step'])} for the samples of a step of {ms_text(step)}"
    how = f"with {_many(now['workers'])}" if now["workers"] else "made in the training's own process"
    if lost <= _HARMLESS:
        text = f"data sampling is {_times(factor)} faster than training needs ({told}, {how})"
        return DataReading(False, factor, now["workers"], text, "leave it as it is")
    cost = f"{lost:.0%} of a step goes into them, {how} ({told})"
    gain = now["step_seconds"] / best["step_seconds"]
    if best["workers"] != now["workers"] and gain > 1 + _AS_GOOD:
        advice = (
            f"use {_many(best['workers'])}: training.dataloader_num_workers: {best['workers']} "
            f"(a step takes {ms_text(best['step_seconds'])} instead of {ms_text(now['step_seconds'])})"
        )
    else:
        advice = f"no number of workers that was tried helps; make it cheaper{_dearest(parts)}"
    is_bottleneck = factor < 1 or lost > 0.5
    text = f"data sampling is the bottleneck: {cost}" if is_bottleneck else f"data sampling holds training up: {cost}"
    return DataReading(True, factor, best["workers"], text, advice)


def best_loader(loaders: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the fewest workers with which a training step takes hardly longer than with any other number."""
    fastest = min(one["step_seconds"] for one in loaders)
    good = [one for one in loaders if one["step_seconds"] <= (1 + _AS_GOOD) * fastest]
    return min(good, key=lambda one: int(one["workers"]))


def lost_ratio(loader: Mapping[str, Any]) -> float:
    """Return the share of a step that goes into waiting for batches, or making them."""
    return float(min(1.0, loader["data_seconds"] / max(loader["step_seconds"], 1e-12)))


def read_rates(loaders: Sequence[Mapping[str, Any]], needs: float | None) -> DataReading:
    """Return what the figures of a function say, whose training needs so many samples a second (None: not known)."""
    fastest = max(loaders, key=lambda one: float(one["samples_per_second"]))
    rate = float(fastest["samples_per_second"])
    told = f"{rate:,.4g} samples/s with {_many(fastest['workers'])}"
    if needs is None:
        text = f"at most {told}"
        return DataReading(None, None, None, text, "give --needs SAMPLES_PER_SECOND to hold it against your training")
    enough = [one for one in loaders if float(one["samples_per_second"]) >= needs]
    first = loaders[0]
    factor = float(first["samples_per_second"]) / needs
    if not enough:
        short = needs / rate
        text = f"data sampling is the bottleneck: {told} at most, the training needs {needs:,.4g}"
        return DataReading(True, factor, int(fastest["workers"]), text, f"make a sample {short:.2g} × cheaper")
    chosen = min(enough, key=lambda one: int(one["workers"]))
    if chosen["workers"] == first["workers"]:
        text = f"data sampling is {_times(factor)} faster than training needs, with {_many(first['workers'])}"
        return DataReading(False, factor, int(first["workers"]), text)
    rate = float(first["samples_per_second"])
    text = f"data sampling is the bottleneck: {rate:,.4g} samples/s with {_many(first['workers'])}, {needs:,.4g} needed"
    return DataReading(True, factor, int(chosen["workers"]), text, f"use {_many(chosen['workers'])}")


def _dearest(parts: Sequence[Mapping[str, Any]]) -> str:
    """Name the part of the pipeline that takes most of it."""
    whole = sum(part["seconds_per_step"] for part in parts)
    if not whole:
        return ""
    largest = max(parts, key=lambda part: float(part["seconds_per_step"]))
    return f" ({largest['name']} takes {largest['seconds_per_step'] / whole:.0%} of it)"


def _many(workers: int) -> str:
    return "no worker" if not workers else f"{workers} worker{'' if workers == 1 else 's'}"


def _times(factor: float) -> str:
    return f"{factor:.0f} ×" if factor >= 10 else f"{factor:.2g} ×"
