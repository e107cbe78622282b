"""The picture of a bench as one SVG: heat maps, throughput and memory along an axis, and what steps are made of.

    draw_bench([heat], [throughput, memory], shares, Path("bench.svg"))

Everything drawn is plain values that were computed elsewhere; the same values give the same bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from hotlap.core.errors import import_optional
from hotlap.report.chart_base import ORANGE, cut
from hotlap.report.drawing import BLACK, BLUE, GREY, STYLE, save_figure
from hotlap.report.picture import OKABE_ITO

MOST_MAPS: Final = 4
MARKS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: Final = ("-", "--", "-.", ":", (0, (7, 2)), (0, (7, 2, 1, 2)), (0, (3, 1)), (0, (1, 3)))
HATCHES: Final = ("", "//", "..", "xx", "\\\\", "oo", "--", "")
PALE: Final = "#eef4fa"
DARK: Final = "#08519c"
_PANEL: Final = 4.6
"""Width of a panel in inches."""
_WIDEST_MAP: Final = 9.2
_SHARES: Final = 1.25
"""Width of the bars' panel in panels."""
_BAR: Final = 0.95
_LEFT: Final = 0.75
_GAP: Final = 0.25
_ABOVE: Final = 0.35
_BELOW: Final = 0.55
_ROW: Final = 0.5
_LINES_HEIGHT: Final = 2.5
"""Inches: the scale of shades with its numbers, what is left, right, above and below of axes, a row, a panel."""
_KEYS_A_ROW: Final = 4
_LONGEST_ROW: Final = 40


class Heat(NamedTuple):
    """A figure over two settings."""

    title: str
    x_name: str
    x_values: tuple[str, ...]
    y_name: str
    y_values: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    """A row for each y; None where nothing was measured."""
    texts: tuple[tuple[str, ...], ...]
    """What stands in each place: the figure, or why there is none."""
    unit: str
    marked: tuple[int, int] | None = None
    """Row and column of what is suggested."""


class Line(NamedTuple):
    """One row of points along a number."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    reach: tuple[float, ...] = ()
    """Half-widths of the points' intervals; empty for none."""
    fit: tuple[tuple[float, float], ...] = ()
    """Points of a fitted curve; empty where the points are to be joined."""


class Lines(NamedTuple):
    """Rows of points in one panel."""

    title: str
    x_name: str
    y_name: str
    lines: tuple[Line, ...]
    is_log: bool = True
    """Whether both axes are logarithmic."""
    limit: tuple[float, str] | None = None
    """A height that is a bound, and what it is."""


class Shares(NamedTuple):
    """What steps are made of."""

    title: str
    rows: tuple[str, ...]
    parts: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    """A row for each of `rows` with a share for each of `parts`; 0 where there is nothing."""


def draw_bench(heats: Sequence[Heat], panels: Sequence[Lines], shares: Shares | None, path: Path) -> Path | None:
    """Draw what there is into one file and return where; None where there is nothing to draw.

    Raises MissingExtraError when matplotlib is not installed, StorageError when the file cannot be written.
    """
    heats, panels = heats[:MOST_MAPS], [panel for panel in panels if panel.lines]
    if not heats and not panels and shares is None:
        return None
    matplotlib = import_optional("matplotlib", "report")
    figures = import_optional("matplotlib.figure", "report")
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    upper = _ABOVE + _BELOW + _ROW * max(len(heat.y_values) for heat in heats) if heats else 0.0
    key = 0.2 * max(math.ceil(len(names) / _KEYS_A_ROW), 2)
    lower = _ABOVE + _LINES_HEIGHT + _BELOW + key if panels or shares is not None else 0.0
    width = max(_PANEL * (len(panels) + (_SHARES if shares is not None else 0.0)), _PANEL * len(heats) + _BAR)
    with matplotlib.rc_context(dict(STYLE)):
        figure = figures.Figure(figsize=(width, upper + lower))
        sheet = _Sheet(figure, width, upper + lower)
        if heats:
            _draw_heats(sheet, heats, lower)
        if panels:
            _draw_panels(sheet, panels, names, key)
        if shares is not None:
            _draw_shares(sheet, shares, _PANEL * len(panels), key)
        save_figure(figure, path)
    return path


