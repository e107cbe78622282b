"""Everything that a report shows, as plain values; drawing and writing start from here and add no number of their own.

data = report_data(project, subject)                       # hotlap.study.report_view
write_page(replace(data, analysis=found), path)            # found: hotlap.analysis.whole.Analysis
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from hotlap.analysis.whole import Analysis
from hotlap.runs.views import finite

SCHEMA: Final = "hotlap/report/1"
MARKER: Final = "<!-- written by hotlap report -->"
"""Begins a report as Markdown or HTML: a file without it is somebody else's."""
Cell = str | float | int | bool | None


@dataclass(frozen=True, slots=True)
class Place:
    """A rung of the ladder, one of the best points of a sweep, or a variant of an ablation."""

    label: str
    value: float
    """Seconds to target (infinite for a miss), or the metric of a sweep or import."""
    low: float
    high: float
    text: str
    """The value as people read it."""


@dataclass(frozen=True, slots=True)
class ReportCurve:
    """One run's metric against the clock; at least one point."""

    run_id: str
    label: str
    """Empty for a run that is not named in the picture."""
    kind: Literal["baseline", "rung", "best", "other"]
    seconds: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SamplePair:
    """What baseline and best made of one prompt; None where a run was not asked."""

    prompt: str
    expected: str
    baseline: str | None
    best: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """A proposal or a point, with its exact diff."""

    number: int
    title: str
    verdict: str
    diff: str


@dataclass(frozen=True, slots=True)
class Cells:
    """A table of plain values."""

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """A study as its report shows it."""

    name: str
    kind: Literal["speedrun", "sweep", "ablation", "import"]
    headline: str
    facts: tuple[tuple[str, str], ...]
    """Label and sentence: what came out."""
    measured: tuple[tuple[str, str], ...]
    """Label and sentence: how it was measured."""
    place_table: Cells
    """The ladder, or the best points, as text."""
    places: tuple[Place, ...]
    value_name: str
    """What the values of the places are."""
    metric: str
    """Metric of the curves."""
    axis: str
    """What the curves are drawn against: `train clock, seconds`, or `steps` where no clock of hotlap's ran."""
    target: float | None
    """Wanted value of the metric; None when nothing asks for one."""
    curves: tuple[ReportCurve, ...]
    sample_runs: tuple[str, str]
    """Ids of the baseline's and of the best run whose samples are shown; empty where there is none."""
    samples: tuple[SamplePair, ...]
    best_name: str
    """What is called the best here; empty while nothing beats the baseline."""
    differences: tuple[tuple[str, str, str], ...]
    """Key, the baseline's value and the best's."""
    changes: tuple[Change, ...]
    """All of them, the most telling first."""
    runs: Cells
    """Every run; the first column is its id."""
    more_tables: tuple[tuple[str, Cells], ...] = ()
    """Further tables beside that of the places, with their titles."""
    analysis: Analysis | None = None
    no_analysis_because: str = ""

    def document(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; what is not finite becomes null."""
        document: dict[str, Any] = finite({"schema": SCHEMA, **asdict(self)})
        return document


def plain_cell(value: Any) -> Cell:
    """Return a setting as a cell: what is neither a text, a number nor a truth value is told as text."""
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most `most` items (two or more), evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]
