"""The picture in SPEEDRUN.md: loss against the clock for each rung, and the ladder as bars.

draw_progress(progress_info(summary, history, points), path)
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from hotlap.core.clock import ClockName
from hotlap.core.errors import import_optional
from hotlap.core.records import History, RunRecord
from hotlap.core.study_folder import ProjectFolder
from hotlap.core.targets import main_metric, parse_target
from hotlap.report.drawing import BLACK, GREY, STYLE, save_figure
from hotlap.report.summary import StudySummary
from hotlap.report.text import ratio_text, seconds_text

OKABE_ITO: Final = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2")
"""Colours that people with any colour vision tell apart (Okabe and Ito 2008); their yellow is too pale for text."""
_MAX_RUNGS: Final = 12
_MAX_LABEL_ROWS: Final = 4
_LOG_RATIO: Final = 20.0
"""Ratio of the longest to the shortest bar from which on they stand on a logarithmic axis."""


class Curve(NamedTuple):
    """One run's loss against the clock."""

    label: str
    """Empty for further runs of the same candidate."""
    number: int
    is_incumbent: bool
    seconds: tuple[float, ...]
    losses: tuple[float, ...]


class Bar(NamedTuple):
    """Time to target of one rung."""

    label: str
    number: int
    seconds: float
    """Infinite for a rung whose median is a miss."""
    low: float
    high: float
    total_ratio: float
    """How many times faster than the baseline; not a number where that is a miss."""


class ProgressInfo(NamedTuple):
    """Everything that the picture shows, as plain numbers."""

    title: str
    clock: ClockName
    metric: str
    """What the curves show."""
    curves: tuple[Curve, ...]
    bars: tuple[Bar, ...]
    target: float | None
    """Wanted value of the metric, None when no target names it."""


def picture_path(project: ProjectFolder, name: str) -> Path:
    """Return where the picture of a study lies: beside SPEEDRUN.md, so that it goes into git with it."""
    return project.project / "speedrun" / f"{name}.svg"


def progress_info(
    summary: StudySummary, history: History, points: Mapping[str, Sequence[Mapping[str, Any]]]
) -> ProgressInfo:
    """Return the numbers of the picture; `points` holds the points of each run in `shown_runs(history)`."""
    curves: list[Curve] = []
    labelled: set[int] = set()
    metric = main_metric(history.base_config)
    for run in shown_runs(history):
        number = run.candidate
        seconds, losses = _curve(points.get(run.run_id, ()), history.clock, metric)
        if not losses:
            continue
        label = "" if number in labelled else f"#{number} {_title(history, number)}" if number else "baseline"
        labelled.add(number)
        is_incumbent = number == history.incumbent and number > 0
        curves.append(Curve(label, number, is_incumbent, seconds, losses))
    targets = [
        target.value for text in summary.targets if (target := parse_target(text, is_any_metric=True)).metric == metric
    ]
    before = summary.baseline.median_seconds
    bars = []
    for row in (summary.ladder[0], *summary.ladder[1:][-_MAX_RUNGS:]) if summary.ladder else ():
        now = row.figures.median_seconds
        ratio = before / now if now > 0 and math.isfinite(now) and math.isfinite(before) else math.nan
        bars.append(Bar(row.title, row.number, now, row.figures.low, row.figures.high, ratio))
    title = f"{summary.name}: time to {' and '.join(summary.targets)}"
    return ProgressInfo(title, history.clock, metric, tuple(curves), tuple(bars), min(targets, default=None))


def shown_runs(history: History) -> list[RunRecord]:
    """Return the runs with a curve: the calibration runs, and of each rung the run nearest to its median."""
    runs = list(history.runs_of(0, "baseline"))
    for number in history.kept()[-_MAX_RUNGS:]:
        found = history.unselected_runs(number) or history.runs_of(number)
        ordered = sorted(found, key=lambda run: (run.clock_to_target(history.clock), run.run_id))
        runs += ordered[(len(ordered) - 1) // 2 :][:1]
    return runs


def _curve(
    points: Sequence[Mapping[str, Any]], clock: ClockName, metric: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    pairs = [
        (float(p[f"{clock}_seconds"]), float(p[metric])) for p in points if metric in p and f"{clock}_seconds" in p
    ]
    finite = [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y) and x > 0]
    return tuple(x for x, _ in finite), tuple(y for _, y in finite)


def _title(history: History, number: int) -> str:
    title = " ".join(history.proposal(number).title.split())
    return title if len(title) <= 34 else f"{title[:33]}…"


def draw_progress(info: ProgressInfo, path: Path) -> None:
    """Draw the picture into a file (the suffix says as what); the same numbers give the same bytes.

    Raises MissingExtraError when matplotlib is not installed.
    """
    matplotlib = import_optional("matplotlib", "report")
    figure_module = import_optional("matplotlib.figure", "report")
    with matplotlib.rc_context(dict(STYLE)):
        height = 3.9 + 0.24 * max(0, len(info.bars) - 5)
        figure = figure_module.Figure(figsize=(9.6, height), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.55, 1.0))
        figure.suptitle(info.title, fontsize=10, color=BLACK)
        _draw_curves(left, info)
        _draw_bars(right, info)
        save_figure(figure, path)


