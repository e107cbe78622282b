"""`hotlap status`: where a study stands, in the words of SPEEDRUN.md's first lines; a sweep in those of its summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hotlap.report.summary import StudySummary


def status(
    name: Annotated[str | None, typer.Argument(help="Study (default: the one touched last).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap/.")] = Path(),
) -> None:
    """Say where a study stands.

    Baseline, best time, noise, tries, budget and the ladder: the facts at the top of SPEEDRUN.md. Of a sweep: its best
    points; of an ablation: its differences.
    """
    from hotlap.cli.ablation_screen import ablation_lines
    from hotlap.cli.screen import print_json
    from hotlap.cli.sweep_screen import next_line, summary_lines
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.study.ablate_view import view_ablation
    from hotlap.study.sweep_view import view_sweep
    from hotlap.study.view import view_study

    folder = ProjectFolder(project.absolute())
    if (sweep := view_sweep(folder, name)) is not None:
        document, lines = sweep.document(), [*summary_lines(sweep), "", next_line(sweep)]
    elif (ablation := view_ablation(folder, name)) is not None:
        document, lines = ablation.document(), ablation_lines(ablation)
    else:
        _, summary = view_study(folder, name)
        document, lines = summary.document(), status_lines(summary)
    if as_json:
        print_json(document)
    else:
        typer.echo("\n".join(lines))


def status_lines(summary: "StudySummary") -> list[str]:
    """Return the summary as lines: the result, the facts, the ladder, and what to type next."""
    from hotlap.cli.screen import bold, table_lines
    from hotlap.report.header import header_facts, headline
    from hotlap.report.journal import LADDER_HEADERS, ladder_cells

    facts = header_facts(summary)
    width = max(len(label) for label, _ in facts)
    ladder = table_lines(LADDER_HEADERS, [ladder_cells(row) for row in summary.ladder], left=2)
    lines = [bold(f"{summary.name}  {headline(summary)}"), ""]
    lines += [f"  {label.ljust(width)}  {text}" for label, text in facts]
    lines += ["", *(f"  {line}" for line in ladder), ""]
    following = "hotlap runs compare @baseline @best" if summary.incumbent_number else "hotlap runs ls"
    return [*lines, f"next: {following} · hotlap speedrun goes on" if not summary.ended else f"next: {following}"]
