"""A sweep's history as the figures that people see."""

import math
from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any

from hotlap.config.load import config_from_values, get_dotted
from hotlap.core.records import History
from hotlap.report.sweep_summary import PointFigures, SweepSummary
from hotlap.search.sweep_score import TIME_TO_TARGET, final_value
from hotlap.study.sweep_plan import SweepSettings, best_candidate, ranking


def sweep_summary(
    name: str, method: str, history: History, settings: SweepSettings, seconds_spent: float | None = None
) -> SweepSummary:
    """Return where a sweep stands; `seconds_spent` is its age now, by default that of its last fact."""
    ranked = ranking(history, settings)
    ran = [number for number in range(1, len(history.proposals) + 1) if history.runs_of(number)]
    best = best_candidate(history, settings)
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
    if settings.metric == TIME_TO_TARGET:
        values = [run.clock_to_target(history.clock) for run in runs]
    else:
        values = [final_value(run, settings.metric) for run in runs]
    known = [value for value in values if math.isfinite(value)]
    curve_metric = "eval_loss" if settings.metric == TIME_TO_TARGET else settings.metric
    return PointFigures(
        number=number,
        run_id=first.run_id,
        title=history.proposal(number).title if number else "baseline",
        outcome=first.outcome,
        runs=len(runs),
        value=median(known) if known else math.nan,
        low=min(known, default=math.nan),
        high=max(known, default=math.nan),
        curve=tuple(float(evaluation[curve_metric]) for evaluation in first.evaluations if curve_metric in evaluation),
    )


def _changes(history: History, number: int) -> tuple[tuple[str, str, str], ...]:
    """Return what the best point changes on the baseline."""
    base = config_from_values(history.base_config).model_dump(mode="json")
    patch: Mapping[str, Any] = history.config_of(number)
    changed = config_from_values(history.base_config, patch).model_dump(mode="json")
    pairs = ((key, get_dotted(base, key), get_dotted(changed, key)) for key in patch)
    return tuple((key, _text(before), _text(after)) for key, before, after in pairs if before != after)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