def _draw_curves(axes: Any, info: ProgressInfo) -> None:
    for curve in info.curves:
        width = 2.6 if curve.is_incumbent else 1.0 if curve.number == 0 else 1.3
        color = _color(curve.number, info)
        axes.plot(curve.seconds, curve.losses, color=color, linewidth=width, zorder=3 if curve.is_incumbent else 2)
        axes.plot(curve.seconds[-1:], curve.losses[-1:], "o", color=color, markersize=2.5 * width**0.5, zorder=4)
    axes.set_xlabel(f"{info.clock} clock, seconds")
    axes.set_ylabel(info.metric)
    if info.target is not None:
        axes.axhline(info.target, color=BLACK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        at = (0, info.target)
        coordinates = ("axes fraction", "data")
        axes.annotate(f"target {info.target:g}", at, (3, 3), xycoords=coordinates, textcoords="offset points")
    if info.curves:
        _log_seconds(axes, subs=(1.0, 2.0, 5.0))
        _label_curves(axes, info)


def _log_seconds(axes: Any, subs: tuple[float, ...] = (1.0,)) -> None:
    """Put the seconds on a logarithmic axis with plain numbers at `subs` times each power of ten."""
    axes.set_xscale("log")
    ticker = import_optional("matplotlib.ticker", "report")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")


def _label_curves(axes: Any, info: ProgressInfo) -> None:
    """Write each curve's name below its end, a row lower where it would run into its neighbour."""
    left, right = (math.log(seconds) for seconds in axes.get_xlim())
    low, high = axes.get_ylim()
    row_height = 0.055 * (high - low)
    ends: list[float] = []  # of each row, how far it is written
    for curve in sorted((curve for curve in info.curves if curve.label), key=lambda curve: curve.seconds[-1]):
        name = "baseline" if curve.number == 0 else f"#{curve.number}"
        middle = (math.log(curve.seconds[-1]) - left) / (right - left)
        half = 0.012 * len(name) + 0.004
        row = next((n for n, end in enumerate(ends) if end <= middle - half), len(ends))
        if row == _MAX_LABEL_ROWS:
            continue  # too crowded; the bars beside it name the colour
        ends[row : row + 1] = [middle + half]
        at = (curve.seconds[-1], low - row * row_height)
        weight = "bold" if curve.is_incumbent else "normal"
        axes.annotate(name, at, color=_color(curve.number, info), weight=weight, ha="center", va="center")
    axes.set_ylim(low - (len(ends) - 0.2) * row_height, high)


def _draw_bars(axes: Any, info: ProgressInfo) -> None:
    positions = range(len(info.bars))
    finite = [bar.seconds for bar in info.bars if math.isfinite(bar.seconds)]
    longest = max(finite, default=1.0)
    for position, bar in zip(positions, info.bars, strict=True):
        is_miss = not math.isfinite(bar.seconds)
        color = _color(bar.number, info)
        length = 1.15 * longest if is_miss else bar.seconds
        axes.barh(
            position, length, color="none" if is_miss else color, edgecolor=color, hatch="///" if is_miss else None
        )
        if math.isfinite(bar.low) and math.isfinite(bar.high) and not is_miss:
            axes.plot([bar.low, bar.high], [position, position], color=BLACK, linewidth=1.0)
        times = "misses" if is_miss else seconds_text(bar.seconds)
        gain = f"  {ratio_text(bar.total_ratio)}" if bar.number and math.isfinite(bar.total_ratio) else ""
        at = (max(length, bar.high if math.isfinite(bar.high) else 0.0), position)
        axes.annotate(f"{times}{gain}", at, (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(list(positions), [_bar_label(bar) for bar in info.bars])
    axes.invert_yaxis()
    shortest = min(finite, default=1.0)
    if longest > _LOG_RATIO * shortest:  # else the last rungs would be too short to see
        _log_seconds(axes)
        axes.set_xlim(0.5 * shortest, longest * (longest / shortest) ** 0.5)
    else:
        axes.set_xlim(0, 1.5 * longest)
    axes.set_xlabel("seconds to target")
    axes.tick_params(axis="y", length=0)


def _bar_label(bar: Bar) -> str:
    if not bar.number:
        return bar.label
    title = " ".join(bar.label.split())
    return f"#{bar.number} {title if len(title) <= 32 else title[:31] + '…'}"


def _color(number: int, info: ProgressInfo) -> str:
    """Return the colour of a rung: grey for the baseline, then Okabe and Ito's in the order of the ladder."""
    rungs = [bar.number for bar in info.bars if bar.number]
    return OKABE_ITO[rungs.index(number) % len(OKABE_ITO)] if number in rungs else GREY
