"""Everything that a bench answers, computed from its folder: cells, what matters, where it ends, what to write.

answers = answers_of(BenchFolder(path))
answers.suggestion.patch
predicted_seconds(answers, {"training.per_device_train_batch_size": 12})
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hotlap.bench.axes import DEVICES_KEY
from hotlap.bench.cells import Cell, Noise, drift_of, noise_of, summarise
from hotlap.bench.knee import Knee, MemoryLine, Scaling, knees, memory_lines, scalings
from hotlap.bench.launcher_devices import devices_of, with_devices
from hotlap.bench.measured_axes import Effect, MeasuredAxis, effects_of, measured_axes_of
from hotlap.bench.predict import LeftOut, StepTimes, leave_out_errors
from hotlap.bench.suggest import Prediction, Suggestion, holder_of_rows, predictions, suggest, worth_measuring
from hotlap.bench.verdict import Verdict, verdict_of
from hotlap.config.knob_ranges import is_total_batch
from hotlap.config.load import config_from_text
from hotlap.config.schema import RunConfig
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.bench_records import CellRepeat
from hotlap.runs.views import flatten, setting_text

_VISIBLE_DRIFT: Final = 2.0
"""Standard errors from which on a drift is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a bench found out."""

    bench_id: str
    name: str
    """Of the config."""
    device: str
    is_complete: bool
    """Whether everything that was planned was measured or tried."""
    unit: str
    """What `pay` counts: tokens/s, samples/s or steps/s."""
    base: Mapping[str, Any]
    """The config's own values of the settings that cells have."""
    cells: tuple[Cell, ...]
    axes: tuple[MeasuredAxis, ...]
    noise: Noise
    drift: float | None
    """Factor by which step times grew while the bench ran; None where that is not more than noise."""
    effects: tuple[Effect, ...]
    knees: tuple[Knee, ...]
    memory: tuple[MemoryLine, ...]
    scalings: tuple[Scaling, ...]
    model: StepTimes | None
    left_out: LeftOut
    predictions: tuple[Prediction, ...]
    worth_measuring: tuple[Prediction, ...]
    """The untested combinations that should beat the suggestion."""
    verdicts: tuple[Verdict, ...]
    """One for each measured cell."""
    suggestion: Suggestion | None

    def cell(self, number: int) -> Cell:
        """Return the cell of a number; raises KeyError when there is none."""
        return {cell.number: cell for cell in self.cells}[number]

    def verdict(self, number: int) -> Verdict:
        """Return the verdict on a measured cell."""
        return {verdict.cell: verdict for verdict in self.verdicts}[number]

    @property
    def measured(self) -> tuple[Cell, ...]:
        """The cells that have figures."""
        return tuple(cell for cell in self.cells if cell.is_measured)


def answers_of(folder: BenchFolder) -> Answers:
    """Return the answers of a bench, also of one that is not through.

    Raises StudyError where there is none, ConfigError when its config cannot be read.
    """
    plan, repeats = folder.plan(), folder.repeats()
    config = config_from_text(folder.config_path.read_text(encoding="utf-8"), folder.config_path)
    own: Mapping[str, Any] = plan.get("own") or {}
    base = {**flatten(config.model_dump(mode="json")), **own}
    if config.command is not None:
        base[DEVICES_KEY] = devices_of(config)
    answers = answers_from(
        repeats,
        base,
        bench_id=folder.bench_id,
        name=config.name,
        planned=int(plan.get("num_repeats") or 0),
        limit_bytes=plan.get("memory_bytes"),
    )
    if config.command is not None:
        return _in_the_launcher(answers, config.command.run)
    return _with_changes(answers, config, own)


def _with_changes(answers: Answers, config: RunConfig, own: Mapping[str, Any]) -> Answers:
    """Return answers whose suggestion says what all cells have other than the user's own config."""
    found, values = answers.suggestion, flatten(config.model_dump(mode="json"))
    changed = [key for key in own if key not in answers.base and not is_total_batch(key)]
    if found is None or not changed:
        return answers
    notes = [
        f"all cells have {key} {setting_text(values[key])}, the config {setting_text(own[key])}" for key in changed
    ]
    return replace(answers, suggestion=replace(found, notes=(*found.notes, *notes)))


