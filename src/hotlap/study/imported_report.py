"""Runs that another program made as the data of their report: no clock of hotlap's, no baseline, no ladder."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hotlap.core.errors import ConfigError
from hotlap.core.records import RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.scores import FAILURES
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.report_data import Cells, Place, ReportCurve, ReportData, plain_cell, thinned
from hotlap.report.text import count_text
from hotlap.runs.views import config_differences, flatten, setting_text
from hotlap.study.subject import Subject, metric_of

SHOWN: Final = 10
NAMED: Final = 4
MOST_CURVES: Final = 40
MOST_POINTS: Final = 300


def imported_report(project: ProjectFolder, subject: Subject) -> ReportData:
    """Return the data of the report on imported runs but for its analysis."""
    metric, is_maximized = _metric(subject)
    ranked = _ranked(subject, metric, is_maximized=is_maximized)
    best = ranked[0] if ranked else None
    found = f"best {metric} {best.metrics[metric]:.4g} ({_label(subject, best)})" if best else f"no {metric} was told"
    keys = _varied_keys(subject.history.runs)
    shown = [
        (str(rank), run.run_id, _name(subject, run), _outcome(run), run.metrics[metric])
        for rank, run in enumerate(ranked[:SHOWN], start=1)
    ]
    return ReportData(
        name=subject.name,
        kind="import",
        headline=f"{subject.name}: {found}, {count_text(len(subject.history.runs), 'imported run')}",
        facts=tuple(_facts(subject, metric, is_maximized=is_maximized)),
        measured=(("Clock", "None of hotlap's: another program made these runs, so none of them is a record."),),
        place_table=Cells(("rank", "run", "name", "outcome", metric), tuple(shown)),
        places=tuple(_place(subject, run, metric) for run in ranked[:SHOWN]),
        value_name=metric,
        metric=metric,
        axis="steps",
        target=None,
        curves=_curves(project, ranked, metric),
        sample_runs=("", ""),
        samples=(),
        best_name=f"Settings of {_label(subject, best)}" if best else "",
        differences=tuple((key, "–", setting_text(flatten(best.config).get(key))) for key in keys) if best else (),
        changes=(),
        runs=_runs_table(subject, metric, keys),
    )


def _metric(subject: Subject) -> tuple[str, bool]:
    try:
        return metric_of(subject)
    except ConfigError:  # nobody said what these runs are about; the analysis says so
        return "eval_loss", False


def _facts(subject: Subject, metric: str, *, is_maximized: bool) -> list[tuple[str, str]]:
    sources = {
        f"{run.imported.get('source', '')} ({run.imported.get('kind', '')})" for run in subject.imported.values()
    }
    outcomes = Counter(_outcome(run) for run in subject.history.runs)
    return [
        ("Metric", f"{metric}, to {'maximize' if is_maximized else 'minimize'}"),
        ("Runs", ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())),
        ("Taken from", "; ".join(sorted(sources))),
    ]


def _ranked(subject: Subject, metric: str, *, is_maximized: bool) -> list[RunRecord]:
    """Return the runs that told the metric and did not fail, best first, as the analysis ranks them."""
    well = [run for run in subject.history.runs if run.outcome not in FAILURES]
    told = [run for run in well if _is_finite(run.metrics.get(metric))]
    return sorted(told, key=lambda run: -run.metrics[metric] if is_maximized else run.metrics[metric])


def _place(subject: Subject, run: RunRecord, metric: str) -> Place:
    value = float(run.metrics[metric])
    return Place(_label(subject, run), value, math.nan, math.nan, f"{value:.4g}")


def _curves(project: ProjectFolder, ranked: Sequence[RunRecord], metric: str) -> tuple[ReportCurve, ...]:
    """Return the metric of the best runs against their steps, the first few by name."""
    curves = []
    for rank, run in enumerate(ranked[:MOST_CURVES]):
        points = RunFolder(project.runs_path / run.run_id).points()
        pairs = [(float(p["step"]), float(p[metric])) for p in points if _is_finite(p.get(metric)) and p["step"] > 0]
        if pairs:
            shown = thinned(pairs, MOST_POINTS)
            label = run.run_id if rank < NAMED else ""
            steps, values = tuple(step for step, _ in shown), tuple(value for _, value in shown)
            kind: Any = "best" if rank == 0 else "rung" if label else "other"
            curves.append(ReportCurve(run.run_id, label, kind, steps, values))
    return tuple(curves)


def _runs_table(subject: Subject, metric: str, keys: Sequence[str]) -> Cells:
    """Return every run with all of its metrics and the settings that differ."""
    runs = subject.history.runs
    metrics = list(dict.fromkeys([metric, *(name for run in runs for name in run.metrics)]))
    rows = []
    for run in runs:
        config = flatten(run.config)
        figures = [value if _is_finite(value := run.metrics.get(name)) else None for name in metrics]
        head = (run.run_id, _name(subject, run), _outcome(run), run.steps)
        rows.append((*head, *figures, *(plain_cell(config.get(key)) for key in keys)))
    return Cells(("run", "name", "outcome", "steps", *metrics, *keys), tuple(rows))


def _varied_keys(runs: Sequence[RunRecord]) -> list[str]:
    """Return the settings in which runs differ, in the order in which they first come."""
    return list(config_differences([run.config for run in runs]))


def _label(subject: Subject, run: RunRecord) -> str:
    name = _name(subject, run)
    return f"{run.run_id} {name}" if name else run.run_id


def _name(subject: Subject, run: RunRecord) -> str:
    facts: Mapping[str, Any] = subject.imported[run.run_id].imported
    return str(facts.get("name") or "")


def _outcome(run: RunRecord) -> str:
    return "complete" if run.outcome == "missed" else run.outcome.replace("_", " ")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
