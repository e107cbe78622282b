"""The charts of a report as plotly figures: pure functions from plain values to what JSON holds.

Nothing here loads plotly: a figure is a dict of `data` and `layout`, and plotly.js in the page draws it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hotlap.analysis.correlation import Correlations
from hotlap.analysis.importance import Importances
from hotlap.analysis.words import score_name, short_names
from hotlap.report.chart_base import BLUE, GREY, ORANGE, Figure, cut, escaped, figure, named_rows, whiskers
from hotlap.report.picture import OKABE_ITO
from hotlap.report.report_data import Place, ReportCurve

DASHES: Final = ("dash", "dashdot", "longdash", "longdashdot", "dot")
CURVES_HEIGHT: Final = 460
_DIVERGING: Final = [[0.0, BLUE], [0.5, "#f7f7f7"], [1.0, ORANGE]]
_LABEL_HEIGHT: Final = 15.0
"""Pixels between two names beside each other."""
_LOG_RATIO: Final = 20.0
"""Ratio of the longest to the shortest bar from which on they stand on a logarithmic axis."""


def ladder_figure(places: Sequence[Place]) -> Figure:
    """Return the rungs as bars of seconds, the baseline on top; a miss is hatched, and longer than every time."""
    finite = [place.value for place in places if math.isfinite(place.value)]
    longest, shortest = max(finite, default=1.0), min(finite, default=1.0)
    is_log = longest > _LOG_RATIO * shortest
    colors = [GREY, *(OKABE_ITO[index % len(OKABE_ITO)] for index in range(len(places) - 1))]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [place.value if math.isfinite(place.value) else 1.1 * longest for place in places],
        "y": list(range(len(places))),
        "text": [escaped(place.text) for place in places],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertext": _hover(places),
        "hoverinfo": "text",
        "marker": {
            "color": colors[: len(places)],
            "pattern": {"shape": ["" if math.isfinite(place.value) else "/" for place in places]},
        },
        "error_x": whiskers([(place.value, place.low, place.high) for place in places]),
    }
    end = longest * (longest / shortest) ** 0.4 if is_log else 1.35 * longest
    range_x = [math.log10(0.5 * shortest), math.log10(end)] if is_log else [0.0, end]
    axis_x = {"title": {"text": "seconds to target"}, "range": range_x, "type": "log" if is_log else "linear"}
    rows = named_rows([place.label for place in places])
    return figure([bars], 90 + 34 * len(places), xaxis=axis_x, yaxis=rows)


def best_points_figure(places: Sequence[Place], value_name: str) -> Figure:
    """Return the best points of a sweep as marks with their spread, the best on top."""
    known = [(index, place) for index, place in enumerate(places) if math.isfinite(place.value)]
    marks = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [place.value for _, place in known],
        "y": [index for index, _ in known],
        "text": [escaped(place.text) for _, place in known],
        "textposition": "top center",
        "cliponaxis": False,
        "hovertext": _hover([place for _, place in known]),
        "hoverinfo": "text",
        "marker": {"color": BLUE, "size": 10, "symbol": ["star" if index == 0 else "circle" for index, _ in known]},
        "error_x": whiskers([(place.value, place.low, place.high) for _, place in known]),
    }
    rows = named_rows([place.label for place in places])
    return figure([marks], 100 + 36 * len(places), xaxis={"title": {"text": escaped(value_name)}}, yaxis=rows)


def curves_figure(curves: Sequence[ReportCurve], metric: str, axis: str, target: float | None) -> Figure:
    """Return each run's metric against a logarithmic clock, the named ones labelled at their end."""
    styles = _styles(curves)
    nameless_first = sorted(zip(curves, styles, strict=True), key=lambda pair: pair[0].kind != "other")
    lines = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": list(curve.seconds),
            "y": list(curve.values),
            "name": escaped(curve.label or curve.run_id),
            "line": style,
            "opacity": 0.45 if curve.kind == "other" else 1.0,
            "hoverinfo": "x+y+name",
        }
        for curve, style in nameless_first
    ]
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": escaped(axis)}, "type": "log"},
        "yaxis": {"title": {"text": escaped(metric)}},
        "margin": {"l": 60, "r": 190, "t": 20, "b": 50},
        "annotations": _end_labels(curves, styles),
    }
    if target is not None:
        line = {"color": GREY, "width": 1.5, "dash": "dash"}
        ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": target, "y1": target}
        layout["shapes"] = [{"type": "line", **ends, "line": line}]
        at = {"xref": "paper", "x": 0, "xanchor": "left", "y": target, "yanchor": "bottom"}
        layout["annotations"].append({**at, "text": f"target {target:g}", "showarrow": False})
    return figure(lines, CURVES_HEIGHT, **layout)


