"""What a study looks like from outside: its summary and its journal, computed from the history alone."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hotlap.core.errors import MissingExtraError
from hotlap.core.records import History
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.journal import render_journal, write_journal
from hotlap.report.picture import draw_progress, picture_path, progress_info, shown_runs
from hotlap.report.sections import Notes
from hotlap.report.summary import CandidateFigures, NoiseFigures, StudySummary, summarize
from hotlap.runs.notes import read_notes
from hotlap.search.noise import (
    estimate,
    estimate_noise,
    expected_false_keeps,
    runs_needed,
    smallest_visible_effect,
)
from hotlap.study.study import Study, read_study

_EFFECTS = (0.01, 0.02, 0.05)


def view_study(project: ProjectFolder, name: str | None = None) -> tuple[History, StudySummary]:
    """Return history and summary of a study (default: the one touched last); raises StudyError when there is none."""
    _, history, protocol = read_study(project, name)
    return history, study_summary(history, protocol)


def study_summary(history: History, protocol: Mapping[str, Any]) -> StudySummary:
    """Return the summary with the judge's own figures."""
    noise = estimate_noise(history)
    changes = {proposal.number for proposal in history.proposals if proposal.role != "ablation"}
    tries = len(changes & {decision.proposal for decision in history.decisions})
    figures = NoiseFigures(
        sigma=noise.sigma,
        degrees_of_freedom=noise.degrees_of_freedom,
        smallest_visible_effect=smallest_visible_effect(noise),
        runs_needed={effect: runs_needed(noise, effect) for effect in _EFFECTS},
        expected_false_keeps=expected_false_keeps(noise, tries),
    )
    candidates = {number: _figures(history, number) for number in (0, *history.kept())}
    return summarize(history, protocol, figures, candidates)


def write_study_journal(study: Study) -> Path:
    """Write SPEEDRUN.md and, when a rung was added or the study ended, its picture; return the journal's path."""
    picture = picture_path(study.project, study.folder.name)
    rungs = study.history.kept()
    draws = rungs != study.drawn_rungs or bool(study.history.ended) or not picture.exists()
    study.drawn_rungs = rungs
    return write_journal_of(study.project, study.history, study.folder.protocol() or {}, draws=draws)


def write_journal_of(project: ProjectFolder, history: History, protocol: Mapping[str, Any], *, draws: bool) -> Path:
    """Write the journal of a history; with `draws` also its picture, where matplotlib is installed."""
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
    return write_journal(render_journal(summary, history, _notes(project), shown, missing), project)


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
    )


def _notes(project: ProjectFolder) -> Notes:
    by_run = defaultdict(list)
    for note in read_notes(project):
        by_run[note.run_id].append(note)
    return by_run
