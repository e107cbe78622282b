"""What SPEEDRUN.md says of step times: what the bench before the study measured, and how its predictions came out."""

import math
from statistics import median
from typing import Final

from hotlap.core.records import History, Proposal
from hotlap.core.speed import FailedCell, setting_text
from hotlap.report.text import NOTHING, one_line, percent_text, seconds_text, step_time_text, table

_HEADERS: Final = ("#", "change", "predicted ms/step", "measured ms/step", "predicted / measured")


def speed_section(history: History) -> str:
    """Return the measured cells and the predictions beside what happened; empty where nothing was measured."""
    speed = history.speed
    if speed is None or not speed.cells:
        return ""
    intro = (
        f"Measured in {one_line(speed.bench)} before the first run, in {seconds_text(speed.seconds)}: the median time "
        "of a step with each combination, all else as in the baseline."
    )
    uncertainty = max(cell.uncertainty for cell in speed.cells)
    if uncertainty:
        intro += f" They are good to ± {percent_text(uncertainty)} (95 %)."
    headers = [*(key.rpartition(".")[2] for key in speed.keys), "ms/step"]
    cells = [
        [*(setting_text(cell.settings[key]) for key in speed.keys), step_time_text(cell.seconds_per_step)]
        for cell in speed.cells
    ]
    parts = [intro, table(headers, cells, words=())]
    if speed.failed:
        parts.append(f"Not measured: {'; '.join(map(_failure, speed.failed))}.")
    rows = [_row(proposal, history) for proposal in history.proposals if proposal.predicted_step_seconds is not None]
    if rows:
        parts += [
            "Predicted from that, and what the runs then took:",
            table(_HEADERS, rows, words=("change",)),
        ]
    errors = [error for proposal in history.proposals if (error := _error(proposal, history)) is not None]
    if errors:
        parts.append(f"Median error of {len(errors)} predicted step times: {percent_text(median(errors))}.")
    return "\n\n".join(parts)


def _failure(cell: FailedCell) -> str:
    settings = ", ".join(f"{key.rpartition('.')[2]} {setting_text(value)}" for key, value in cell.settings.items())
    return one_line(f"{settings} ({cell.outcome.replace('_', ' ')})")


def _row(proposal: Proposal, history: History) -> list[str]:
    predicted, measured = proposal.predicted_step_seconds, _measured(proposal, history)
    assert predicted is not None
    ratio = NOTHING if math.isnan(measured) else f"{predicted / measured:.2f}"
    shown = NOTHING if math.isnan(measured) else step_time_text(measured)
    return [str(proposal.number), one_line(proposal.title), step_time_text(predicted), shown, ratio]


def _error(proposal: Proposal, history: History) -> float | None:
    predicted, measured = proposal.predicted_step_seconds, _measured(proposal, history)
    return None if predicted is None or math.isnan(measured) else abs(predicted / measured - 1)


def _measured(proposal: Proposal, history: History) -> float:
    """Return the median seconds of a step over a proposal's runs; not a number before one took a step."""
    seconds = [run.told_step_seconds for run in history.runs_of(proposal.number) if run.told_step_seconds > 0]
    return median(seconds) if seconds else math.nan
