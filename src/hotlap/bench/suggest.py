"""The config that a bench speaks for, as a patch, and what was not measured but looks as if it were worth it.

Only what was measured is suggested. Within noise the one that changes less wins: fewer devices, fewer other settings,
the smaller batch. Settings that change what is learnt (length, width, another optimizer) stay, and so do those that
were measured at one value: nothing was compared with it.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hotlap.bench.axes import BATCH_KEY, WORKERS_KEY
from hotlap.bench.cells import Cell, Noise
from hotlap.bench.knee import MemoryLine, tolerance_of
from hotlap.bench.measured_axes import MeasuredAxis, agrees, axis_with, is_number, same
from hotlap.bench.predict import StepTimes
from hotlap.bench.setting_names import NEEDS_WORKERS, changes_filling
from hotlap.config.knob_ranges import is_total_batch
from hotlap.runs.views import setting_text

WORTH_MEASURING: Final = 1.05
"""Predicted gain over the suggestion from which on something untested is pointed out."""
_MOST_PREDICTIONS: Final = 200


class Prediction(NamedTuple):
    """A combination that nobody measured."""

    settings: Mapping[str, Any]
    seconds_per_step: float
    pay: float
    """Predicted throughput, in the bench's unit."""
    is_inside: bool
    """Whether it lies between measured values; beyond them nothing was checked."""
    fits: bool | None
    """Whether the memory line says that it fits; None where it cannot say."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to write into the config."""

    cell: int
    """The measured cell that it is."""
    patch: Mapping[str, Any]
    """What it changes in the config; empty where the config is as good already."""
    best_cell: int
    """The fastest cell measured in the same circumstances."""
    loss: float
    """Share of the fastest one's throughput that it lacks."""
    tolerance: float
    gain: float
    """Its throughput over that of the config as it is; not a number where that is not known, nor comparable."""
    is_gain_measured: bool
    """Whether the config as it is was measured; else the gain is a prediction, or unknown."""
    notes: tuple[str, ...]
    """What the user should know, a sentence each."""


def suggest(
    cells: Sequence[Cell], axes: Sequence[MeasuredAxis], base: Mapping[str, Any], noise: Noise, model: StepTimes | None
) -> Suggestion | None:
    """Return what the measured cells speak for; None where none was measured that the config could become.

    `base` has the config's own values by dotted key.
    """
    kept, elsewhere = _kept_values(cells, axes)
    here = [cell for cell in cells if cell.is_measured and agrees(cell.settings, kept)]
    if not here:
        return None
    best = max(here, key=lambda cell: cell.pay)
    good = [cell for cell in here if cell.pay >= best.pay * (1 - tolerance_of(noise, best, cell))]
    chosen = min(good, key=lambda cell: (*_simplicity(cell, axes, base), -cell.pay))
    free = {axis.key for axis in axes if axis.is_free and not _is_held(axis, base)}
    patch = {key: value for key, value in chosen.settings.items() if key in free and not same(base.get(key), value)}
    if patch.get(WORKERS_KEY) == 0:
        patch |= {key: off for key, off in NEEDS_WORKERS.items() if base.get(key) not in (None, False)}
    pay, is_measured = _pay_of_base(chosen, here, axes, base, model)
    return Suggestion(
        cell=chosen.number,
        patch=patch,
        best_cell=best.number,
        loss=1 - chosen.pay / best.pay,
        tolerance=tolerance_of(noise, best, chosen),
        gain=chosen.pay / pay,
        is_gain_measured=is_measured,
        notes=(*elsewhere, *_notes(chosen, here, axes, base, patch)),
    )


def holder_of_rows(base: Mapping[str, Any]) -> str | None:
    """Return the setting that says how many rows (or tokens) a step has, whatever a device takes at once; or None."""
    return next((key for key, value in base.items() if is_number(value) and value > 0 and is_total_batch(key)), None)


