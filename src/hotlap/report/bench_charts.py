"""The pictures of a bench as plotly figures: what `bench_pictures` draws into a file, for a page."""

from typing import Any, Final

from hotlap.report.bench_pictures import DARK, PALE, Heat, Lines, Shares
from hotlap.report.chart_base import BLUE, GREY, ORANGE, Figure, cut, escaped, figure, log_ticks, named_rows
from hotlap.report.picture import OKABE_ITO

_DASHES: Final = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot")
_MARKS: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
_PATTERNS: Final = ("", "/", ".", "x", "\\", "+", "-", "|")
_SHADES: Final = [[0.0, PALE], [1.0, DARK]]


def heat_figure(heat: Heat) -> Figure:
    """Return the figures over two settings with their numbers; what is suggested has a frame."""
    known = [value for row in heat.values for value in row if value is not None]
    middle = (min(known) + max(known)) / 2 if known else 0.0
    cells = {
        "type": "heatmap",
        "x": list(range(len(heat.x_values))),
        "y": list(range(len(heat.y_values))),
        "z": [list(row) for row in heat.values],
        "colorscale": _SHADES,
        "hoverinfo": "none",
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"title": {"text": escaped(heat.unit)}, "thickness": 12},
    }
    texts = [
        {
            "x": column,
            "y": row,
            "text": escaped(text),
            "showarrow": False,
            "font": _ink(heat.values[row][column], middle),
        }
        for row, line in enumerate(heat.texts)
        for column, text in enumerate(line)
        if text
    ]
    layout: dict[str, Any] = {
        "xaxis": {**_ticks(heat.x_values), "title": {"text": escaped(heat.x_name)}},
        "yaxis": {**named_rows(heat.y_values), "title": {"text": escaped(heat.y_name)}, "showgrid": False},
        "annotations": texts,
    }
    if heat.marked is not None:
        row, column = heat.marked
        box = {"x0": column - 0.47, "x1": column + 0.47, "y0": row - 0.46, "y1": row + 0.46}
        layout["shapes"] = [{"type": "rect", **box, "line": {"color": ORANGE, "width": 3}}]
    return figure([cells], 150 + 44 * len(heat.y_values), **layout)


def _ink(value: float | None, middle: float) -> dict[str, str]:
    """Return the colour of a text that can be read on its shade."""
    if value is None:
        return {"color": GREY}
    return {"color": "#ffffff" if value > middle else "#222222"}


def _ticks(names: tuple[str, ...]) -> dict[str, Any]:
    texts = [escaped(cut(name)) for name in names]
    return {"tickvals": list(range(len(names))), "ticktext": texts, "showgrid": False, "ticks": ""}


def lines_figure(panel: Lines) -> Figure:
    """Return rows of points along a number, with their fitted curves."""
    data: list[dict[str, Any]] = []
    for number, line in enumerate(panel.lines):
        color = OKABE_ITO[number % len(OKABE_ITO)]
        style = {"color": color, "dash": _DASHES[number % len(_DASHES)]}
        name = escaped(cut(line.name)) or escaped(panel.y_name)
        points: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers" if line.fit else "lines+markers",
            "x": list(line.x),
            "y": list(line.y),
            "name": name,
            "line": style,
            "marker": {"color": color, "symbol": _MARKS[number % len(_MARKS)], "size": 8},
            "hoverinfo": "x+y+name",
        }
        if line.reach:
            points["error_y"] = {"type": "data", "array": list(line.reach), "thickness": 1.2, "width": 2}
        data.append(points)
        if line.fit:
            xs, ys = zip(*line.fit, strict=True)
            drawn = {"mode": "lines", "x": list(xs), "y": list(ys), "line": style, "showlegend": False}
            data.append({"type": "scatter", "name": name, "hoverinfo": "skip", **drawn})
    kind = "log" if panel.is_log else "linear"
    ticks = sorted({x for line in panel.lines for x in line.x})
    axis_x = {"title": {"text": escaped(panel.x_name)}, "type": kind, "tickvals": ticks}
    axis_y: dict[str, Any] = {"title": {"text": escaped(panel.y_name)}, "type": kind}
    heights = [y for line in panel.lines for y in line.y]
    if panel.is_log and heights:
        axis_y["tickvals"] = log_ticks(min(heights), max(heights))
    layout: dict[str, Any] = {"xaxis": axis_x, "yaxis": axis_y, "showlegend": len(panel.lines) > 1}
    if panel.limit is not None:
        ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": panel.limit[0], "y1": panel.limit[0]}
        layout["shapes"] = [{"type": "line", **ends, "line": {"color": GREY, "dash": "dash"}}]
        at = {"xref": "paper", "x": 0, "xanchor": "left", "y": panel.limit[0], "yanchor": "bottom"}
        layout["annotations"] = [{**at, "text": escaped(panel.limit[1]), "showarrow": False}]
    return figure(data, 380, **layout)


def shares_figure(panel: Shares) -> Figure:
    """Return what steps are made of as bars of 100 %."""
    rows = list(range(len(panel.rows)))
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": escaped(part),
            "y": rows,
            "x": [100 * shares[number] for shares in panel.shares],
            "text": [f"{100 * shares[number]:.0f} %" if shares[number] >= 0.08 else "" for shares in panel.shares],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "hoverinfo": "x+name",
            "marker": {
                "color": OKABE_ITO[number % len(OKABE_ITO)] if number else BLUE,
                "pattern": {"shape": _PATTERNS[number % len(_PATTERNS)], "solidity": 0.2},
            },
        }
        for number, part in enumerate(panel.parts)
    ]
    axis = {"title": {"text": "share of the step, %"}, "range": [0, 100]}
    layout = {"barmode": "stack", "showlegend": True, "xaxis": axis, "yaxis": named_rows(panel.rows)}
    return figure(data, 140 + 34 * len(rows), **layout)
