"""A sweep's history as the figures that people see."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hotlap.config.load import config_from_values
from hotlap.config.sweep_matching import value_in
from hotlap.core.errors import StudyError
from hotlap.core.records import History
from hotlap.core.scores import TIME_TO_TARGET
from hotlap.core.study_folder import ProjectFolder
from hotlap.core.targets import main_metric
from hotlap.report.sweep_summary import PointFigures, SweepSummary
from hotlap.runs.views import setting_text
from hotlap.search.sweep_score import candidate_value, run_value
from hotlap.study.study import SWEEP_SCHEMA, found_study, read_study
from hotlap.study.sweep import stored_settings
from hotlap.study.sweep_plan import SweepSettings, ranking


def view_sweep(project: ProjectFolder, name: str | None = None) -> SweepSummary | None:
    """Return where a sweep stands (default: the study touched last); None where that is no sweep, or not there."""
    try:
        folder = found_study(project, name)
    except StudyError:
        return None
    if (folder.protocol() or {}).get("schema") != SWEEP_SCHEMA:
        return None
    config, history, protocol = read_study(project, folder.name)
    method = str((protocol.get("space") or {}).get("method", "unknown"))
    return sweep_summary(folder.name, method, history, stored_settings(config, protocol))


def sweep_summary(
    name: str, method: str, history: History, settings: SweepSettings, seconds_spent: float | None = None
) -> SweepSummary:
    """Return where a sweep stands; `seconds_spent` is its age now, by default that of its last fact."""
    ranked = ranking(history, settings)
    ran = [number for number in range(1, len(history.proposals) + 1) if history.runs_of(number)]
    best = next(iter(ranked), None)
    return SweepSummary(
        name=name,
        metric=settings.metric,
        goal=settings.goal,
        method=method,
        baseline=_figures(history, settings, 0) if history.runs_of(0) else None,
        points=tuple(
            _figures(history, settings, number)
            for number in [*ranked, *(number for number in ran if number not in ranked)]
        ),
        best=best,
        changes=_changes(history, best) if best is not None else (),
        outcomes=dict(Counter(run.outcome for run in history.runs)),
        seconds_spent=history.seconds_spent if seconds_spent is None else seconds_spent,
        seconds_total=settings.total_seconds,
        run_cap=settings.run_cap,
        ended=history.ended,
    )


def _figures(history: History, settings: SweepSettings, number: int) -> PointFigures:
    runs = history.runs_of(number)
    first = runs[0]
    known = [value for run in runs if not math.isnan(value := run_value(run, settings.metric, history))]
    curve_metric = main_metric(history.base_config) if settings.metric == TIME_TO_TARGET else settings.metric
    return PointFigures(
        number=number,
        run_id=first.run_id,
        title=history.proposal(number).title if number else "baseline",
        outcome=first.outcome,
        runs=len(runs),
        value=candidate_value(history, number, settings.metric, settings.goal),
        low=min(known, default=math.nan),
        high=max(known, default=math.nan),
        curve=tuple(float(evaluation[curve_metric]) for evaluation in first.evaluations if curve_metric in evaluation),
    )


def _changes(history: History, number: int) -> tuple[tuple[str, str, str], ...]:
    """Return what the best point changes on the baseline."""
    base = config_from_values(history.base_config).model_dump(mode="json")
    patch: Mapping[str, Any] = history.config_of(number)
    changed = config_from_values(history.base_config, patch).model_dump(mode="json")
    pairs = ((key, value_in(base, key), value_in(changed, key)) for key in patch)
    return tuple((key, setting_text(before), setting_text(after)) for key, before, after in pairs if before != after)