def predictions(
    cells: Sequence[Cell], axes: Sequence[MeasuredAxis], model: StepTimes, lines: Sequence[MemoryLine]
) -> tuple[Prediction, ...]:
    """Return what the grid leaves out, and twice the largest batch, but for what is known not to fit; fastest first.

    At most 200, so that a page can hold them.
    """
    found = []
    tried = [cell.settings for cell in cells if cell.is_measured or cell.outcome == "out_of_memory"]
    for settings in itertools.islice(_combinations(cells, axes), 20 * _MOST_PREDICTIONS):
        if any(all(same(settings[axis.key], known.get(axis.key)) for axis in axes) for known in tried):
            continue
        row = _work_per_row(cells, axes, settings)
        if row is None or _is_refused(cells, axes, settings):
            continue
        seconds = model.seconds(settings)
        pay = row * _rows(axes, settings) / seconds
        found.append(Prediction(settings, seconds, pay, model.is_inside(settings), _fits(axes, lines, settings)))
    return tuple(sorted(found, key=lambda one: -one.pay)[:_MOST_PREDICTIONS])


def worth_measuring(
    found: Sequence[Prediction], suggested: Cell, axes: Sequence[MeasuredAxis], error: float, sigma: float
) -> tuple[Prediction, ...]:
    """Return the untested combinations that should clearly beat what is suggested and change nothing that is learnt.

    `error` is how wrong predictions are, not a number where nobody knows; a gain has to be larger.
    """
    kept = {axis.key: suggested.settings.get(axis.key) for axis in axes if not axis.is_free}
    least = max(WORTH_MEASURING, 1 + (error if math.isfinite(error) else 4 * sigma))
    return tuple(
        one
        for one in found
        if one.fits is not False
        and one.pay > least * suggested.pay
        and all(same(one.settings.get(key), value) for key, value in kept.items())
    )


def _kept_values(cells: Sequence[Cell], axes: Sequence[MeasuredAxis]) -> tuple[dict[str, Any], list[str]]:
    """Return the value of every setting that a suggestion must not choose, with what has to be said of it."""
    kept, notes = {}, []
    for axis in axes:
        if axis.is_free:
            continue
        measured = [
            value for value in axis.values if any(c.is_measured and same(c.settings[axis.key], value) for c in cells)
        ]
        is_there = any(same(value, axis.base) for value in measured)
        value = axis.base if is_there or not measured else _nearest(axis, measured)
        kept[axis.key] = value
        if not is_there:
            notes.append(
                f"{axis.key} of the config, {axis.base}, was not measured: the suggestion holds for {value}; "
                f"measure it to be sure"
            )
    return kept, notes


def _is_held(axis: MeasuredAxis, base: Mapping[str, Any]) -> bool:
    """Say whether an axis is hotlap's own batch size and follows from another setting of the config."""
    return axis.key == BATCH_KEY and holder_of_rows(base) is not None


def _nearest(axis: MeasuredAxis, measured: Sequence[Any]) -> Any:
    if not axis.is_number or not isinstance(axis.base, int | float) or axis.base <= 0:
        return measured[0]
    return min(measured, key=lambda value: abs(math.log(value / axis.base)))


def _simplicity(cell: Cell, axes: Sequence[MeasuredAxis], base: Mapping[str, Any]) -> tuple[float, ...]:
    """Return what a setting costs beside its time, the weightiest first."""
    amounts = {axis.role: float(cell.settings[axis.key]) for axis in axes if axis.is_number}
    changed = sum(not same(cell.settings[axis.key], base.get(axis.key)) for axis in axes if axis.role == "how")
    extra = sum(float(cell.settings[axis.key]) for axis in axes if axis.role == "how" and _is_amount(axis))
    return amounts.get("devices", 0.0), float(changed), amounts.get("batch", 0.0), extra


def _is_amount(axis: MeasuredAxis) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in axis.values)


def _pay_of_base(
    chosen: Cell, here: Sequence[Cell], axes: Sequence[MeasuredAxis], base: Mapping[str, Any], model: StepTimes | None
) -> tuple[float, bool]:
    """Return the throughput of the config as it is, and whether it was measured; not a number where nobody can say.

    Where what is suggested was measured with other settings than the config's, such as another length, the two have
    nothing to be compared by.
    """
    free = {axis.key for axis in axes if axis.is_free}
    own = {key: base.get(key) for key in chosen.settings}
    if not all(same(value, own[key]) for key, value in chosen.settings.items() if key not in free):
        return math.nan, False
    for cell in here:
        if agrees(cell.settings, own):
            return cell.pay, True
    row = _work_per_row(here, axes, own)
    if model is None or row is None or any(axis.is_number and not is_number(own[axis.key]) for axis in axes):
        return math.nan, False
    try:
        return row * _rows(axes, own) / model.seconds(own), False
    except (ValueError, TypeError):  # a value of a setting that nobody measured
        return math.nan, False


