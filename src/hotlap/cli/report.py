"""`hotlap report`: a study as one HTML page that opens from disk, as Markdown with pictures, or as JSON.

hotlap report
hotlap report my-sweep -o my-sweep.md
hotlap report bench
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hotlap.cli.train import ProjectOption

if TYPE_CHECKING:
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.report.report_data import ReportData
    from hotlap.study.subject import Subject

Format = Literal["html", "md", "json"]


def report(
    study: Annotated[
        str | None, typer.Argument(help="Study, import or bench (default: the study touched last).")
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="One page, Markdown with pictures, or data (default: as -o ends, else html).",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write (default: report-STUDY.FORMAT).")
    ] = None,
    pictures: Annotated[
        Literal["svg", "png"], typer.Option("--pictures", help="Format of the pictures beside the Markdown.")
    ] = "svg",
    project: ProjectOption = Path(),
    json: Annotated[
        bool, typer.Option("--json", help="Say as JSON what was written (for data: --format json).")
    ] = False,
) -> None:
    """Write a report: the result, what mattered, curves, samples, diffs and every run.

    A report of hotlap's is written anew, any other file is left alone.
    """
    from hotlap.bench.report import write_bench_report
    from hotlap.cli.screen import print_json
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.report.report_file import refuse_foreign, report_form, write_report
    from hotlap.study.apply_bench import find_bench, is_bench
    from hotlap.study.subject import read_subject

    chosen = report_form(form, output)
    folder = ProjectFolder(project.absolute())
    if study is not None and is_bench(study) and folder.study(study).protocol() is None:
        bench = find_bench(folder, study)
        name = bench.bench_id
        written = write_bench_report(bench, output or project / f"report-{name}.{chosen}", chosen, f".{pictures}")
    else:
        subject = read_subject(folder, study)
        name, path = subject.name, output or project / f"report-{subject.name}.{chosen}"
        refuse_foreign(path, chosen)  # before the work, too
        written = write_report(analysed(folder, subject), path, chosen, f".{pictures}")
    if json:
        print_json({"schema": "hotlap/written/1", "subject": name, "format": chosen, "file": str(written)})
    else:
        typer.echo(f"wrote {written}")


def analysed(project: "ProjectFolder", subject: "Subject") -> "ReportData":
    """Return the data of a report with what benches and runs teach, or why the runs teach nothing yet."""
    from dataclasses import replace

    from hotlap.bench.report import bench_tables
    from hotlap.core.errors import ConfigError
    from hotlap.study.report_view import report_data
    from hotlap.study.subject import analysis_of

    data = report_data(project, subject)
    data = replace(data, more_tables=(*data.more_tables, *bench_tables(project, data.name)))
    if data.kind == "ablation":
        return replace(data, no_analysis_because="An ablation compares its runs seed by seed: see the differences.")
    try:
        found = analysis_of(subject)
    except ConfigError as error:
        return replace(data, no_analysis_because=str(error))
    return replace(data, analysis=found)