def importance_figure(found: Importances) -> Figure:
    """Return the shares as bars with their intervals, and beside each what chance gives."""
    names = [one.parameter for one in found.parameters]
    visible = {one.parameter for one in found.visible}
    rows = list(range(len(names)))
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [one.share for one in found.parameters],
        "y": rows,
        "hovertext": [f"{one.share:.2f} [{one.low:.2f} to {one.high:.2f}]" for one in found.parameters],
        "hoverinfo": "text",
        "marker": {
            "color": [BLUE if name in visible else GREY for name in names],
            "pattern": {"shape": ["" if name in visible else "/" for name in names]},
        },
        "error_x": whiskers([(one.share, one.low, one.high) for one in found.parameters]),
    }
    chance = {
        "type": "scatter",
        "mode": "markers",
        "x": [one.chance for one in found.parameters],
        "y": rows,
        "hovertext": [f"by chance {one.chance:.2f}" for one in found.parameters],
        "hoverinfo": "text",
        "marker": {"symbol": "line-ns-open", "size": 16, "color": ORANGE, "line": {"width": 2.5}},
    }
    axis = {"title": {"text": "share of the variance"}, "rangemode": "tozero"}
    return figure([bars, chance], 90 + 32 * len(names), xaxis=axis, yaxis=named_rows(names))


def correlation_figure(found: Correlations) -> Figure:
    """Return the matrix of rank correlations with its numbers; those that may be chance stand in brackets."""
    short = short_names(found.names)
    names = [score_name(short[name]) for name in found.names]
    rows = list(range(len(names)))
    cells = {
        "type": "heatmap",
        "x": rows,
        "y": rows,
        "z": [list(row) for row in found.matrix],
        "zmin": -1,
        "zmax": 1,
        "colorscale": _DIVERGING,
        "text": [list(row) for row in matrix_texts(found)],
        "texttemplate": "%{text}",
        "hoverongaps": False,
        "hoverinfo": "text",
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"title": {"text": "ρ"}, "thickness": 12},
    }
    axis_x = {"tickvals": rows, "ticktext": [escaped(cut(name)) for name in names], "tickangle": -40, "showgrid": False}
    return figure([cells], 160 + 34 * len(names), xaxis=axis_x, yaxis={**named_rows(names), "showgrid": False})


def matrix_texts(found: Correlations) -> list[list[str]]:
    """Return the matrix as texts: in brackets where the interval holds 0, empty where nothing is known."""
    clear = {frozenset(pair.names) for pair in found.pairs if pair.is_clear}
    return [
        [_cell(rho, is_clear=a == b or frozenset((a, b)) in clear) for b, rho in zip(found.names, row, strict=True)]
        for a, row in zip(found.names, found.matrix, strict=True)
    ]


def _cell(rho: float | None, *, is_clear: bool) -> str:
    if rho is None:
        return ""
    return f"{rho:.2f}" if is_clear else f"({rho:.2f})"


def _hover(places: Sequence[Place]) -> list[str]:
    return [escaped(f"{place.label}: {place.text}") for place in places]


def _styles(curves: Sequence[ReportCurve]) -> list[dict[str, Any]]:
    """Return the line of each curve; rungs and named points have a colour and a dash of their own."""
    styles: list[dict[str, Any]] = []
    rung = 0
    for curve in curves:
        if curve.kind == "baseline":
            styles.append({"color": GREY, "width": 2, "dash": "dot"})
        elif curve.kind == "best":
            styles.append({"color": BLUE, "width": 3.5, "dash": "solid"})
        elif curve.kind == "rung":
            styles.append({"color": OKABE_ITO[rung % 5], "width": 1.8, "dash": DASHES[rung % 5]})
            rung += 1
        else:
            styles.append({"color": GREY, "width": 0.8, "dash": "solid"})
    return styles


def _end_labels(curves: Sequence[ReportCurve], styles: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the names at the ends of the curves, moved apart where they would lie upon each other."""
    values = [value for curve in curves for value in curve.values]
    seconds = [math.log10(second) for curve in curves for second in curve.seconds]
    if not values:
        return []
    pixels = (CURVES_HEIGHT - 70) / ((max(values) - min(values)) or 1.0)
    width = (max(seconds) - min(seconds)) or 1.0
    placed: list[tuple[float, float]] = []
    labels = []
    named = [(curve, style) for curve, style in zip(curves, styles, strict=True) if curve.label]
    for curve, style in sorted(named, key=lambda pair: pair[0].values[-1]):
        at, end = math.log10(curve.seconds[-1]), curve.values[-1] * pixels
        height = end
        while any(abs(at - x) < 0.3 * width and abs(height - y) < _LABEL_HEIGHT for x, y in placed):
            height += 1.0
        placed.append((at, height))
        name = {"x": at, "y": curve.values[-1], "text": escaped(cut(curve.label)), "xanchor": "left"}
        arrow = {"showarrow": True, "ax": 14, "ay": end - height, "arrowhead": 0, "arrowwidth": 1}
        labels.append({**name, **arrow, "arrowcolor": style["color"]})
    return labels