def _notes(
    chosen: Cell, here: Sequence[Cell], axes: Sequence[MeasuredAxis], base: Mapping[str, Any], patch: Mapping[str, Any]
) -> Iterator[str]:
    batch = axis_with(axes, "batch")
    if batch is not None and batch.key in patch:
        yield (
            "another batch is another training: look at the learning rate again, or keep the rows of a step with "
            "gradient accumulation"
        )
    if batch is not None and _is_held(batch, base):
        held = holder_of_rows(base)
        yield (
            f"{held} {base[held or '']} of the config says what a step has, and the batch follows from it: none is "
            f"suggested; the best one measured is {chosen.settings[batch.key]}"
        )
    for key, value in chosen.settings.items():
        if not same(value, base.get(key)) and all(axis.key != key for axis in axes):
            yield (
                f"all cells have {key} {setting_text(value)}; the config keeps its own, {setting_text(base.get(key))}, "
                "since they were not compared: that takes both values"
            )
    if batch is not None and batch.is_number and same(chosen.settings[batch.key], batch.values[-1]):
        yield f"{batch.name} {batch.values[-1]} is the largest that was measured: larger ones may pay still more"
    for axis in axes:
        if "compile" in axis.name and axis.key in patch:
            without = [
                c
                for c in here
                if agrees(chosen.settings, c.settings, but=axis.key) and same(c.settings[axis.key], base.get(axis.key))
            ]
            yield from (_compile_text(chosen, other) for other in without[:1])


def _compile_text(chosen: Cell, without: Cell) -> str:
    longer = chosen.startup_seconds + chosen.warmup_seconds - without.startup_seconds - without.warmup_seconds
    saved = without.seconds_per_step - chosen.seconds_per_step
    if longer <= 0 or saved <= 0:
        return f"its start takes {chosen.startup_seconds + chosen.warmup_seconds:.1f} s"
    return f"its start takes {longer:.1f} s longer, which {math.ceil(longer / saved):,} steps make up for"


def _combinations(cells: Sequence[Cell], axes: Sequence[MeasuredAxis]) -> Iterator[dict[str, Any]]:
    """Yield the whole grid, with twice its largest batch."""
    fixed = {key: value for key, value in cells[0].settings.items() if all(key != axis.key for axis in axes)}
    values = [
        [*axis.values, 2 * axis.values[-1]] if axis.role == "batch" and axis.is_number else list(axis.values)
        for axis in axes
    ]
    for combination in itertools.product(*values):
        yield {**fixed, **dict(zip((axis.key for axis in axes), combination, strict=True))}


def _rows(axes: Sequence[MeasuredAxis], settings: Mapping[str, Any]) -> float:
    """Return the rows of a step in units of those of a step with batch and devices of 1, or of the bench's own."""
    sizes = [settings[axis.key] for axis in axes if axis.role in ("batch", "devices") and axis.is_number]
    return float(math.prod(sizes))


def _work_per_row(cells: Sequence[Cell], axes: Sequence[MeasuredAxis], settings: Mapping[str, Any]) -> float | None:
    """Return tokens (samples, steps) a row brings with these settings; batch and speed do not matter for it."""
    kept = [axis for axis in axes if axis.role in ("length", "what") or changes_filling(axis.key)]
    alike = [c for c in cells if c.is_measured and all(same(c.settings[a.key], settings[a.key]) for a in kept)]
    if not alike:
        return None
    return sum(c.pay * c.seconds_per_step / _rows(axes, c.settings) for c in alike) / len(alike)


def _is_refused(cells: Sequence[Cell], axes: Sequence[MeasuredAxis], settings: Mapping[str, Any]) -> bool:
    """Say whether the same with no larger batch was out of memory."""
    batch = axis_with(axes, "batch")
    return any(
        cell.outcome == "out_of_memory"
        and all(
            cell.settings[axis.key] <= settings[axis.key]
            if axis is batch and axis.is_number
            else same(cell.settings[axis.key], settings[axis.key])
            for axis in axes
        )
        for cell in cells
    )


def _fits(axes: Sequence[MeasuredAxis], lines: Sequence[MemoryLine], settings: Mapping[str, Any]) -> bool | None:
    batch = axis_with(axes, "batch")
    for line in lines:
        if batch is None or line.limit_bytes is None or line.largest_predicted is None:
            continue
        if agrees(settings, line.settings):
            return bool(settings[batch.key] <= line.largest_predicted)
    return None
