"""A report as one HTML file that opens from disk: the numbers, the charts and the script that draws them in one place.

    write_page(data, Path("report-my-sweep.html"))

Nothing is fetched: plotly.js is written into the page once, from the installed package, and a policy in the page
forbids every request. Whatever stands in a chart also stands in a table, which needs no script.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

from hotlap.analysis.whole import Analysis
from hotlap.core.errors import import_optional
from hotlap.core.files import write_atomic
from hotlap.report.chart_base import Figure
from hotlap.report.charts import (
    best_points_figure,
    correlation_figure,
    curves_figure,
    importance_figure,
    ladder_figure,
)
from hotlap.report.report_data import MARKER, Cells, Change, ReportData
from hotlap.report.report_tables import (
    Grid,
    best_title,
    correlation_grid,
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
    parallel_text,
    place_grid,
    place_text,
    place_title,
    run_grid,
    sample_grid,
    slice_text,
)
from hotlap.report.space_charts import parallel_figure, slice_figure
from hotlap.runs.views import finite

_TEMPLATES: Final = Path(__file__).parent / "templates"
MOST_SLICES: Final = 12
MOST_DIFF_SIGNS: Final = 600_000
"""Length of all diffs together; a page has 5 MB without them."""
_MARKS: Final = {"+": "added", "-": "removed", "@": "hunk"}


class Chart(NamedTuple):
    """A chart with what it says in words and in numbers."""

    key: str
    text: str
    figure: Figure
    grid: Grid | None
    """None where the table of all runs holds the numbers."""


class Section(NamedTuple):
    """One part of the page."""

    key: str
    title: str
    text: str = ""
    charts: tuple[Chart, ...] = ()
    grids: tuple[tuple[str, Grid], ...] = ()
    """Captions and tables that stand open."""


class Page(NamedTuple):
    """Everything that a page shows."""

    name: str
    kind: str
    headline: str
    facts: Sequence[tuple[str, str]]
    measured: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    changes: Sequence[Change]
    rows: Cells
    """The large table at the end, with its exact values."""
    rows_name: str = "runs"
    order: Sequence[str] = ()
    """Runs in the order of the chart of all parameters."""


def write_page(data: ReportData, path: Path) -> Path:
    """Write the page and return where.

    Raises MissingExtraError without plotly or jinja2, StorageError when the file cannot be written.
    """
    write_atomic(path, render_page(data, plotly_script()))
    return path


def plotly_script() -> str:
    """Return plotly.js as the installed package has it; raises MissingExtraError when it is not installed."""
    return str(import_optional("plotly.offline", "report").get_plotlyjs())


def render_page(data: ReportData, script: str) -> str:
    """Return the page; `script` is plotly.js. Raises MissingExtraError when jinja2 is not installed."""
    order = data.analysis.table.run_ids if data.analysis else ()
    head = (data.name, data.kind, data.headline, data.facts, data.measured)
    return render(Page(*head, list(page_sections(data)), data.changes, data.runs, order=order), script)


def render(page: Page, script: str) -> str:
    """Return a page of any kind; `script` is plotly.js. Raises MissingExtraError when jinja2 is not installed."""
    jinja2 = import_optional("jinja2", "report")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(_TEMPLATES)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = first_changes(page.changes)
    text: str = environment.get_template("report.html.jinja").render(
        marker=MARKER,
        data=page,
        sections=page.sections,
        figures=finite({chart.key: chart.figure for section in page.sections for chart in section.charts}),
        runs=run_grid(page.rows),
        run_values=finite({"headers": page.rows.headers, "rows": page.rows.rows}),
        run_order=page.order,
        changes=[(change, list(diff_lines(change.diff))) for change in shown],
        left_out=len(page.changes) - len(shown),
        plotly=script,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        program=(_TEMPLATES / "report.js").read_text(encoding="utf-8"),
    )
    return text


def page_sections(data: ReportData) -> Iterator[Section]:
    """Yield the parts of the page that come before the diffs and the table of all runs."""
    is_ladder = data.kind == "speedrun"
    places = ladder_figure(data.places) if is_ladder else best_points_figure(data.places, data.value_name)
    chart = Chart("places", place_text(data), places, place_grid(data))
    yield Section(
        "places", place_title(data), charts=(chart,) if data.places else (), text="" if data.places else chart.text
    )
    for number, (title, cells) in enumerate(data.more_tables):
        yield Section(f"more-{number}", title, grids=((title, run_grid(cells)),))
    curves = curves_figure(data.curves, data.metric, data.axis, data.target)
    chart = Chart("curves", curve_text(data), curves, curve_grid(data))
    title = curve_title(data)
    yield Section("curves", title, charts=(chart,) if data.curves else (), text="" if data.curves else chart.text)
    if data.analysis is None:
        yield Section("analysis", "What the runs say", data.no_analysis_because or "They were not analysed.")
    else:
        yield Section("analysis", "What the runs say", data.analysis.words)
        yield from _analysis_sections(data.analysis)
    samples = (("The same prompts, at the end of both runs", sample_grid(data)),) if data.samples else ()
    yield Section("samples", "Samples", "" if samples else "No run has generated text.", grids=samples)
    grids = ((best_title(data), difference_grid(data)),) if data.differences else ()
    text = "" if grids else "Nothing is better than the baseline so far." if not data.best_name else "Nothing differs."
    yield Section("best", "Best config", text, grids=grids)


def _analysis_sections(found: Analysis) -> Iterator[Section]:
    table, shares, links = found.table, found.importances, found.correlations
    if table.run_ids and table.parameters:
        chart = Chart("parallel", parallel_text(table), parallel_figure(table, shares), None)
        yield Section("parallel", "Parallel coordinates", charts=(chart,))
    chart = Chart("importance", importance_text(shares), importance_figure(shares), importance_grid(shares))
    charts = (chart,) if shares.parameters else ()
    pairs = (("Pairs that act together", pair_grid(shares)),) if shares.visible_pairs else ()
    yield Section("importance", "Importance", "" if charts else chart.text, charts, pairs)
    chart = Chart("correlations", correlation_text(links), correlation_figure(links), correlation_grid(links))
    charts = (chart,) if links.pairs else ()
    categories = (("Categories and numbers", link_grid(links)),) if links.learned_categories else ()
    yield Section("correlations", "Correlations", "" if charts else chart.text, charts, categories)
    weights = {one.parameter: one.share for one in shares.parameters}
    effects = sorted(found.effects, key=lambda effect: -weights.get(effect.parameter, 0.0))[:MOST_SLICES]
    columns = {column.name: column for column in table.parameters}
    slices = tuple(
        Chart(
            f"slice-{number}",
            f"{effect.parameter}: {effect_text(effect, table)}",
            slice_figure(columns[effect.parameter], effect, table),
            effect_grid(effect, table),
        )
        for number, effect in enumerate(effects)
    )
    left_out = len(found.effects) - len(effects)
    text = slice_text(table)
    text += f" The {MOST_SLICES} weightiest parameters; the Markdown report has {left_out} more." if left_out else ""
    yield Section("slices", "Slices", text if slices else "No parameter varies.", slices)


def first_changes(changes: Sequence[Change]) -> Sequence[Change]:
    """Return the changes whose diffs have room in a page: all of them, but for studies of more than a thousand."""
    sizes = accumulate(len(change.diff) for change in changes)
    return changes[: sum(size <= MOST_DIFF_SIGNS for size in sizes)]


def diff_lines(diff: str) -> Iterator[tuple[str, str]]:
    """Yield each line of a unified diff with the kind that it is: added, removed, hunk, or nothing for the rest."""
    for line in diff.splitlines():
        is_head = line.startswith(("+++", "---"))
        yield "" if is_head else _MARKS.get(line[:1], ""), line
