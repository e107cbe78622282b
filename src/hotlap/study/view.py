"""What a study looks like from outside: its summary and its journal, computed from the history alone."""

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotlap.core.errors import MissingExtraError, StudyError
from hotlap.core.records import History
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.core.targets import parse_target
from hotlap.report.ablation import AblationSummary, render_ablation
from hotlap.report.journal import render_journal, write_journal
from hotlap.report.picture import draw_progress, picture_path, progress_info, shown_runs
from hotlap.report.sections import Notes
from hotlap.report.summary import CandidateFigures, NoiseFigures, StudySummary, summarize
from hotlap.report.sweep_summary import SweepSummary
from hotlap.runs.notes import read_notes
from hotlap.search.calibration import calibrate
from hotlap.search.drift import clock_noise, drifts
from hotlap.search.goal import least_seconds
from hotlap.search.noise import (
    estimate,
    estimate_noise,
    expected_false_keeps_of,
    runs_needed,
    smallest_visible_effect,
)
from hotlap.search.race import Recordings
from hotlap.search.systems import smallest_visible_timing
from hotlap.study.ablate_view import ablation_of, view_ablation
from hotlap.study.racing import racing_figures
from hotlap.study.study import ABLATION_SCHEMA, SWEEP_SCHEMA, Study, found_study, read_study
from hotlap.study.sweep import stored_settings
from hotlap.study.sweep_view import sweep_summary

_EFFECTS = (0.01, 0.02, 0.05)


def view_study(project: ProjectFolder, name: str | None = None) -> tuple[History, StudySummary]:
    """Return history and summary of a study (default: the one touched last); raises StudyError when there is none."""
    _, history, protocol = read_study(project, name)
    return history, study_summary(history, protocol)


def read_summary(
    project: ProjectFolder, name: str | None = None
) -> tuple[str, History, StudySummary | SweepSummary | AblationSummary]:
    """Return name, history and summary of a study (default: the one touched last), each as what it is.

    Raises StudyError when there is none.
    """
    config, history, protocol = read_study(project, name)
    if protocol.get("schema") == ABLATION_SCHEMA:
        return config.name, history, ablation_of(project, history, protocol)
    if protocol.get("schema") != SWEEP_SCHEMA:
        return config.name, history, study_summary(history, protocol)
    method = str((protocol.get("space") or {}).get("method", "unknown"))
    return config.name, history, sweep_summary(config.name, method, history, stored_settings(config, protocol))


def study_summary(history: History, protocol: Mapping[str, Any]) -> StudySummary:
    """Return the summary with the judge's own figures."""
    noise = estimate_noise(history)
    clock, calibration = clock_noise(history), calibrate(history)
    figures = NoiseFigures(
        sigma=noise.sigma,
        degrees_of_freedom=noise.degrees_of_freedom,
        smallest_visible_effect=smallest_visible_effect(noise),
        runs_needed={effect: runs_needed(noise, effect) for effect in _EFFECTS},
        expected_false_keeps=expected_false_keeps_of(history),
        clock_sigma=clock.sigma if clock.degrees_of_freedom else math.nan,
        smallest_visible_timing=smallest_visible_timing(history),
        metric=calibration.metric if calibration else "",
        metric_at_seconds=calibration.reading_seconds if calibration else math.nan,
        metric_mean=calibration.mean if calibration else math.nan,
        metric_sigma=calibration.sigma if calibration else math.nan,
        metric_slope=calibration.slope_per_second if calibration else math.nan,
        drifts=tuple(drift.ratio for drift in drifts(history)),
    )
    candidates = {number: _figures(history, number) for number in (0, *history.kept())}
    return summarize(history, protocol, figures, candidates)


def write_study_journal(study: Study) -> Path:
    """Write SPEEDRUN.md and, when a rung was added or the study ended, its picture; return the journal's path."""
    picture = picture_path(study.project, study.folder.name)
    rungs = study.history.kept()
    draws = rungs != study.drawn_rungs or bool(study.history.ended) or not picture.exists()
    study.drawn_rungs = rungs
    protocol = study.folder.protocol() or {}
    return write_journal_of(study.project, study.history, protocol, draws=draws, recordings=study.recordings)


def write_journal_of(
    project: ProjectFolder,
    history: History,
    protocol: Mapping[str, Any],
    *,
    draws: bool,
    recordings: Recordings | None = None,
) -> Path:
    """Write the journal of a history; with `draws` also its picture, where matplotlib is installed.

    `recordings` are what an open study has read already.
    """
    summary = study_summary(history, protocol)
    picture = picture_path(project, summary.name)
    missing = ""
    if draws:
        points = {run.run_id: RunFolder(project.runs_path / run.run_id).points() for run in shown_runs(history)}
        try:
            draw_progress(progress_info(summary, history, points), picture)
        except MissingExtraError as error:
            missing = str(error)
    shown = picture.relative_to(project.project).as_posix() if picture.exists() else None
    return write_journal(_journal_text(project, history, summary, shown, missing, recordings), project)


def journal_of(project: ProjectFolder, name: str | None = None) -> str:
    """Return the journal of a study as it would be written now (default: the one touched last).

    Raises StudyError when there is none, and for a sweep, of which no journal is kept.
    """
    folder = found_study(project, name)
    if (folder.protocol() or {}).get("schema") == SWEEP_SCHEMA:
        raise StudyError(f"{folder.name!r} is a sweep, and journals are of speedruns; see: hotlap status {folder.name}")
    if (ablation := view_ablation(project, folder.name)) is not None:
        return render_ablation(ablation)
    history, summary = view_study(project, folder.name)
    picture = picture_path(project, summary.name)
    shown = picture.relative_to(project.project).as_posix() if picture.exists() else None
    return _journal_text(project, history, summary, shown, "" if shown else "none was drawn yet", None)


def _journal_text(
    project: ProjectFolder,
    history: History,
    summary: StudySummary,
    picture: str | None,
    no_picture_because: str,
    recordings: Recordings | None,
) -> str:
    recordings = recordings or Recordings(lambda run_id: RunFolder(project.runs_path / run_id).points())
    targets = [parse_target(text, is_any_metric=True) for text in summary.targets]
    racing = racing_figures(history, recordings, targets)
    return render_journal(summary, history, _notes(project), picture, no_picture_because, racing)


def _figures(history: History, candidate: int) -> CandidateFigures:
    found = estimate(history, candidate)
    return CandidateFigures(
        median_seconds=found.median_seconds,
        low=found.low_seconds,
        high=found.high_seconds,
        reached=found.reached,
        runs=found.runs,
        steps=found.steps,
        seconds_per_step=found.seconds_per_step,
        least_seconds=least_seconds(history, candidate),
    )


def _notes(project: ProjectFolder) -> Notes:
    by_run = defaultdict(list)
    for note in read_notes(project):
        by_run[note.run_id].append(note)
    return by_run
