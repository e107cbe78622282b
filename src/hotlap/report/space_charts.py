"""The charts of a space of settings as plotly figures: parallel coordinates, and slices along one parameter."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from hotlap.analysis.effects import ABSENT, Effect, Level
from hotlap.analysis.importance import Importances
from hotlap.analysis.table import Column, RunTable
from hotlap.analysis.words import short_names
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
    score = Column(table.score_name, "number", table.scores)
    lines = {
        "type": "parcoords",
        "line": {"color": list(table.scores), "colorscale": _SCORE_COLORS, "showscale": False},
        "dimensions": [_axis(column, short[column.name]) for column in (*reversed(ranked), score)],
        "labelangle": -18,
    }
    return figure([lines], 440, margin={"l": 130, "r": 90, "t": 90, "b": 30})


def slice_figure(column: Column, effect: Effect, scores: Sequence[float], score_name: str) -> Figure:
    """Return the runs along one parameter, and the median of each group of them with its interval."""
    is_number = column.kind == "number"
    shown = [level for level in effect.levels if not is_number or level.low is not None]
    pairs: list[tuple[Any, float]]
    if is_number:
        pairs = [(value, score) for value, score in zip(column.values, scores, strict=True) if value is not None]
        places = [_middle(level, is_log=column.is_log) for level in shown]
        axis: dict[str, Any] = {"type": "log", "dtick": 1} if column.is_log else {"type": "linear"}
    else:
        names = [level.label for level in effect.levels]
        rows = [names.index(ABSENT if value is None else str(value)) for value in column.values]
        beside = [row + 0.5 * ((_GOLDEN * run) % 1 - 0.5) for run, row in enumerate(rows)]
        pairs = list(zip(beside, scores, strict=True))
        places = [float(index) for index in range(len(names))]
        texts = [escaped(cut(name, 18)) for name in names]
        axis = {"tickvals": list(range(len(names))), "ticktext": texts, "range": [-0.6, len(names) - 0.4]}
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [value for value, _ in pairs],
        "y": [score for _, score in pairs],
        "marker": {"symbol": "circle-open", "color": GREY, "size": 7},
        "hoverinfo": "y",
    }
    medians = {
        "type": "scatter",
        "mode": "lines+markers" if is_number else "markers",
        "x": places,
        "y": [level.median for level in shown],
        "line": {"color": BLUE, "width": 1.5, "dash": "dot"},
        "marker": {"symbol": "diamond", "color": BLUE, "size": 11},
        "error_y": whiskers([(level.median, *(level.interval or (math.nan, math.nan))) for level in shown]),
        "hovertext": [escaped(f"{level.label}: {level.median:.4g}") for level in shown],
        "hoverinfo": "text",
    }
    axis["title"] = {"text": column.name}
    return figure([dots, medians], 320, xaxis=axis, yaxis={"title": {"text": score_name}})


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
