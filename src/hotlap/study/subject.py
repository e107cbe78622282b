"""What an analysis or a report is about: a study, or runs that another program made, and what they teach.

subject = read_subject(project, "my-sweep")                # or "wandb@import"
analysis_of(subject).words
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final

from hotlap.analysis.table import LOG_SECONDS, Scores, metric_scores
from hotlap.analysis.whole import Analysis, analyse
from hotlap.analysis.words import Best
from hotlap.config.load import config_from_values
from hotlap.core.clock import ClockName
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.records import History, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.scores import FAILURES, TIME_TO_TARGET
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.imports import GROUP_SUFFIX
from hotlap.runs.ingest import ingest
from hotlap.runs.rows import StoredRun
from hotlap.runs.store import RunStore
from hotlap.search.score import score_candidates, yardstick_of
from hotlap.study.study import SWEEP_SCHEMA, read_study
from hotlap.study.sweep import stored_settings
from hotlap.study.sweep_plan import best_candidate

_NO_POINTS: Final = ("timing", "manual")
"""Roles of runs that are no point of a study's search."""
_LIKELY: Final = ("eval_loss", "value", "train_loss")
"""Figures that imported runs are compared by when nobody says which one."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Runs that belong together."""

    name: str
    history: History
    """Of imported runs it holds the runs alone."""
    protocol: Mapping[str, Any]
    imported: Mapping[str, StoredRun] = field(default_factory=dict)
    """Imported runs by id, as the index knows them; empty for a study."""


def read_subject(project: ProjectFolder, name: str | None = None) -> Subject:
    """Return a study or a group of imported runs (default: the study touched last, else the last import).

    Raises StudyError when there is none.
    """
    has_study = any(folder.protocol() is not None for folder in project.studies())
    groups = _groups(project) if (name or "").endswith(GROUP_SUFFIX) or (name is None and not has_study) else {}
    chosen = name or next(reversed(groups), None)
    if chosen is None or not chosen.endswith(GROUP_SUFFIX):
        config, history, protocol = read_study(project, chosen)
        return Subject(config.name, history, protocol)
    if chosen not in groups:
        known = f"there are: {', '.join(groups)}" if groups else "take some in with: hotlap import PATH"
        raise StudyError(f"no imported runs {chosen!r} in {project.path}; {known}")
    records = [ingest(RunFolder(project.runs_path / run.run_id)) for run in groups[chosen]]
    runs = tuple(record for record in records if record is not None)
    history = History(clock="train", base_config={}, runs=runs)
    return Subject(chosen, history, {}, {run.run_id: run for run in groups[chosen]})


def analysis_of(subject: Subject, metric: str | None = None, *, maximize: bool = False, seed: int = 0) -> Analysis:
    """Return the analysis of a subject's runs.

    By default a sweep is analysed by its own metric, a speedrun by the time to its targets, imported runs by the metric
    of `metric_of`. Raises ConfigError when no run has the metric.
    """
    if maximize and metric is None:
        raise ConfigError("--maximize says how to read --metric; name that, too")
    history, (chosen, is_maximized) = subject.history, metric_of(subject, metric, maximize=maximize)
    points = history.runs if subject.imported else tuple(_points(subject))
    scores = _scores(subject, points, chosen, is_maximized=is_maximized)
    best = _best(subject, points, scores.values) if metric in (None, _own_metric(subject)) else None
    keys, conditions = _varied(subject.protocol.get("space") or {})
    baseline = None if subject.imported else dict(history.base_config)
    return analyse(points, scores, baseline=baseline, keys=keys, conditions=conditions, best=best, seed=seed)


def _points(subject: Subject) -> Iterator[RunRecord]:
    """Yield one run for each point that was tried: its first, with the medians of all of its runs.

    Repetitions of a point tell nothing new of its settings, and the best are repeated most. The baseline of a sweep is
    no point of its space.
    """
    history = subject.history
    for number in range(1 if subject.protocol.get("space") else 0, len(history.proposals) + 1):
        runs = [
            run for run in history.runs_of(number) if not run.is_infrastructure_failure and run.role not in _NO_POINTS
        ]
        if runs:
            yield _merged(runs, history.clock)