class _Sheet(NamedTuple):
    """A figure with places in inches from its lower left corner: a solved layout differs in its last digits."""

    figure: Any
    width: float
    height: float

    def axes(self, left: float, bottom: float, width: float, height: float) -> Any:
        """Return axes in a place."""
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def key(self, handles: Sequence[Any], left: float, columns: int) -> None:
        """Write what signs mean at the lower edge, to the right of a place."""
        at = (left / self.width, 0.02 / self.height)
        self.figure.legend(
            handles=handles, loc="lower left", bbox_to_anchor=at, ncols=columns, frameon=False, fontsize=7.5
        )


def _draw_heats(sheet: _Sheet, heats: Sequence[Heat], bottom: float) -> None:
    """Draw maps side by side on one scale of shades."""
    colors = import_optional("matplotlib.colors", "report")
    known = [value for heat in heats for row in heat.values for value in row if value is not None]
    shades = colors.LinearSegmentedColormap.from_list("hotlap-heat", [PALE, DARK])
    scale = colors.LogNorm(min(known), max(max(known), 1.001 * min(known))) if known else colors.Normalize()
    wide = min((sheet.width - _BAR) / len(heats), _WIDEST_MAP)
    for number, heat in enumerate(heats):
        high = _ROW * len(heat.y_values)
        axes = sheet.axes(number * wide + _LEFT, bottom + _BELOW, wide - _LEFT - _GAP, high)
        numbers = [[math.nan if value is None else value for value in row] for row in heat.values]
        mesh = axes.pcolormesh(numbers, cmap=shades, norm=scale, edgecolors="white", linewidth=1.0)
        for row, texts in enumerate(heat.texts):
            for column, text in enumerate(texts):
                value = heat.values[row][column]
                is_dark = value is not None and float(scale(value)) > 0.55
                _write(axes, (column, row), text, "white" if is_dark else BLACK if value is not None else GREY)
        if heat.marked is not None:
            row, column = heat.marked
            frame = [column + 0.03, column + 0.97, column + 0.97, column + 0.03, column + 0.03]
            axes.plot(frame, [row + 0.04, row + 0.04, row + 0.96, row + 0.96, row + 0.04], color=ORANGE, linewidth=2.2)
        axes.set_xticks([index + 0.5 for index in range(len(heat.x_values))], heat.x_values)
        axes.set_yticks([index + 0.5 for index in range(len(heat.y_values))], heat.y_values)
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.set_xlabel(heat.x_name)
        axes.set_ylabel(heat.y_name)
        axes.set_title(cut(heat.title, 60), fontsize=9.5)
    if known:
        high = _ROW * max(len(heat.y_values) for heat in heats)
        bar = sheet.axes(len(heats) * wide + 0.05, bottom + _BELOW, 0.14, high)
        _plain_ticks(sheet.figure.colorbar(mesh, cax=bar, label=heats[0].unit).ax.yaxis)


def _write(axes: Any, place: tuple[int, int], text: str, color: str) -> None:
    at = (place[0] + 0.5, place[1] + 0.5)
    axes.annotate(text, at, ha="center", va="center", color=color, fontsize=7.5)


def _draw_panels(sheet: _Sheet, panels: Sequence[Lines], names: Sequence[str], key: float) -> None:
    """Draw panels side by side; a name has one colour, sign and dash in all of them, and stands below them once."""
    for number, panel in enumerate(panels):
        place = (number * _PANEL + _LEFT, key + _BELOW, _PANEL - _LEFT - _GAP, _LINES_HEIGHT)
        _draw_lines(sheet.axes(*place), panel, names)
    if any(names):
        lines = import_optional("matplotlib.lines", "report")
        looks = [lines.Line2D([], [], **_look(number), label=cut(name, 48)) for number, name in enumerate(names)]
        sheet.key(looks, _LEFT, _KEYS_A_ROW)


