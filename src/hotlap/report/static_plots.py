"""The pictures of a report as files, SVG or PNG, drawn by matplotlib: the same numbers give the same bytes.

draw_pictures(data, Path("report-my-sweep-pictures"), ".svg")
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from hotlap.analysis.correlation import Correlations
from hotlap.analysis.effects import ABSENT, Effect
from hotlap.analysis.importance import Importances
from hotlap.analysis.table import LOG_SECONDS, Column, RunTable
from hotlap.analysis.words import score_name, score_value, short_names
from hotlap.core.errors import import_optional
from hotlap.report.chart_base import ORANGE, cut
from hotlap.report.charts import matrix_texts
from hotlap.report.drawing import BLACK, BLUE, GREY, STYLE, save_figure
from hotlap.report.picture import OKABE_ITO
from hotlap.report.report_data import ReportData

LINE_STYLES: Final = ("--", "-.", ":", (0, (7, 2)), (0, (7, 2, 1, 2)))
MOST_SLICES: Final = 12
_SLICES_A_ROW: Final = 3
_PALE: Final = "#f7f7f7"

Draw = Callable[[Any], None]
"""Draws on a figure whose size is set."""


def draw_pictures(data: ReportData, folder: Path, suffix: str) -> dict[str, Path]:
    """Draw every picture that there are numbers for; return their paths by name.

    `suffix` is `.svg` or `.png`. Raises MissingExtraError when matplotlib is not installed, StorageError when a file
    cannot be written.
    """
    matplotlib = import_optional("matplotlib", "report")
    figures = import_optional("matplotlib.figure", "report")
    drawn = {}
    for name, (size, draw) in _pictures(data).items():
        path = folder / f"{name}{suffix}"
        with matplotlib.rc_context(dict(STYLE)):
            figure = figures.Figure(figsize=size, layout="constrained")
            draw(figure)
            save_figure(figure, path)
        drawn[name] = path
    return drawn


def _pictures(data: ReportData) -> dict[str, tuple[tuple[float, float], Draw]]:
    """Return size in inches and drawing of each picture."""
    found: dict[str, tuple[tuple[float, float], Draw]] = {}
    if any(math.isfinite(place.value) for place in data.places):
        found["places"] = ((8.0, 1.2 + 0.32 * len(data.places)), lambda figure: _draw_places(figure, data))
    if data.curves:
        found["curves"] = ((8.0, 4.2), lambda figure: _draw_curves(figure, data))
    if (analysis := data.analysis) is None:
        return found
    shares, links = analysis.importances, analysis.correlations
    table, effects = analysis.table, analysis.effects[:MOST_SLICES]
    if shares.parameters:
        found["importance"] = ((8.0, 1.2 + 0.32 * len(shares.parameters)), lambda figure: _draw_shares(figure, shares))
    if links.pairs:
        side = 2.2 + 0.42 * len(links.names)
        found["correlations"] = ((side + 1.0, side), lambda figure: _draw_correlations(figure, links))
    if effects:
        rows = math.ceil(len(effects) / _SLICES_A_ROW)
        found["effects"] = ((9.6, 2.7 * rows), lambda figure: _draw_effects(figure, table, effects))
    return found


def _draw_places(figure: Any, data: ReportData) -> None:
    axes = figure.subplots()
    is_ladder = data.kind == "speedrun"
    known = [place.value for place in data.places if math.isfinite(place.value)]
    longest = max(known)
    for row, place in enumerate(data.places):
        is_known = math.isfinite(place.value)
        color = GREY if row == 0 else BLUE
        at = place.value if is_known else longest
        if is_ladder:
            axes.barh(row, at, color=color if is_known else "none", edgecolor=color, hatch=None if is_known else "///")
        elif is_known:
            axes.plot([at], [row], marker="*" if row == 0 else "o", markersize=9, color=BLUE, linestyle="none")
        if is_known and all(map(math.isfinite, (place.low, place.high))):
            axes.plot([place.low, place.high], [row, row], color=BLACK, linewidth=1.0)
        at = max(at, place.high) if is_known and math.isfinite(place.high) else at
        axes.annotate(place.text, (at, row), (6, 0), textcoords="offset points", va="center")
    _name_rows(axes, [place.label for place in data.places])
    axes.set_xlabel(data.value_name)
    axes.margins(x=0.18)
    if is_ladder:
        axes.set_xlim(0, 1.35 * longest)


def _draw_curves(figure: Any, data: ReportData) -> None:
    axes = figure.subplots()
    rung = 0
    for curve in sorted(data.curves, key=lambda curve: curve.kind != "other"):  # the nameless ones lie below
        color, width = GREY, 0.6
        style: Any = "-"
        if curve.kind == "baseline":
            width, style = 1.6, ":"
        elif curve.kind == "best":
            color, width = BLUE, 2.6
        elif curve.kind == "rung":
            color, width, style = OKABE_ITO[rung % 5], 1.3, LINE_STYLES[rung % 5]
            rung += 1
        name = cut(curve.label) or "_nolegend_"
        axes.plot(curve.seconds, curve.values, color=color, linewidth=width, linestyle=style, label=name)
    if data.target is not None:
        axes.axhline(data.target, color=BLACK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate(f"target {data.target:g}", (0, data.target), (3, 3), **_AT_THE_LEFT)
    _log_axis(axes, "x")
    axes.set_xlabel(data.axis)
    axes.set_ylabel(data.metric)
    if any(curve.label for curve in data.curves):
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


_AT_THE_LEFT: Final = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}


def _draw_shares(figure: Any, found: Importances) -> None:
    axes = figure.subplots()
    visible = {one.parameter for one in found.visible}
    for row, one in enumerate(found.parameters):
        is_visible = one.parameter in visible
        color = BLUE if is_visible else GREY
        axes.barh(row, one.share, color=color if is_visible else "none", edgecolor=color, hatch=_hatch(is_visible))
        axes.plot([one.low, one.high], [row, row], color=BLACK, linewidth=1.2)
        axes.plot([one.chance], [row], marker="|", markersize=13, markeredgewidth=2, color=ORANGE, linestyle="none")
        axes.annotate(f"{one.share:.2f}", (one.high, row), (6, 0), textcoords="offset points", va="center")
    _name_rows(axes, [one.parameter for one in found.parameters])
    axes.set_xlim(0, share_axis_end(found))
    axes.set_xlabel("share of the variance, 90 % interval; the mark is what chance gives")


def share_axis_end(found: Importances) -> float:
    """Return how far the axis of shares goes, so that every interval and every mark of chance lies on it."""
    return 1.2 * max(*(max(one.high, one.chance) for one in found.parameters), 0.05)


def _hatch(is_visible: bool) -> str | None:
    return None if is_visible else "///"


def _draw_correlations(figure: Any, found: Correlations) -> None:
    colors = import_optional("matplotlib.colors", "report")
    axes = figure.subplots()
    short = short_names(found.names)
    names = [cut(score_name(short[name]), 24) for name in found.names]
    values = [[math.nan if rho is None else rho for rho in row] for row in found.matrix]
    shades = colors.LinearSegmentedColormap.from_list("hotlap", [BLUE, _PALE, ORANGE])
    mesh = axes.pcolormesh(values, cmap=shades, vmin=-1, vmax=1, edgecolors="white", linewidth=0.5)
    for row, texts in enumerate(matrix_texts(found)):
        for column, text in enumerate(texts):
            color = "white" if abs(values[row][column]) > 0.7 else BLACK
            axes.annotate(text, (column + 0.5, row + 0.5), ha="center", va="center", color=color, fontsize=7.5)
    ticks = [index + 0.5 for index in range(len(names))]
    axes.set_xticks(ticks, names, rotation=40, ha="right")
    axes.set_yticks(ticks, names)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    figure.colorbar(mesh, ax=axes, label="rank correlation", shrink=0.7)


def _draw_effects(figure: Any, table: RunTable, effects: Sequence[Effect]) -> None:
    columns = {column.name: column for column in table.parameters}
    short = short_names(table.names)
    rows = math.ceil(len(effects) / _SLICES_A_ROW)
    grid = figure.subplots(rows, _SLICES_A_ROW, squeeze=False, sharey=True)
    places = [axes for line in grid for axes in line]
    for axes, effect in zip(places, effects, strict=False):
        _draw_slice(axes, columns[effect.parameter], effect, table)
        axes.set_xlabel(short[effect.parameter])
    for axes in places[len(effects) :]:
        axes.set_visible(False)
    if table.score_name == LOG_SECONDS:
        _log_axis(places[0], "y")  # the others share it
    figure.supylabel(score_name(table.score_name), fontsize=9)


def _draw_slice(axes: Any, column: Column, effect: Effect, table: RunTable) -> None:
    """Draw the runs as rings (crosses where only a rank is known) and the medians of their groups with intervals."""
    names = [level.label for level in effect.levels]
    if column.kind == "number":
        rows = [value if isinstance(value, int | float) else math.nan for value in column.values]
        if column.is_log:
            _log_axis(axes, "x")
    else:
        rows = [float(names.index(ABSENT if value is None else str(value))) for value in column.values]
        axes.set_xticks(range(len(names)), [cut(name, 14) for name in names], rotation=25, ha="right")
        axes.margins(x=0.2)
    for sign, is_measured in (("o", True), ("x", False)):
        some = [row for row, known in enumerate(table.is_measured) if known == is_measured]
        heights = [score_value(table, table.scores[row]) for row in some]
        axes.plot([rows[row] for row in some], heights, sign, **_RINGS)
    for index, level in enumerate(effect.levels):
        if column.kind == "number" and (level.low is None or level.high is None):
            continue
        at = float(index)
        if level.low is not None and level.high is not None:
            at = math.sqrt(level.low * level.high) if column.is_log else (level.low + level.high) / 2
        axes.plot([at], [score_value(table, level.median)], "D", color=BLUE, markersize=6)
        if level.interval:
            axes.plot([at, at], [score_value(table, end) for end in level.interval], color=BLUE, linewidth=1.4)


_RINGS: Final = {"markerfacecolor": "none", "markeredgecolor": GREY, "markersize": 4}


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    """Give each row its name, the first on top."""
    axes.set_yticks(list(range(len(names))), [cut(name) for name in names])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def _log_axis(axes: Any, name: str) -> None:
    """Put `x` or `y` on a logarithmic axis with plain numbers."""
    ticker = import_optional("matplotlib.ticker", "report")
    getattr(axes, f"set_{name}scale")("log")
    axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(ticker.NullFormatter())