def _merged(runs: Sequence[RunRecord], clock: ClockName) -> RunRecord:
    """Return the first of some runs of one config, with the median time and the median of every metric of them."""
    well = [run for run in runs if run.outcome not in FAILURES]
    told: dict[str, list[float]] = {}
    for run in well:
        for name, value in run.metrics.items():
            told.setdefault(name, []).append(value)
    middle = sorted(runs, key=lambda run: run.clock_to_target(clock))[(len(runs) - 1) // 2]
    metrics = {name: median(values) for name, values in told.items()}
    return replace(runs[0], outcome=(well or runs)[0].outcome, metrics=metrics, time_to_target=middle.time_to_target)


def _scores(subject: Subject, points: Sequence[RunRecord], metric: str, *, is_maximized: bool) -> Scores:
    """Return the score of each point by its run."""
    if metric == TIME_TO_TARGET:
        graded = score_candidates(subject.history, yardstick_of(subject.history))
        known = [run for run in points if run.candidate in graded]
        missed = {run.run_id for run in known if not graded[run.candidate].is_reached}
        return Scores(LOG_SECONDS, {run.run_id: graded[run.candidate].value for run in known}, missed)
    return metric_scores(points, metric, "maximize" if is_maximized else "minimize")


def _best(subject: Subject, points: Sequence[RunRecord], scores: Mapping[str, float]) -> Best | None:
    """Return the point that the study itself calls the best; None leaves it to the scores."""
    history, number = subject.history, subject.history.incumbent
    if subject.protocol.get("schema") == SWEEP_SCHEMA:
        config = config_from_values(subject.protocol["config"])
        number = best_candidate(history, stored_settings(config, subject.protocol)) or 0
    run = next((run for run in points if number and run.candidate == number and run.run_id in scores), None)
    return None if run is None else Best(run.run_id, scores[run.run_id], len(history.runs_of(number)))


def metric_of(subject: Subject, metric: str | None = None, *, maximize: bool = False) -> tuple[str, bool]:
    """Return the figure that a subject's runs are compared by, and whether more of it is better.

    Imported runs go by what their source optimised (an Optuna study says so), else by eval_loss, value or train_loss,
    the first that any of them has. Raises ConfigError where none of these is there.
    """
    protocol, own = subject.protocol, _own_metric(subject)
    directions = _directions(subject)
    if own is None and len(directions) == 1:
        own = next(iter(directions))
    if own is None and metric is None:
        told = {name for run in subject.history.runs for name in run.metrics}
        own = next((name for name in _LIKELY if name in told), None)
        if own is None:
            listed = ", ".join(sorted(told)) or "none"
            raise ConfigError(f"name the figure that {subject.name} is about with --metric; its runs have: {listed}")
    if metric is None or metric == own:
        goal = protocol.get("goal") or directions.get(str(own), "minimize")
        return str(own), goal == "maximize" or (maximize and metric is not None)
    return metric, maximize or directions.get(metric) == "maximize"


def _own_metric(subject: Subject) -> str | None:
    """Return what a study is about; imported runs do not say it."""
    return subject.protocol.get("metric") or (None if subject.imported else TIME_TO_TARGET)


def _directions(subject: Subject) -> Mapping[str, str]:
    """Return what the source of imported runs says of its figures: minimize or maximize."""
    for run in subject.imported.values():
        told = (run.imported.get("facts") or {}).get("directions")
        if isinstance(told, Mapping):
            return told
    return {}


def _groups(project: ProjectFolder) -> dict[str, list[StoredRun]]:
    """Return the imported runs by what they are called together, the group with the newest run last."""
    if not project.path.is_dir():
        return {}
    groups: dict[str, list[StoredRun]] = {}
    with RunStore(project) as store:
        store.refresh()
        for run in store.runs():
            if run.study.endswith(GROUP_SUFFIX):
                groups[run.study] = [*groups.pop(run.study, []), run]
    return groups


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
