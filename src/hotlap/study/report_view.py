"""A study as the data of its report: from its history, the points of the runs that are drawn, and their samples."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hotlap.analysis.ablation import Figures
from hotlap.config.load import config_from_values
from hotlap.core.files import read_json_lines
from hotlap.core.records import History, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.scores import TIME_TO_TARGET
from hotlap.core.study_folder import ProjectFolder
from hotlap.core.targets import parse_target
from hotlap.report.ablation import (
    ablation_facts,
    ablation_headline,
    comparison_grid,
    overview_grid,
)
from hotlap.report.ablation import (
    figures_text as variant_text,
)
from hotlap.report.header import figures_text, guards_facts, headline, measuring_facts, result_facts
from hotlap.report.journal import LADDER_HEADERS, ladder_cells
from hotlap.report.picture import progress_info, shown_runs
from hotlap.report.report_data import (
    Cell,
    Cells,
    Change,
    Place,
    ReportCurve,
    ReportData,
    SamplePair,
    plain_cell,
    thinned,
)
from hotlap.report.summary import LadderRow
from hotlap.report.sweep_summary import HEADERS, PointFigures, SweepSummary, sweep_facts, sweep_headline, sweep_rows
from hotlap.report.text import seconds_text
from hotlap.runs.samples import last_samples
from hotlap.runs.views import config_differences, flatten, setting_text
from hotlap.search.sweep_score import final_value
from hotlap.study.ablate_view import ablation_of
from hotlap.study.imported_report import imported_report
from hotlap.study.study import ABLATION_SCHEMA, SWEEP_SCHEMA
from hotlap.study.subject import Subject
from hotlap.study.sweep import stored_settings
from hotlap.study.sweep_view import sweep_summary
from hotlap.study.view import study_summary

MOST_POINTS: Final = 300
"""Points of a drawn curve."""
MOST_CURVES: Final = 40
NAMED_CURVES: Final = 4
"""Best points of a sweep whose curves have names."""
SHOWN_PLACES: Final = 10
SECONDS_TO_TARGET: Final = "seconds to target"
MOST_SAMPLES: Final = 12

Points = Sequence[Mapping[str, Any]]


def report_data(project: ProjectFolder, subject: Subject) -> ReportData:
    """Return the data of a report but for its analysis."""
    history, protocol = subject.history, subject.protocol
    if subject.imported:
        return imported_report(project, subject)
    if protocol.get("schema") == SWEEP_SCHEMA:
        return sweep_report(project, history, protocol)
    if protocol.get("schema") == ABLATION_SCHEMA:
        return ablation_report(project, history, protocol)
    return speedrun_report(project, history, protocol)


def speedrun_report(project: ProjectFolder, history: History, protocol: Mapping[str, Any]) -> ReportData:
    """Return the data of a speedrun's report."""
    summary = study_summary(history, protocol)
    shown = shown_runs(history)
    points = {run.run_id: _points(project, run) for run in shown}
    info = progress_info(summary, history, points)
    told = [run for run in shown if _pairs(points[run.run_id], info.metric, f"{history.clock}_seconds")]
    curves = [
        _curve(
            run.run_id,
            curve.label,
            "baseline" if curve.number == 0 else "best" if curve.is_incumbent else "rung",
            list(zip(curve.seconds, curve.losses, strict=True)),
        )
        for run, curve in zip(told, info.curves, strict=True)
    ]
    drawn = {run.candidate: run for run in shown}
    best = summary.incumbent_number
    number = best or None
    kept = set(history.kept())
    numbers = [*reversed(history.kept()), *(p.number for p in reversed(history.proposals) if p.number not in kept)]
    return ReportData(
        name=summary.name,
        kind="speedrun",
        headline=headline(summary),
        facts=tuple(result_facts(summary)),
        measured=(*measuring_facts(summary), *guards_facts(history)),
        place_table=Cells(tuple(LADDER_HEADERS), tuple(tuple(ladder_cells(row)) for row in summary.ladder)),
        places=tuple(_rung(row) for row in summary.ladder),
        value_name=SECONDS_TO_TARGET,
        metric=info.metric,
        axis=f"{history.clock} clock, seconds",
        target=info.target,
        curves=tuple(curves),
        **_against_baseline(project, history, number, drawn.get(best) if best else None),
        best_name=f"#{best} {history.proposal(best).title}" if best else "",
        changes=_changes(history, numbers),
        runs=_runs_table(history, info.metric, _patched_keys(history)),
    )


