"""What the pictures of a bench show, as plain values: which settings span a heat map, what is a line, which bars.

draw_bench(heats_of(answers), panels_of(answers), shares_of(answers), path)
"""

import math
from collections.abc import Sequence
from typing import Final

from hotlap.bench.answers import Answers
from hotlap.bench.cells import Cell
from hotlap.bench.measured_axes import MeasuredAxis, agrees, axis_with, groups, same
from hotlap.bench.verdict import BOUND_NAMES, Bound
from hotlap.bench.words import names_of, settings_text
from hotlap.report.bench_pictures import MOST_MAPS, Heat, Line, Lines, Shares, short_number
from hotlap.runs.views import setting_text

MOST_LINES: Final = 8
_MOST_BARS: Final = 8
_REFUSED: Final = {"out_of_memory": "no memory", "timed_out": "too slow", "failed": "failed"}
_CURVE_POINTS: Final = 24


def heats_of(answers: Answers) -> tuple[Heat, ...]:
    """Return throughput over batch and length, or else over the two settings that matter most; one map for each
    combination of the others, as many as there is room for. Empty below two axes.
    """
    span = _spanning(answers)
    if span is None:
        return ()
    down, across = span
    others = [axis for axis in answers.axes if axis not in span]
    maps = groups(answers.cells, answers.axes, down.key, across.key)
    maps.sort(key=lambda cells: -max((cell.pay for cell in cells if cell.is_measured), default=0.0))
    chosen = maps[:MOST_MAPS]
    chosen.sort(key=lambda cells: [_rank(axis, cells[0]) for axis in others])
    return tuple(_heat(answers, cells, down, across, others) for cells in chosen)


def _spanning(answers: Answers) -> tuple[MeasuredAxis, MeasuredAxis] | None:
    """Return the settings of rows and columns."""
    if len(answers.axes) < 2:
        return None
    by_weight = [effect.axis for effect in answers.effects]
    by_weight += [axis for axis in answers.axes if axis not in by_weight]
    wanted = [axis for role in ("batch", "length", "devices") if (axis := axis_with(answers.axes, role)) is not None]
    across, down, *_ = dict.fromkeys((*wanted, *by_weight))
    return down, across


def _rank(axis: MeasuredAxis, cell: Cell) -> int:
    return next(n for n, value in enumerate(axis.values) if same(value, cell.settings[axis.key]))


def _heat(
    answers: Answers, cells: Sequence[Cell], down: MeasuredAxis, across: MeasuredAxis, others: Sequence[MeasuredAxis]
) -> Heat:
    names = names_of(answers)
    by_place = {(_rank(down, cell), _rank(across, cell)): cell for cell in cells}
    table = [[by_place.get((row, column)) for column in range(len(across.values))] for row in range(len(down.values))]
    suggested = answers.suggestion.cell if answers.suggestion is not None else -1
    where = {axis.key: cells[0].settings[axis.key] for axis in others}
    return Heat(
        title=settings_text(answers, where) if others else answers.unit,
        x_name=names[across.key],
        x_values=tuple(map(setting_text, across.values)),
        y_name=names[down.key],
        y_values=tuple(map(setting_text, down.values)),
        values=tuple(tuple(cell.pay if cell and cell.is_measured else None for cell in row) for row in table),
        texts=tuple(tuple(_place_text(cell) for cell in row) for row in table),
        unit=answers.unit,
        marked=next((place for place, cell in by_place.items() if cell.number == suggested), None),
    )


def _place_text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return short_number(cell.pay) if cell.is_measured else _REFUSED[cell.outcome]


def panels_of(answers: Answers) -> tuple[Lines, ...]:
    """Return throughput, seconds per step with the fitted model, and memory, each along the batch or another number."""
    numbers = [axis for axis in answers.axes if axis.is_number]
    along = axis_with(numbers, "batch") or next(iter(numbers), None)
    if along is None:
        return ()
    series = _series(answers, along)
    name = names_of(answers)[along.key]
    pay = tuple(_pay_line(answers, along, cells) for cells in series)
    times = tuple(_time_line(answers, along, cells) for cells in series)
    panels = [
        Lines(f"throughput, {answers.unit}", name, answers.unit, pay),
        Lines("a step: measured, and as the model has it", name, "ms", times),
    ]
    if along.role == "batch" and answers.memory:
        panels.append(_memory_panel(answers, along, series, name))
    return tuple(panels)


