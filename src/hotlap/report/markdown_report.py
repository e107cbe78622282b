"""A report as Markdown: complete by itself, with pictures beside it, for a README or a pull request.

write_markdown(data, Path("report-my-sweep.md"))
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from hotlap.analysis.effects import Effect
from hotlap.analysis.table import RunTable
from hotlap.analysis.whole import Analysis
from hotlap.analysis.words import score_name
from hotlap.core.errors import MissingExtraError
from hotlap.core.files import write_atomic
from hotlap.report.report_data import MARKER, Change, ReportData
from hotlap.report.report_tables import (
    Grid,
    best_title,
    clear_correlation_grid,
    correlation_text,
    curve_grid,
    curve_text,
    curve_title,
    difference_grid,
    effect_grid,
    effect_text,
    importance_grid,
    importance_text,
    link_grid,
    pair_grid,
    place_grid,
    place_text,
    place_title,
    run_grid,
    sample_grid,
    slice_text,
)
from hotlap.report.static_plots import draw_pictures
from hotlap.report.text import fenced, inside_html, markup_free, one_line, unbroken
from hotlap.report.text import table as markdown_table

MOST_CORRELATIONS: Final = 20
MOST_CHANGES: Final = 10
KINDS: Final = {"speedrun": "speedrun", "sweep": "sweep", "ablation": "ablation", "import": "imported runs"}


def write_markdown(data: ReportData, path: Path, suffix: str = ".svg") -> Path:
    """Write the report and its pictures, which go into a folder beside it; return the report's path.

    Without matplotlib the report says so and has its tables alone. Raises StorageError when it cannot be written.
    """
    folder = path.parent / f"{path.stem}-pictures"
    pictures: dict[str, str] = {}
    missing = ""
    try:
        drawn = draw_pictures(data, folder, suffix)
        pictures = {name: file.relative_to(path.parent).as_posix() for name, file in drawn.items()}
    except MissingExtraError as error:
        missing = str(error)
    write_atomic(path, render_markdown(data, pictures, missing))
    return path


def render_markdown(data: ReportData, pictures: Mapping[str, str], no_pictures_because: str = "") -> str:
    """Return the report; `pictures` maps the names of pictures to their paths, relative to it."""
    parts = [
        MARKER,
        f"# {one_line(data.name)}: {KINDS[data.kind]}",
        f"**{one_line(data.headline)}**",
        _bullets(data.facts),
        f"*No pictures: {one_line(no_pictures_because)}*" if no_pictures_because else "",
        f"## {place_title(data)}",
        _picture("places", pictures, place_text(data)),
        _grid(place_grid(data)),
        *(part for title, cells in data.more_tables for part in (f"## {one_line(title)}", _grid(run_grid(cells)))),
        "## Best config",
        _best_config(data),
        *_analysis(data, pictures),
        f"## {one_line(curve_title(data))}",
        _picture("curves", pictures, curve_text(data)),
        one_line(curve_text(data)),
        _grid(curve_grid(data)),
        "## Samples",
        _samples(data),
        "## Changes",
        _changes(data.changes),
        "## All runs",
        _folded(f"{len(data.runs.rows)} runs", _grid(run_grid(data.runs))),
        *(("## How it was measured", _bullets(data.measured)) if data.measured else ()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _analysis(data: ReportData, pictures: Mapping[str, str]) -> list[str]:
    """Return the sections on what the runs teach."""
    if data.analysis is None:
        return ["## What the runs say", one_line(data.no_analysis_because or "They were not analysed.")]
    found = data.analysis
    return [
        "## What the runs say",
        one_line(found.words),
        "## Importance",
        _picture("importance", pictures, importance_text(found.importances)),
        one_line(importance_text(found.importances)),
        _grid(importance_grid(found.importances)),
        _grid(pair_grid(found.importances)),
        "## Correlations",
        _picture("correlations", pictures, correlation_text(found.correlations)),
        one_line(correlation_text(found.correlations)),
        _grid(clear_correlation_grid(found.correlations, MOST_CORRELATIONS)),
        _grid(link_grid(found.correlations)),
        "## Marginal effects",
        _effects(found, pictures),
    ]


def _effects(found: Analysis, pictures: Mapping[str, str]) -> str:
    if not found.effects:
        return "No parameter varies."
    alt = f"Median {score_name(found.table.score_name)} along each parameter; the tables below hold the numbers"
    sections = [_effect(effect, found.table) for effect in found.effects]
    drawn = [_picture("effects", pictures, alt), slice_text(found.table)] if "effects" in pictures else []
    return "\n\n".join([*drawn, *sections])


def _effect(effect: Effect, table: RunTable) -> str:
    title = markup_free(effect.parameter)
    return f"### {title}\n\n{one_line(effect_text(effect, table))}\n\n{_grid(effect_grid(effect, table))}"


def _best_config(data: ReportData) -> str:
    """Return the best config as a diff of its settings against the baseline's."""
    if not data.best_name:
        return "Nothing is better than the baseline so far."
    if not data.differences:
        return f"{one_line(data.best_name)} has the baseline's config."
    lines = "\n".join(f"- {key}: {before}\n+ {key}: {after}" for key, before, after in data.differences)
    if data.kind == "import":
        return f"{one_line(best_title(data))}:\n\n{_grid(difference_grid(data))}"
    return f"{one_line(best_title(data))}:\n\n{fenced(lines, 'diff')}"


def _samples(data: ReportData) -> str:
    if not data.samples:
        return (
            "No text was generated: the task or the targets ask for none, or the cheap targets never held. "
            "`samples: {prompts: […]}` in the config asks for some."
        )
    grid = sample_grid(data)
    return _grid(Grid(grid.headers, tuple(tuple(map(unbroken, row)) for row in grid.rows), grid.words))


def _changes(changes: Sequence[Change]) -> str:
    """Return the first exact diffs, folded, and where the others are."""
    if not changes:
        return "None yet."
    shown = [
        _folded(
            f"{change.number} · {change.title}: {change.verdict}", fenced(change.diff or "(nothing recorded)", "diff")
        )
        for change in changes[:MOST_CHANGES]
    ]
    if more := len(changes) - len(shown):
        where = "`--format html` and `--format json` have every diff, `hotlap runs show RUN` tells what one run changes"
        shown.append(f"And {more} more: {where}.")
    return "\n\n".join(shown)


def _folded(title: str, body: str) -> str:
    return f"<details>\n<summary>{inside_html(title)}</summary>\n\n{body}\n\n</details>"


def _bullets(facts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- **{label}** {one_line(text)}" for label, text in facts)


def _grid(grid: Grid) -> str:
    return markdown_table(grid.headers, grid.rows, grid.words) if grid.rows else ""


def _picture(name: str, pictures: Mapping[str, str], alt: str) -> str:
    """Return a picture with its text alternative; empty where none was drawn."""
    if name not in pictures:
        return ""
    told = one_line(alt).replace("[", "(").replace("]", ")")
    return f"![{told}]({quote(pictures[name])})"
