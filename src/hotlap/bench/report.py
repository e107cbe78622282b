"""A bench as a report: one HTML page, Markdown with its picture, or JSON; and its table in the report of a study.

write_bench_report(BenchFolder(path), Path("report-b0001.html"), "html", ".svg")
"""

import json
from collections.abc import Iterator
from pathlib import Path

from hotlap.bench.answers import Answers, answers_of
from hotlap.bench.pictures import heats_of, panels_of, shares_of
from hotlap.bench.summary import MARKER as BENCH_MARKER
from hotlap.bench.summary import patch_lines, render_bench, summary_document
from hotlap.bench.tables import cell_grid, csv_rows, knee_grid, memory_grid, prediction_grid, scaling_grid
from hotlap.bench.words import facts_of, headline, method_facts
from hotlap.core.bench_folder import BenchFolder, bench_folders
from hotlap.core.errors import ConfigError, MissingExtraError
from hotlap.core.files import write_atomic
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.bench_charts import heat_figure, lines_figure, shares_figure
from hotlap.report.bench_pictures import Shares, draw_bench
from hotlap.report.page import Chart, Page, Section, plotly_script, render
from hotlap.report.report_data import MARKER, Cells, Change, plain_cell
from hotlap.report.report_file import Form, refuse_foreign
from hotlap.report.report_tables import Grid


def write_bench_report(folder: BenchFolder, path: Path, form: Form, suffix: str) -> Path:
    """Write the report of a bench in one of the forms; return where it lies. `suffix` is that of the picture.

    Raises ConfigError for a file that somebody else wrote, StorageError when it cannot be written, MissingExtraError
    for a page without plotly or jinja2; Markdown without matplotlib says so and has its tables alone.
    """
    refuse_foreign(path, form)
    answers = answers_of(folder)
    if form == "html":
        text = render(bench_page(answers), plotly_script())
    elif form == "json":
        text = json.dumps(summary_document(answers), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        text = _markdown(answers, path, suffix)
    write_atomic(path, text)
    return path


def _markdown(answers: Answers, path: Path, suffix: str) -> str:
    picture = path.parent / f"{path.stem}-pictures" / f"bench{suffix}"
    try:
        drawn = draw_bench(heats_of(answers), panels_of(answers), shares_of(answers), picture)
    except MissingExtraError as error:
        head, end = render_bench(answers, None).replace(BENCH_MARKER, MARKER, 1), f"\n*No picture: {error}*\n"
        return head + end
    name = drawn.relative_to(path.parent).as_posix() if drawn is not None else None
    return render_bench(answers, name).replace(BENCH_MARKER, MARKER, 1)


def bench_page(answers: Answers) -> Page:
    """Return everything that the page of a bench shows."""
    rows = csv_rows(answers)
    headers = tuple(dict.fromkeys(key for row in rows for key in row))
    lines = patch_lines(answers)
    verdict = "measured" if lines else ""
    changes = (Change(1, "the suggestion", verdict, "\n".join(lines)),) if lines else ()
    return Page(
        name=f"{answers.bench_id} {answers.name}".strip(),
        kind="bench",
        headline=headline(answers),
        facts=facts_of(answers),
        measured=method_facts(answers),
        sections=list(_bench_sections(answers)),
        changes=changes,
        rows=Cells(headers, tuple(tuple(plain_cell(row.get(key)) for key in headers) for row in rows)),
        rows_name="cells",
    )


def _bench_sections(answers: Answers) -> Iterator[Section]:
    """Yield the parts of the page."""
    grid = cell_grid(answers)
    heats = tuple(
        Chart(f"heat-{number}", heat.title, heat_figure(heat), None) for number, heat in enumerate(heats_of(answers))
    )
    yield Section("throughput", "Throughput", charts=heats, grids=(("Cells", grid),) if grid.rows else ())
    panels = tuple(
        Chart(f"lines-{number}", panel.title, lines_figure(panel), None)
        for number, panel in enumerate(panels_of(answers))
        if panel.lines
    )
    if panels:
        yield Section("lines", "Along the batch" if answers.knees else "Along a setting", charts=panels)
    shares = shares_of(answers)
    if shares is not None:
        chart = Chart("shares", shares.title, shares_figure(shares), _shares_grid(shares))
        yield Section("bounds", "What bounds a step", charts=(chart,))
    tables = {
        "Knees": knee_grid(answers),
        "Memory": memory_grid(answers),
        "Devices": scaling_grid(answers),
        "Not measured: predicted": prediction_grid(answers),
    }
    for title, found in tables.items():
        if found.rows:
            yield Section(title.split(":")[0].lower().replace(" ", "-"), title, grids=((title, found),))


def _shares_grid(shares: Shares) -> Grid:
    rows = tuple(
        (name, *(f"{100 * share:.0f} %" for share in line))
        for name, line in zip(shares.rows, shares.shares, strict=True)
    )
    return Grid(("cell", *shares.parts), rows, ("cell",))


def bench_tables(project: ProjectFolder, name: str) -> tuple[tuple[str, Cells], ...]:
    """Return the cells of the last bench of a config's name with what it says, for the report of its study.

    A bench whose config no longer can be read has its problem told in their place.
    """
    folders = [folder for folder in bench_folders(project.benches_path) if folder.plan_path.is_file()]
    own = [folder for folder in folders if folder.plan().get("name") == name and folder.repeats()]
    if not own:
        return ()
    try:
        answers = answers_of(own[-1])
    except ConfigError as error:
        return ((f"Throughput, bench {own[-1].bench_id}", Cells(("problem",), ((str(error),),))),)
    grid = cell_grid(answers)
    return ((f"Throughput, bench {answers.bench_id}: {headline(answers)}", Cells(grid.headers, grid.rows)),)