def _series(answers: Answers, along: MeasuredAxis) -> list[list[Cell]]:
    """Return the measured cells by what else they have, the fastest first, as many as can be told apart."""
    found = groups(answers.measured, answers.axes, along.key)
    found.sort(key=lambda cells: -max(cell.pay for cell in cells))
    return [sorted(cells, key=lambda cell: cell.settings[along.key]) for cells in found[:MOST_LINES]]


def _line_name(answers: Answers, along: MeasuredAxis, cells: Sequence[Cell]) -> str:
    others = {key: value for key, value in cells[0].settings.items() if key != along.key}
    return settings_text(answers, others) if len(answers.axes) > 1 else ""


def _pay_line(answers: Answers, along: MeasuredAxis, cells: Sequence[Cell]) -> Line:
    xs = tuple(float(cell.settings[along.key]) for cell in cells)
    reach = tuple(cell.pay * answers.noise.uncertainty(cell.num_repeats) for cell in cells)
    return Line(_line_name(answers, along, cells), xs, tuple(cell.pay for cell in cells), reach)


def _time_line(answers: Answers, along: MeasuredAxis, cells: Sequence[Cell]) -> Line:
    xs = tuple(float(cell.settings[along.key]) for cell in cells)
    ys = tuple(1000 * cell.seconds_per_step for cell in cells)
    reach = tuple(y * answers.noise.uncertainty(cell.num_repeats) for y, cell in zip(ys, cells, strict=True))
    fit: tuple[tuple[float, float], ...] = ()
    if answers.model is not None and answers.model.exponent(along.key) is not None and len(cells) > 1:
        first, last = math.log(xs[0]), math.log(xs[-1])
        grid = [math.exp(first + (last - first) * n / _CURVE_POINTS) for n in range(_CURVE_POINTS + 1)]
        fit = tuple((x, 1000 * answers.model.seconds({**cells[0].settings, along.key: x})) for x in grid)
    return Line(_line_name(answers, along, cells), xs, ys, reach, fit)


def _memory_panel(answers: Answers, along: MeasuredAxis, series: Sequence[Sequence[Cell]], name: str) -> Lines:
    lines = []
    for cells in series:
        known = [(float(cell.settings[along.key]), (cell.peak_memory_bytes or 0) / 1e9) for cell in cells]
        points = [(x, y) for x, y in known if y > 0]
        line = next((each for each in answers.memory if agrees(cells[0].settings, each.settings)), None)
        if not points or line is None:
            continue
        first, last = points[0][0], points[-1][0]
        grid = [first + (last - first) * n / _CURVE_POINTS for n in range(_CURVE_POINTS + 1)]
        fit = tuple((x, line.bytes_at(x) / 1e9) for x in grid)
        xs, ys = zip(*points, strict=True)
        lines.append(Line(_line_name(answers, along, cells), xs, ys, (), fit))
    limit = next((line.limit_bytes for line in answers.memory if line.limit_bytes is not None), None)
    highest = max((y for line in lines for y in line.y), default=0.0)
    is_near = limit is not None and limit / 1e9 < 4 * highest
    bound = (limit / 1e9, "memory of the device") if limit is not None and is_near else None
    return Lines("peak memory of a device, and its line", name, "GB", tuple(lines), is_log=False, limit=bound)


def shares_of(answers: Answers) -> Shares | None:
    """Return what the steps of some cells are made of: the suggested one, and others evenly over the grid."""
    verdicts = list(answers.verdicts)
    if not verdicts:
        return None
    if len(verdicts) > _MOST_BARS:
        places = {round(n * (len(verdicts) - 1) / (_MOST_BARS - 1)) for n in range(_MOST_BARS)}
        suggested = answers.suggestion.cell if answers.suggestion is not None else -1
        verdicts = [each for n, each in enumerate(verdicts) if n in places or each.cell == suggested]
    parts: list[Bound] = [bound for bound in BOUND_NAMES if any(each.shares.get(bound) for each in verdicts)]
    return Shares(
        title="what a step is made of",
        rows=tuple(settings_text(answers, answers.cell(each.cell).settings) for each in verdicts),
        parts=tuple(BOUND_NAMES[bound] for bound in parts),
        shares=tuple(tuple(each.shares.get(bound, 0.0) for bound in parts) for each in verdicts),
    )
