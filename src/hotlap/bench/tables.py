"""The tables of a bench: cells, knees, memory, devices and predictions as texts; and the cells as flat rows for CSV."""

import math
from typing import Any

from hotlap.bench.answers import Answers
from hotlap.bench.cells import Cell
from hotlap.bench.measured_axes import MeasuredAxis
from hotlap.bench.words import names_of, uncertainty_text
from hotlap.core.progress import show_bytes
from hotlap.report.bench_pictures import short_number
from hotlap.report.report_tables import Grid
from hotlap.report.text import NOTHING, percent_text, ratio_text, step_time_text
from hotlap.runs.views import setting_text

MOST_PREDICTIONS = 12
CSV_FIGURES = (
    *("outcome", "seconds_per_step", "spread", "step_spread", "samples_per_second", "tokens_per_second"),
    *("slots_per_second", "padding_ratio", "peak_memory_bytes", "model_flops_per_second", "peak_ratio", "matmul_ratio"),
    *("loading_ratio", "startup_seconds", "warmup_seconds", "device", "num_devices", "threads", "message"),
)


def cell_grid(answers: Answers) -> Grid:
    """Return one row a cell, in the order of the grid; columns of which nothing is known are left out."""
    names = names_of(answers)
    rows = [_cell_row(answers, cell) for cell in answers.cells]
    headers = [*(names[axis.key] for axis in answers.axes), *_FIGURES]
    kept = [n for n in range(len(headers)) if n < len(answers.axes) or any(row[n] not in (NOTHING, "") for row in rows)]
    words = (*(names[axis.key] for axis in answers.axes if not axis.is_number), "bound by")
    return Grid(tuple(headers[n] for n in kept), tuple(tuple(row[n] for n in kept) for row in rows), words)


_FIGURES = (
    *("ms/step", "±", "spread", "samples/s", "tokens/s", "with padding", "memory", "FLOP/s", "MFU", "of matmul"),
    *("data", "bound by", ""),
)


def _cell_row(answers: Answers, cell: Cell) -> list[str]:
    settings = [setting_text(cell.settings[axis.key]) for axis in answers.axes]
    mark = _mark(answers, cell)
    if not cell.is_measured:
        return [*settings, cell.outcome.replace("_", " "), *[NOTHING] * (len(_FIGURES) - 3), "", mark]
    padded = cell.slots_per_second if (cell.padding_ratio or 0.0) >= 0.001 else None
    return [
        *settings,
        step_time_text(cell.seconds_per_step),
        uncertainty_text(answers, cell).removeprefix("± "),
        percent_text(cell.spread),
        _number(cell.samples_per_second),
        _number(cell.tokens_per_second),
        _number(padded),
        show_bytes(cell.peak_memory_bytes) if cell.peak_memory_bytes else NOTHING,
        _number(cell.model_flops_per_second),
        _share(cell.peak_ratio),
        _share(cell.matmul_ratio),
        _share(cell.loading_ratio),
        answers.verdict(cell.number).bound.replace("_", " "),
        mark,
    ]


def _mark(answers: Answers, cell: Cell) -> str:
    found = answers.suggestion
    marks = ["not quiet"] if cell.not_quiet else []
    if found is not None and cell.number == found.cell:
        marks.insert(0, "suggested")
    elif found is not None and cell.number == found.best_cell:
        marks.insert(0, "fastest")
    return ", ".join(marks)


def knee_grid(answers: Answers) -> Grid:
    """Return where a larger batch stops to pay, for each combination of the other settings."""
    others = [axis for axis in answers.axes if axis.role != "batch"]
    rows = tuple(
        (
            *_values(others, knee.settings),
            str(knee.batch) if knee.is_inside else f"{knee.batch} or larger",
            short_number(knee.pay),
            str(knee.best_batch),
            short_number(knee.best_pay),
        )
        for knee in answers.knees
    )
    headers = (*_names(answers, others), "knee", answers.unit, "best batch", f"best {answers.unit}")
    return Grid(headers, rows, ())


def memory_grid(answers: Answers) -> Grid:
    """Return the memory lines, for each combination of the other settings."""
    others = [axis for axis in answers.axes if axis.role != "batch"]
    rows = tuple(
        (
            *_values(others, line.settings),
            show_bytes(line.fixed_bytes),
            show_bytes(line.row_bytes),
            percent_text(line.error),
            str(line.largest_measured),
            NOTHING if line.smallest_refused is None else str(line.smallest_refused),
            NOTHING if line.largest_predicted is None else f"{line.largest_predicted:,}",
        )
        for line in answers.memory
    )
    figures = ("fixed", "a row", "error", "largest measured", "too large", "largest predicted")
    return Grid((*_names(answers, others), *figures), rows, ())


def scaling_grid(answers: Answers) -> Grid:
    """Return what more devices bring."""
    others = [axis for axis in answers.axes if axis.role != "devices"]
    rows = tuple(
        (*_values(others, each.settings), str(each.devices), ratio_text(each.speedup), percent_text(each.efficiency))
        for each in answers.scalings
    )
    return Grid((*_names(answers, others), "devices", "faster", "of ideal"), rows, ())


def prediction_grid(answers: Answers) -> Grid:
    """Return the fastest of the combinations that nobody measured."""
    rows = tuple(
        (
            *_values(answers.axes, one.settings),
            step_time_text(one.seconds_per_step),
            short_number(one.pay),
            "between measured ones" if one.is_inside else "beyond them",
            {True: "yes", False: "no", None: "unknown"}[one.fits],
        )
        for one in answers.predictions[:MOST_PREDICTIONS]
    )
    headers = (*_names(answers, answers.axes), "ms/step", answers.unit, "it lies", "fits")
    return Grid(headers, rows, ("it lies", "fits"))


def csv_rows(answers: Answers) -> list[dict[str, Any]]:
    """Return one flat row a cell, with everything in plain units."""
    rows = []
    for cell in answers.cells:
        row: dict[str, Any] = {"cell": cell.number, **cell.settings, "repeats": cell.num_repeats}
        row |= {name: _plain(getattr(cell, name)) for name in CSV_FIGURES}
        row["uncertainty"] = answers.noise.uncertainty(cell.num_repeats) if cell.is_measured else None
        row["bound"] = answers.verdict(cell.number).bound if cell.is_measured else None
        rows.append(row)
    return rows


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _values(axes: Any, settings: Any) -> tuple[str, ...]:
    return tuple(setting_text(settings[axis.key]) for axis in axes)


def _names(answers: Answers, axes: "list[MeasuredAxis] | tuple[MeasuredAxis, ...]") -> tuple[str, ...]:
    names = names_of(answers)
    return tuple(names[axis.key] for axis in axes)


def _number(value: float | None) -> str:
    return NOTHING if value is None else short_number(value)


def _share(value: float | None) -> str:
    return NOTHING if value is None else percent_text(value)
