"""`hotlap analyze`: which settings mattered, what goes with what, and what the runs cannot say.

hotlap analyze
hotlap analyze my-sweep --metric eval_loss
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import ProjectOption

if TYPE_CHECKING:
    from hotlap.analysis.whole import Analysis
    from hotlap.core.records import History

BAR = 24
"""Characters of a share of 1."""
MOST_CORRELATIONS = 8


def analyze(
    study: Annotated[str | None, typer.Argument(help="Study (default: the one touched last).")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Analyse this figure of the runs.")] = None,
    maximize: Annotated[bool, typer.Option("--maximize", help="Of --metric more is better.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the forests and of the resampling.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: ProjectOption = Path(),
) -> None:
    """Say which settings mattered in a study's runs, with intervals, and what cannot be said."""
    from hotlap.cli.screen import print_json
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.study.study import read_study

    config, history, protocol = read_study(ProjectFolder(project.absolute()), study)
    found = analysis_of(history, protocol, metric, maximize=maximize, seed=seed)
    if json:
        print_json({"study": config.name, **found.document()})
    else:
        typer.echo("\n".join(analysis_lines(config.name, found)))


def analysis_of(
    history: "History", protocol: Mapping[str, Any], metric: str | None = None, *, maximize: bool = False, seed: int = 0
) -> "Analysis":
    """Return the analysis of a study's runs.

    By default a sweep is analysed by its own metric, a speedrun by the time to its targets.
    """
    from hotlap.analysis.table import LOG_SECONDS, metric_scores
    from hotlap.analysis.whole import analyse
    from hotlap.core.errors import ConfigError
    from hotlap.search.score import score_run, yardstick_of
    from hotlap.search.sweep_score import TIME_TO_TARGET

    judged = [run for run in history.runs if not run.is_infrastructure_failure and run.role not in ("timing", "manual")]
    if maximize and metric is None:
        raise ConfigError("--maximize says how to read --metric; name that, too")
    chosen = metric or protocol.get("metric") or TIME_TO_TARGET
    is_own = metric is None or metric == protocol.get("metric")
    is_maximized = protocol.get("goal") == "maximize" if is_own else maximize
    if chosen == TIME_TO_TARGET:
        yardstick = yardstick_of(history)
        scores = {run.run_id: score_run(run, history, yardstick).value for run in judged}
        name = LOG_SECONDS
    else:
        name, scores = metric_scores(judged, chosen, "maximize" if is_maximized else "minimize")
    keys, conditions = _varied(protocol.get("space") or {})
    return analyse(
        judged, scores, name, baseline=dict(history.base_config), keys=keys, conditions=conditions, seed=seed
    )


def _varied(space: Mapping[str, Any]) -> tuple[list[str] | None, dict[str, dict[str, tuple[Any, ...]]]]:
    """Return the keys that a sweep varies, and when each of them counts; None for whatever differs."""
    parameters = space.get("parameters") or ()
    keys = [str(parameter["key"]) for parameter in parameters]
    conditions = {
        str(parameter["key"]): {other: tuple(values) for other, values in parameter["when"].items()}
        for parameter in parameters
        if parameter.get("when")
    }
    return keys or None, conditions


def analysis_lines(name: str, found: "Analysis") -> list[str]:
    """Return the analysis as lines: the paragraph, importance bars, correlations, the best config."""
    from hotlap.cli.screen import bold

    importances = found.importances
    lines = [bold(f"{name}: what {len(found.table.run_ids)} runs say of {found.table.score_name}"), "", found.words, ""]
    if importances.parameters:
        lines += [f"importance ({importances.evaluator}, share of the variance, 90 % interval)", *_bars(found), ""]
    chosen = {column.name for column in found.table.parameters}  # between two of them the sampler shows, not the runs
    clear = [pair for pair in found.correlations.pairs if pair.is_clear and not chosen.issuperset(pair.names)]
    if clear:
        lines.append(f"rank correlations whose 95 % interval excludes 0 ({found.correlations.source})")
        strongest = sorted(clear, key=lambda pair: -abs(pair.rho))[:MOST_CORRELATIONS]
        lines += [f"  {a} · {b}  {p.rho:+.2f} [{p.low:+.2f} to {p.high:+.2f}]" for p in strongest for a, b in [p.names]]
        lines.append("")
    if found.differences:
        lines.append("best config, against the baseline")
        lines += [f"  {one.key}: {one.baseline} → {one.best}" for one in found.differences]
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
