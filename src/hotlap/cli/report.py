"""`hotlap report`: a study as one HTML page that opens from disk, as Markdown with pictures, or as JSON.

hotlap report
hotlap report my-sweep --format md -o README.md
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hotlap.cli.train import ProjectOption

if TYPE_CHECKING:
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.report.report_data import ReportData

Format = Literal["html", "md", "json"]


def report(
    study: Annotated[str | None, typer.Argument(help="Study or import (default: the study touched last).")] = None,
    form: Annotated[Format, typer.Option("--format", help="One page, Markdown with pictures, or data.")] = "html",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write (default: report-STUDY.FORMAT).")
    ] = None,
    pictures: Annotated[
        Literal["svg", "png"], typer.Option("--pictures", help="Format of the pictures beside the Markdown.")
    ] = "svg",
    project: ProjectOption = Path(),
) -> None:
    """Write a report: the result, what mattered, curves, samples, diffs and every run."""
    from hotlap.core.study_folder import ProjectFolder

    data = analysed(ProjectFolder(project.absolute()), study)
    path = write(data, output or project / f"report-{data.name}.{form}", form, f".{pictures}")
    typer.echo(f"wrote {path}")


def analysed(project: "ProjectFolder", study: str | None) -> "ReportData":
    """Return the data of a study's report with what its runs teach, or with the reason why they teach nothing yet."""
    from dataclasses import replace

    from hotlap.core.errors import ConfigError
    from hotlap.study.report_view import report_data
    from hotlap.study.subject import analysis_of, read_subject

    subject = read_subject(project, study)
    data = report_data(project, subject)
    try:
        found = analysis_of(subject)
    except ConfigError as error:
        return replace(data, no_analysis_because=str(error))
    return replace(data, analysis=found)


def write(data: "ReportData", path: Path, form: Format, suffix: str) -> Path:
    """Write a report in one of the forms; return where it lies. `suffix` is that of pictures."""
    import json

    from hotlap.core.files import write_atomic
    from hotlap.report.markdown_report import write_markdown
    from hotlap.report.page import write_page

    if form == "html":
        return write_page(data, path)
    if form == "md":
        return write_markdown(data, path, suffix)
    write_atomic(path, json.dumps(data.document(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path
