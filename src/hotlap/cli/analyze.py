"""`hotlap analyze`: which settings mattered, what goes with what, and what the runs cannot say.

hotlap analyze
hotlap analyze my-sweep --metric eval_loss
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotlap.cli.train import ProjectOption

if TYPE_CHECKING:
    from hotlap.analysis.whole import Analysis

BAR = 24
"""Characters of a share of 1."""
MOST_CORRELATIONS = 8


def analyze(
    study: Annotated[str | None, typer.Argument(help="Study or import (default: the study touched last).")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Analyse this figure of the runs.")] = None,
    maximize: Annotated[bool, typer.Option("--maximize", help="Of --metric more is better.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the forests and of the resampling.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: ProjectOption = Path(),
) -> None:
    """Say which settings mattered in a study's runs, or in imported ones, with intervals, and what cannot be said."""
    from hotlap.cli.screen import print_json
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.study.subject import analysis_of, read_subject

    subject = read_subject(ProjectFolder(project.absolute()), study)
    found = analysis_of(subject, metric, maximize=maximize, seed=seed)
    if json:
        print_json({"study": subject.name, **found.document()})
    else:
        typer.echo("\n".join(analysis_lines(subject.name, found)))


def analysis_lines(name: str, found: "Analysis") -> list[str]:
    """Return the analysis as lines: the paragraph, importance bars, correlations, the best config."""
    from hotlap.analysis.words import score_name
    from hotlap.cli.screen import bold
    from hotlap.runs.views import setting_text

    importances = found.importances
    lines = [
        bold(f"{name}: what {len(found.table.run_ids)} points say of {score_name(found.table.score_name)}"),
        "",
        found.words,
        "",
    ]
    if importances.parameters:
        lines += [f"importance ({importances.evaluator}, share of the variance, 90 % interval)", *_bars(found), ""]
    clear = [pair for pair in found.correlations.learned_pairs if pair.is_clear]
    if clear:
        lines.append(f"rank correlations whose 95 % interval excludes 0 ({found.correlations.source})")
        strongest = sorted(clear, key=lambda pair: -abs(pair.rho))[:MOST_CORRELATIONS]
        lines += [f"  {a} · {b}  {p.rho:+.2f} [{p.low:+.2f} to {p.high:+.2f}]" for p in strongest for a, b in [p.names]]
        lines.append("")
    if found.differences:
        lines.append("best config, against the baseline")
        lines += [f"  {one.key}: {setting_text(one.baseline)} → {setting_text(one.best)}" for one in found.differences]
        lines.append("")
    return [*lines, f"next: hotlap report {name}"]


def _bars(found: "Analysis") -> list[str]:
    parameters = found.importances.parameters
    width = max(len(one.parameter) for one in parameters)
    visible = {one.parameter for one in found.importances.visible}
    rows = []
    for one in parameters:
        bar = ("█" * round(one.share * BAR) or "▏").ljust(BAR)
        mark = "" if one.parameter in visible else "  not told from chance"
        rows.append(f"  {one.parameter.ljust(width)}  {bar} {one.share:.2f} [{one.low:.2f} to {one.high:.2f}]{mark}")
    return rows