def sweep_report(project: ProjectFolder, history: History, protocol: Mapping[str, Any]) -> ReportData:
    """Return the data of a sweep's report."""
    config = config_from_values(protocol["config"])
    settings = stored_settings(config, protocol)
    space = protocol.get("space") or {}
    summary = sweep_summary(config.name, str(space.get("method", "unknown")), history, settings)
    is_timed = settings.metric == TIME_TO_TARGET
    metric = config.main_metric if is_timed else settings.metric
    targets = [
        target.value for text in config.targets if (target := parse_target(text, is_any_metric=True)).metric == metric
    ]
    best = next((point for point in summary.points if point.number == summary.best), None)
    first = next(iter(history.runs_of(best.number)), None) if best else None
    numbers = [point.number for point in summary.points if point.number]
    keys = [str(parameter["key"]) for parameter in space.get("parameters") or ()] or _patched_keys(history)
    places = tuple(_point(point) for point in summary.points[:SHOWN_PLACES])
    return ReportData(
        name=summary.name,
        kind="sweep",
        headline=sweep_headline(summary),
        facts=tuple(sweep_facts(summary)),
        measured=(),
        place_table=Cells(HEADERS, tuple(sweep_rows(summary, SHOWN_PLACES))),
        places=(*places, *([_point(summary.baseline)] if summary.baseline else [])),
        value_name=SECONDS_TO_TARGET if is_timed else metric,
        metric=metric,
        axis=f"{history.clock} clock, seconds",
        target=min(targets, default=None) if is_timed else settings.target,
        curves=_sweep_curves(project, history, summary, metric),
        **_against_baseline(project, history, summary.best, first),
        best_name=f"{best.run_id}: {best.title}" if best else "",
        changes=_changes(history, numbers),
        runs=_runs_table(history, metric, keys),
    )


def ablation_report(project: ProjectFolder, history: History, protocol: Mapping[str, Any]) -> ReportData:
    """Return the data of an ablation's report; its places are the variants by their loss at equal steps, best first."""
    summary = ablation_of(project, history, protocol)
    overview, comparisons = overview_grid(summary), comparison_grid(summary)
    steps = next((quantity for quantity in summary.quantities if quantity.key == "steps"), None)
    told = sorted(steps.figures, key=lambda each: (math.isnan(each.mean), each.mean)) if steps else []
    places = [
        Place(summary.variants[each.variant].title, each.mean, *_spread(each), variant_text(steps, each))
        for each in told
        if steps is not None
    ]
    better = {each.variant for each in steps.comparisons if each.is_distinguishable and each.is_better} if steps else ()
    best = told[0].variant if told and told[0].variant in better else 0
    runs = [run for number in range(len(summary.variants)) for run in history.runs_of(number)[:1]]
    clock = f"{history.clock}_seconds"
    curves = [(run, _pairs(_points(project, run), summary.metric, clock)) for run in runs[:MOST_CURVES]]
    return ReportData(
        name=summary.name,
        kind="ablation",
        headline=ablation_headline(summary),
        facts=tuple(ablation_facts(summary)),
        measured=(),
        place_table=Cells(overview.headers, overview.rows),
        more_tables=(("Differences", Cells(comparisons.headers, comparisons.rows)),) if comparisons.rows else (),
        places=tuple(places),
        value_name=overview.headers[2] if steps else summary.metric,
        metric=summary.metric,
        axis=f"{history.clock} clock, seconds",
        target=None,
        curves=tuple(
            _curve(
                run.run_id,
                summary.variants[run.candidate].title,
                "best" if run.candidate == best and best else "rung" if run.candidate else "baseline",
                pairs,
            )
            for run, pairs in curves
            if pairs
        ),
        **_against_baseline(project, history, best or None, next(iter(history.runs_of(best)), None) if best else None),
        best_name=summary.variants[best].title if best else "",
        changes=_changes(history, [variant.number for variant in summary.variants[1:]]),
        runs=_runs_table(history, summary.metric, _patched_keys(history)),
    )


def _spread(figures: Figures) -> tuple[float, float]:
    """Return the least and the largest value of a variant."""
    values = [value for _, value in figures.values]
    return min(values, default=math.nan), max(values, default=math.nan)


def _rung(row: LadderRow) -> Place:
    figures = row.figures
    label = f"#{row.number} {row.title}" if row.number else row.title
    text = seconds_text(figures.median_seconds) if figures.runs else figures_text(figures)
    return Place(label, figures.median_seconds, figures.low, figures.high, text)


def _point(point: PointFigures) -> Place:
    label = f"{point.run_id} {point.title}"
    text = f"{point.value:.4g}" if math.isfinite(point.value) else point.outcome.replace("_", " ")
    return Place(label, point.value, point.low, point.high, text)


