"""The learning rate over a training, before it is trained: as numbers and as a picture.

draw_schedule(schedule_curve(config), config.training.schedule_by, title, path)
"""

from collections.abc import Sequence
from pathlib import Path

from hotlap.config.schedule import schedule_of
from hotlap.config.schema import RunConfig
from hotlap.core.errors import import_optional
from hotlap.report.drawing import BLACK, BLUE, STYLE, save_figure


def schedule_curve(config: RunConfig, points: int = 200, *, max_steps: int | None = None) -> list[tuple[float, float]]:
    """Return (position, learning rate) at up to `points` places from the first update to the end of the schedule.

    In steps these are updates, the last one included; `max_steps` says how many where the config counts in epochs.
    Raises ConfigError when the config does not say where the schedule ends, or the schedule is the project's own code.
    """
    schedule = schedule_of(config, max_steps=max_steps)
    if schedule.unit == "steps":
        last = round(schedule.horizon) - 1
        positions = [float(place) for place in sorted({round(i * last / (points - 1)) for i in range(points)})]
    else:
        positions = [schedule.horizon * i / (points - 1) for i in range(points)]
    return [(position, schedule.peak * schedule.factor(position)) for position in positions]


def draw_schedule(curve: Sequence[tuple[float, float]], unit: str, title: str, path: Path) -> None:
    """Draw a curve of (position in `unit`, learning rate) into a file; its suffix says as what (.svg, .png, .pdf).

    Raises MissingExtraError when matplotlib is not installed.
    """
    matplotlib = import_optional("matplotlib", "report")
    figure_module = import_optional("matplotlib.figure", "report")
    with matplotlib.rc_context(dict(STYLE)):
        figure = figure_module.Figure(figsize=(6.4, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, fontsize=10, color=BLACK, loc="left")
        axes.plot([position for position, _ in curve], [rate for _, rate in curve], color=BLUE, linewidth=1.6)
        axes.set_xlabel(unit)
        axes.set_ylabel("learning rate")
        axes.set_ylim(0, 1.06 * max((rate for _, rate in curve), default=0.0) or 1.0)
        axes.margins(x=0.01)
        axes.xaxis.set_major_formatter(lambda position, _: f"{position:,.10g}")
        axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
        save_figure(figure, path)