def _in_the_launcher(answers: Answers, run: str) -> Answers:
    """Return answers whose suggested devices, of a command, stand where its launcher reads them."""
    found = answers.suggestion
    if found is None or DEVICES_KEY not in found.patch:
        return answers
    others = {key: value for key, value in found.patch.items() if key != DEVICES_KEY}
    patch = {**others, "command.run": with_devices(run, int(found.patch[DEVICES_KEY]))}
    return replace(answers, suggestion=replace(found, patch=patch))


def answers_from(
    repeats: Sequence[CellRepeat],
    base: Mapping[str, Any],
    *,
    bench_id: str = "",
    name: str = "",
    planned: int = 0,
    limit_bytes: int | None = None,
) -> Answers:
    """Return the answers of some lines; `base` has the config's own values by dotted key.

    `planned` are the lines that there should be, `limit_bytes` is the memory of one device.
    """
    cells = _comparable(summarise(repeats))
    own = {key: base.get(key) for cell in cells for key in cell.settings}
    axes, noise = measured_axes_of(cells, own), noise_of(cells)
    measured = [cell for cell in cells if cell.is_measured]
    ways = _ways(axes, base)
    model = StepTimes.fit(measured, ways) if measured and axes else None
    lines, left_out = memory_lines(cells, axes, limit_bytes), leave_out_errors(cells, ways)
    suggestion = suggest(cells, ways, base, noise, model)
    untested = predictions(cells, ways, model, lines) if model is not None else ()
    chosen = next((cell for cell in cells if suggestion is not None and cell.number == suggestion.cell), None)
    return Answers(
        bench_id=bench_id,
        name=name,
        device=next((cell.device for cell in measured), ""),
        is_complete=len(repeats) >= planned,
        unit=_unit(measured),
        base=own,
        cells=cells,
        axes=axes,
        noise=noise,
        drift=_visible_drift(repeats),
        effects=effects_of(cells, axes, noise),
        knees=knees(cells, axes),
        memory=lines,
        scalings=scalings(cells, axes),
        model=model,
        left_out=left_out,
        predictions=untested,
        worth_measuring=worth_measuring(untested, chosen, ways, left_out.upper, noise.sigma) if chosen else (),
        verdicts=tuple(verdict_of(cell, cells, ways, model) for cell in measured),
        suggestion=suggestion,
    )


def predicted_seconds(answers: Answers, settings: Mapping[str, Any]) -> float | None:
    """Return the seconds per step of a config, given by dotted keys: measured where it was, else predicted.

    What is not given is as the bench's config has it. None where the bench has nothing to say of such settings.
    """
    wanted = {**answers.base, **{key: value for key, value in settings.items() if key in answers.base}}
    for cell in answers.measured:
        if all(wanted[key] == value for key, value in cell.settings.items()):
            return cell.seconds_per_step
    if answers.model is None:
        return None
    fixed = [key for key in answers.base if all(key != axis.key for axis in answers.axes)]
    if any(wanted[key] != answers.measured[0].settings.get(key) for key in fixed):
        return None
    try:
        return answers.model.seconds(wanted)
    except (ValueError, TypeError):  # a value that nobody measured, or none
        return None


def _ways(axes: Sequence[MeasuredAxis], base: Mapping[str, Any]) -> tuple[MeasuredAxis, ...]:
    """Return the axes as they make a step: where a knob holds its batch, rows per device are a way to take it.

    More rows, or devices, then only mean fewer passes: neither the work of a step nor its time grows with them.
    """
    if not (holder_of_rows(base) or "").startswith("params."):
        return tuple(axes)
    return tuple(replace(axis, role="how") if axis.role in ("batch", "devices") else axis for axis in axes)


def _comparable(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return cells that are all compared by the same unit: what one of them does not know, none of them tells."""
    measured = [cell for cell in cells if cell.is_measured]
    if any(cell.tokens_per_second is None for cell in measured):
        cells = [replace(cell, tokens_per_second=None) for cell in cells]
    if any(cell.samples_per_second is None for cell in measured):
        cells = [replace(cell, samples_per_second=None) for cell in cells]
    return tuple(cells)


def _unit(measured: Sequence[Cell]) -> str:
    if measured and measured[0].tokens_per_second:
        return "tokens/s"
    return "samples/s" if measured and measured[0].samples_per_second else "steps/s"


def _visible_drift(repeats: Sequence[CellRepeat]) -> float | None:
    drift, error = drift_of(repeats)
    return drift if abs(math.log(drift)) > _VISIBLE_DRIFT * error else None
