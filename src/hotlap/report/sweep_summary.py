"""A sweep in figures, and these figures as lines of text: what `hotlap sweep` and `hotlap status` print."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from hotlap.core.durations import format_seconds
from hotlap.report.text import count_text

SHOWN: Final = 10
"""Rows of the table of the best."""
HEADERS: Final = ("rank", "run", "what differs from the baseline", "outcome", "runs", "value", "spread")
TITLE_WIDTH: Final = 72
"""Characters of a point's settings in the table; the document has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointFigures:
    """One point of the space, or the baseline."""

    number: int
    """0 for the baseline."""
    run_id: str
    """Its first run that counts."""
    title: str
    outcome: str
    runs: int
    """With different seeds."""
    value: float
    """Of the metric, the median of its runs; not a number where no run told, infinite for a target that was missed."""
    low: float
    high: float
    curve: tuple[float, ...] = ()
    """The metric over its first run's evaluations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSummary:
    """Where a sweep stands."""

    name: str
    metric: str
    goal: str
    method: str
    baseline: PointFigures | None
    points: tuple[PointFigures, ...]
    """Best first, those that ran with all their seeds before the others; what failed or was stopped stands last."""
    best: int | None
    """Number of the best point; None while there is none."""
    changes: tuple[tuple[str, str, str], ...]
    """Key, the baseline's value and the best point's, where they differ."""
    outcomes: Mapping[str, int]
    """Runs by how they ended, repetitions included."""
    seconds_spent: float
    seconds_total: float
    run_cap: int | None
    ended: str

    def document(self) -> dict[str, Any]:
        """Return the summary as plain values for JSON."""
        return {"schema": "hotlap/sweep-summary/1", **asdict(self)}


def sweep_headline(summary: SweepSummary) -> str:
    """Return the result in one line."""
    best = next((point for point in summary.points if point.number == summary.best), None)
    if best is None:
        state = "no point came to a value" if summary.ended else "no point has come to an end yet"
        return f"{summary.name}: {state}"
    against = f", the baseline {_value(summary.baseline.value)}" if summary.baseline else ""
    runs = f" (median of {best.runs})" if best.runs > 1 else " (one run)"
    if summary.baseline and not _is_better(best.value, summary.baseline.value, summary.goal):
        against += ": no point is better than that"
    return f"{summary.name}: best {summary.metric} {_value(best.value)}{runs}{against}"


def sweep_facts(summary: SweepSummary) -> list[tuple[str, str]]:
    """Return what is known of the sweep beside its table: label and text."""
    ended = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(summary.outcomes.items()))
    cap = f" of {summary.run_cap}" if summary.run_cap is not None else ""
    facts = [
        ("Metric", f"{summary.metric}, to {summary.goal}; sampler {summary.method}"),
        ("Points", f"{len(summary.points)}{cap}; runs: {ended or 'none'}"),
        ("Budget", f"{format_seconds(summary.seconds_spent)} of {format_seconds(summary.seconds_total)} used"),
    ]
    if summary.changes:
        shown = "; ".join(f"{key} {before} → {after}" for key, before, after in summary.changes)
        facts.append(("Best config", shown))
    return [*facts, ("Ended", summary.ended)] if summary.ended else facts


def sweep_rows(summary: SweepSummary, shown: int = SHOWN) -> list[tuple[str, ...]]:
    """Return the cells of the best points, then of the baseline, under HEADERS."""
    rows = [_row(str(rank), point) for rank, point in enumerate(summary.points[:shown], start=1)]
    if summary.baseline is not None:
        rows.append(_row("–", summary.baseline))
    return rows


def more_text(summary: SweepSummary, shown: int = SHOWN) -> str:
    """Return how many points the table leaves out; empty when none."""
    left = len(summary.points) - shown
    return f"and {count_text(left, 'more point')}: hotlap runs ls" if left > 0 else ""


def _row(rank: str, point: PointFigures) -> tuple[str, ...]:
    spread = f"{_value(point.low)} to {_value(point.high)}" if point.runs > 1 else "–"
    outcome = point.outcome.replace("_", " ")
    title = point.title if len(point.title) <= TITLE_WIDTH else f"{point.title[: TITLE_WIDTH - 1]}…"
    return rank, point.run_id, title, outcome, str(point.runs), _value(point.value), spread


def _is_better(one: float, other: float, goal: str) -> bool:
    """Say whether a value is better than another one, which may not be known."""
    return math.isnan(other) or (one < other if goal == "minimize" else one > other)


def _value(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