def _sweep_curves(
    project: ProjectFolder, history: History, summary: SweepSummary, metric: str
) -> tuple[ReportCurve, ...]:
    """Return the baseline's curve, those of the best points by name, and some more; of each its first run."""
    chosen = [("baseline", "baseline", summary.baseline)] if summary.baseline else []
    for rank, point in enumerate(summary.points[: MOST_CURVES - 1]):
        is_best = point.number == summary.best
        kind = "best" if is_best else "rung" if rank < NAMED_CURVES else "other"
        chosen.append((kind, point.run_id if kind != "other" else "", point))
    runs = {run.run_id: run for run in history.runs}
    curves = []
    for kind, label, point in chosen:
        pairs = _pairs(_points(project, runs[point.run_id]), metric, f"{history.clock}_seconds")
        if pairs:
            curves.append(_curve(point.run_id, label, kind, pairs))
    return tuple(curves)


def _curve(run_id: str, label: str, kind: Any, pairs: Sequence[tuple[float, float]]) -> ReportCurve:
    shown = thinned(pairs, MOST_POINTS)
    return ReportCurve(run_id, label, kind, tuple(x for x, _ in shown), tuple(y for _, y in shown))


def _pairs(points: Points, metric: str, clock: str) -> list[tuple[float, float]]:
    """Return clock and metric of the points that tell both; logarithms are taken of the clock."""
    told = [(float(point[clock]), float(point[metric])) for point in points if clock in point and metric in point]
    return [(x, y) for x, y in told if math.isfinite(x) and math.isfinite(y) and x > 0]


def _points(project: ProjectFolder, run: RunRecord) -> Points:
    return RunFolder(project.runs_path / run.run_id).points()


def _against_baseline(
    project: ProjectFolder, history: History, number: int | None, best: RunRecord | None
) -> dict[str, Any]:
    """Return what the best candidate changes on the baseline, and the samples of both."""
    baseline = next(iter(history.runs_of(0)), None)
    before, after = (_last_samples(project, run) for run in (baseline, best))
    prompts = list(dict.fromkeys([*before, *after]))[:MOST_SAMPLES]
    return {
        "differences": _differences(history, number) if number is not None else (),
        "sample_runs": tuple(run.run_id if run and told else "" for run, told in ((baseline, before), (best, after))),
        "samples": tuple(_pair(prompt, before.get(prompt), after.get(prompt)) for prompt in prompts),
    }


def _pair(prompt: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> SamplePair:
    expected = str((before or after or {}).get("expected", ""))
    texts = [None if sample is None else str(sample.get("generated", "")) for sample in (before, after)]
    return SamplePair(prompt, expected, *texts)


def _last_samples(project: ProjectFolder, run: RunRecord | None) -> dict[str, Mapping[str, Any]]:
    """Return a run's last samples by their prompts."""
    return last_samples(read_json_lines(RunFolder(project.runs_path / run.run_id).samples_path) if run else [])


def _differences(history: History, number: int) -> tuple[tuple[str, str, str], ...]:
    base = config_from_values(history.base_config).model_dump(mode="json")
    changed = config_from_values(history.base_config, history.config_of(number)).model_dump(mode="json")
    return tuple(
        (key, setting_text(old), setting_text(new)) for key, (old, new) in config_differences([base, changed]).items()
    )


def _changes(history: History, numbers: Iterable[int]) -> tuple[Change, ...]:
    found = []
    for number in numbers:
        proposal, decision = history.proposal(number), history.verdict(number)
        outcome = next((run.outcome.replace("_", " ") for run in history.runs_of(number)), "not run yet")
        verdict = f"{decision.verdict}: {decision.reason.strip().splitlines()[0]}" if decision else outcome
        found.append(Change(number, proposal.title, verdict, proposal.diff))
    return tuple(found)


def _patched_keys(history: History) -> list[str]:
    return list(dict.fromkeys(key for proposal in history.proposals for key in proposal.patch))


def _runs_table(history: History, metric: str, keys: Sequence[str]) -> Cells:
    """Return every run with its figures and its values of the keys that were varied."""
    headers = (
        *("run", "role", "change", "outcome", metric, SECONDS_TO_TARGET, "train seconds", "wall seconds", "steps"),
        *("tokens", "seed", "train_loss", "note"),
        *keys,
    )
    return Cells(headers, tuple(_run_row(history, run, metric, keys) for run in history.runs))


def _run_row(history: History, run: RunRecord, metric: str, keys: Sequence[str]) -> tuple[Cell, ...]:
    config = flatten(run.config)
    title = history.proposal(run.candidate).title if 0 < run.candidate <= len(history.proposals) else "baseline"
    note = run.contaminated or run.reason
    return (
        *(run.run_id, run.role, title, run.outcome.replace("_", " ")),
        _known(final_value(run, metric)),
        _known(run.clock_to_target(history.clock)),
        *(_known(run.train_seconds), _known(run.wall_seconds), run.steps, run.tokens, run.seed),
        _known(run.metrics.get("train_loss")),
        note.strip().splitlines()[0] if note.strip() else "",
        *(plain_cell(config.get(key)) for key in keys),
    )


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
