"""The charts of a space of settings as plotly figures: parallel coordinates, and slices along one parameter."""

import math
from collections.abc import Callable
from typing import Any, Final

from hotlap.analysis.effects import ABSENT, Effect, Level
from hotlap.analysis.importance import Importances
from hotlap.analysis.table import LOG_RATIO, LOG_SECONDS, Column, RunTable
from hotlap.analysis.words import score_name, score_text, score_value, short_names
from hotlap.report.chart_base import BLUE, GREY, Figure, cut, escaped, figure, log_ticks, whiskers

MOST_AXES: Final = 10
"""Axes of the parallel coordinates beside the score's: more cannot be read."""
_SCORE_COLORS: Final = [[0.0, BLUE], [0.5, "#009E73"], [1.0, "#E69F00"]]
_GOLDEN: Final = 0.618
"""Multiples of it fall evenly between whole numbers: places for the runs of one category beside each other."""


def parallel_figure(table: RunTable, importances: Importances) -> Figure:
    """Return one line a run through its settings, the weightiest next to the score, which stands on the right."""
    order = {one.parameter: rank for rank, one in enumerate(importances.parameters)}
    ranked = sorted(table.parameters, key=lambda column: order.get(column.name, len(order)))[:MOST_AXES]
    short = short_names(table.names)
    values = tuple(score_value(table, score) for score in table.scores)
    score = Column(score_name(table.score_name), "number", values, is_log=table.score_name == LOG_SECONDS)
    lines = {
        "type": "parcoords",
        "line": {"color": list(table.scores), "colorscale": _SCORE_COLORS, "showscale": False},
        "dimensions": [*(_axis(column, short[column.name]) for column in reversed(ranked)), _axis(score, score.name)],
        "labelangle": -18,
    }
    return figure([lines], 440, margin={"l": 130, "r": 90, "t": 90, "b": 30})


def slice_figure(column: Column, effect: Effect, table: RunTable) -> Figure:
    """Return the runs along one parameter, and the median of each group of them with its interval."""
    is_number = column.kind == "number"
    shown = [level for level in effect.levels if not is_number or level.low is not None]
    if is_number:
        places: list[float] = [_middle(level, is_log=column.is_log) for level in shown]
        axis: dict[str, Any] = {"type": "log", "dtick": 1} if column.is_log else {"type": "linear"}
    else:
        names = [level.label for level in effect.levels]
        places = [float(index) for index in range(len(names))]
        texts = [escaped(cut(name, 18)) for name in names]
        axis = {"tickvals": list(range(len(names))), "ticktext": texts, "range": [-0.6, len(names) - 0.4]}
    medians = {
        "type": "scatter",
        "mode": "lines+markers" if is_number else "markers",
        "x": places,
        "y": [score_value(table, level.median) for level in shown],
        "line": {"color": BLUE, "width": 1.5, "dash": "dot"},
        "marker": {"symbol": "diamond", "color": BLUE, "size": 11},
        "error_y": whiskers([_reach(level, table) for level in shown]),
        "hovertext": [escaped(f"{level.label}: {score_text(table, level.median)}") for level in shown],
        "hoverinfo": "text",
    }
    axis["title"] = {"text": escaped(column.name)}
    is_log = table.score_name == LOG_SECONDS
    axis_y: dict[str, Any] = {
        "title": {"text": escaped(score_name(table.score_name))},
        "type": "log" if is_log else "linear",
    }
    if is_log and max(table.scores) - min(table.scores) > math.log(LOG_RATIO):
        axis_y["dtick"] = 1  # powers of ten alone
    return figure([_dots(column, effect, table), medians], 320, xaxis=axis, yaxis=axis_y)


def _dots(column: Column, effect: Effect, table: RunTable) -> dict[str, Any]:
    """Return the runs: those of a category beside each other, those whose score was not measured as crosses."""
    places: list[float | None]
    if column.kind == "number":
        places = [value if isinstance(value, int | float) else None for value in column.values]
    else:
        names = [level.label for level in effect.levels]
        rows = [names.index(ABSENT if value is None else str(value)) for value in column.values]
        places = [row + 0.5 * ((_GOLDEN * run) % 1 - 0.5) for run, row in enumerate(rows)]
    shown = [row for row, place in enumerate(places) if place is not None]
    heights, is_measured = [score_value(table, table.scores[row]) for row in shown], table.is_measured
    failure = "a miss" if table.score_name == LOG_SECONDS else "a failure"
    told = [f"{y:.4g}" if is_measured[row] else failure for row, y in zip(shown, heights, strict=True)]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [places[row] for row in shown],
        "y": heights,
        "marker": {
            "symbol": ["circle-open" if is_measured[row] else "x-thin-open" for row in shown],
            "color": GREY,
            "size": 7,
        },
        "hovertext": [escaped(f"{table.run_ids[row]}: {text}") for row, text in zip(shown, told, strict=True)],
        "hoverinfo": "text",
    }


def _reach(level: Level, table: RunTable) -> tuple[float, float, float]:
    """Return median and interval of a level in the unit of what was measured."""
    low, high = sorted(score_value(table, end) for end in level.interval or (math.nan, math.nan))
    return score_value(table, level.median), low, high


def _axis(column: Column, label: str) -> dict[str, Any]:
    """Return one axis: numbers in their place (logarithms where the column says so), categories by name."""
    return {"label": escaped(label), **(_number_axis(column) if column.kind == "number" else _category_axis(column))}


def _category_axis(column: Column) -> dict[str, Any]:
    names = [*sorted(set(column.names())), *([ABSENT] if None in column.values else [])]
    places = [names.index(ABSENT if value is None else str(value)) for value in column.values]
    texts = [escaped(cut(name, 18)) for name in names]
    return {"values": places, "tickvals": list(range(len(names))), "ticktext": texts, "range": [-0.3, len(names) - 0.7]}


def _number_axis(column: Column) -> dict[str, Any]:
    """Return the axis of a number; runs without it lie below all others, at a tick of their own."""
    scale: Callable[[float], float] = math.log10 if column.is_log else float
    known = column.numbers()
    low, high = min(known, default=1.0), max(known, default=1.0)
    width = scale(high) - scale(low) or 1.0
    absent = scale(low) - 0.15 * width
    values = [scale(value) if isinstance(value, int | float) else absent for value in column.values]
    if None not in column.values and not column.is_log:
        return {"values": values, "range": [scale(low), scale(low) + width]}
    ticks = log_ticks(low, high) if column.is_log else [low, high]
    places, texts = [scale(tick) for tick in ticks], [f"{tick:.4g}" for tick in ticks]
    bottom = scale(low)
    if None in column.values:
        places, texts, bottom = [absent, *places], [ABSENT, *texts], absent
    return {"values": values, "tickvals": places, "ticktext": texts, "range": [bottom, scale(low) + width]}


def _middle(level: Level, *, is_log: bool) -> float:
    assert level.low is not None and level.high is not None
    return math.sqrt(level.low * level.high) if is_log else (level.low + level.high) / 2