def _look(number: int) -> dict[str, Any]:
    color, mark = OKABE_ITO[number % len(OKABE_ITO)], MARKS[number % len(MARKS)]
    return {"color": color, "marker": mark, "markersize": 4.5, "linestyle": DASHES[number % len(DASHES)]}


def _draw_lines(axes: Any, panel: Lines, names: Sequence[str]) -> None:
    for line in panel.lines:
        look = _look(names.index(line.name))
        axes.plot(line.x, line.y, **look | ({"linestyle": "none"} if line.fit else {}))
        if line.fit:
            axes.plot(*zip(*line.fit, strict=True), color=look["color"], linestyle=look["linestyle"], linewidth=1.2)
        for x, y, reach in zip(line.x, line.y, line.reach, strict=False):
            axes.plot([x, x], [y - reach, y + reach], color=look["color"], linewidth=1.0)
    if panel.limit is not None:
        axes.axhline(panel.limit[0], color=BLACK, linewidth=0.8, linestyle=(0, (4, 3)))
        at = ((0.02, panel.limit[0]), (0, 3))
        axes.annotate(panel.limit[1], at[0], at[1], xycoords=("axes fraction", "data"), textcoords="offset points")
    if panel.is_log:
        axes.set_xscale("log")
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    else:
        heights = [y for line in panel.lines for y in line.y]
        axes.set_ylim(0, 1.12 * max([*heights, panel.limit[0] if panel.limit is not None else 0.0]))
    ticks = sorted({x for line in panel.lines for x in line.x})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(panel.x_name)
    axes.set_ylabel(panel.y_name)
    axes.set_title(panel.title, fontsize=9.5)


def _draw_shares(sheet: _Sheet, panel: Shares, left: float, key: float) -> None:
    """Draw bars of 100 %, with room for their names at the left."""
    room = 0.35 + 0.056 * max(len(cut(row, _LONGEST_ROW)) for row in panel.rows)
    axes = sheet.axes(left + room, key + _BELOW, _PANEL * _SHARES - room - _GAP, _LINES_HEIGHT)
    bars = []
    starts = [0.0] * len(panel.rows)
    for number, part in enumerate(panel.parts):
        widths = [100 * shares[number] for shares in panel.shares]
        color = OKABE_ITO[number % len(OKABE_ITO)] if number else BLUE
        hatch = HATCHES[number % len(HATCHES)] or None
        look = {"color": color, "hatch": hatch, "edgecolor": "white", "height": 0.7}
        bars.append(axes.barh(range(len(widths)), widths, left=starts, label=part, **look))
        for row, width in enumerate(widths):
            if width >= 12:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8}
                at = (starts[row] + width / 2, row)
                axes.annotate(f"{width:.0f} %", at, ha="center", va="center", fontsize=7.5, bbox=box)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.set_yticks(range(len(panel.rows)), [cut(row, _LONGEST_ROW) for row in panel.rows], fontsize=7.5)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the step, %")
    axes.set_title(panel.title, fontsize=9.5)
    sheet.key(bars, left + 0.3, 3)


def _plain_ticks(axis: Any) -> None:
    """Put plain numbers at 1, 2 and 5 times powers of ten on a logarithmic axis."""
    ticker = import_optional("matplotlib.ticker", "report")
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: short_number(value))
    axis.set_minor_formatter(ticker.NullFormatter())


def short_number(value: float) -> str:
    """Return a number in at most four digits: `1.23k`, `45.6M`."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{unit}" if abs(value) < 999.5 * size else f"{value / size:,.0f}{unit}"
    return f"{value:.3g}"
