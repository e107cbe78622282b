"""An ablation's history as the figures that people see, and as its journal."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hotlap.analysis.ablation import Course, Evaluation, compare_variants
from hotlap.config.load import config_from_values
from hotlap.core.errors import StudyError
from hotlap.core.records import History, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.scores import FAILURES
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.ablation import AblationSummary, VariantFacts, render_ablation
from hotlap.report.journal import write_journal
from hotlap.report.text import count_text
from hotlap.runs.views import setting_text
from hotlap.study.ablate import AblationPlan, stored_plan
from hotlap.study.study import ABLATION_SCHEMA, Study, found_study, read_study

Points = Sequence[Mapping[str, Any]]


def view_ablation(project: ProjectFolder, name: str | None = None) -> AblationSummary | None:
    """Return where an ablation stands (default: the study touched last); None where that is none, or not there."""
    try:
        folder = found_study(project, name)
    except StudyError:
        return None
    if (folder.protocol() or {}).get("schema") != ABLATION_SCHEMA:
        return None
    _, history, protocol = read_study(project, folder.name)
    return ablation_summary(project, stored_plan(folder, protocol), history)


def ablation_of(project: ProjectFolder, history: History, protocol: Mapping[str, Any]) -> AblationSummary:
    """Return where the ablation of a history and its protocol stands."""
    folder = project.study(config_from_values(protocol["config"]).name)
    return ablation_summary(project, stored_plan(folder, protocol), history)


def write_ablation_journal(study: Study) -> Path:
    """Write the journal of an ablation, `ablation-NAME.md` beside the config; return where.

    A file of this name that hotlap did not write is left alone. Raises StorageError when it cannot be written.
    """
    summary = ablation_of(study.project, study.history, study.folder.protocol() or {})
    return write_journal(render_ablation(summary), study.project, journal_name(summary.name))


def journal_name(name: str) -> str:
    """Return the file name of an ablation's journal."""
    return f"ablation-{name}.md"


def ablation_summary(project: ProjectFolder, plan: AblationPlan, history: History) -> AblationSummary:
    """Return the figures of an ablation; the curves are read from the folders of its runs."""
    courses = [
        course_of(run, RunFolder(project.runs_path / run.run_id).points(), plan)
        for run in history.runs
        if not run.is_infrastructure_failure
    ]
    variants = tuple(
        VariantFacts(
            number=number,
            title=title,
            changes=tuple((key, setting_text(value)) for key, value in patch.items()),
            outcomes=dict(Counter(run.outcome for run in history.runs_of(number))),
        )
        for number, (title, patch) in enumerate(zip(plan.titles, plan.patches, strict=True))
    )
    environment: Mapping[str, Any] = next((run.environment for run in history.runs if run.environment), {})
    protocol = plan.protocol
    return AblationSummary(
        name=plan.folder.name,
        clock=plan.config.clock,
        task=plan.subject,
        metric=plan.metric,
        targets=plan.config.targets,
        keys=tuple(protocol["keys"]),
        variants=variants,
        seeds=plan.seeds,
        at_step=plan.at_step,
        quantities=compare_variants(
            courses, len(variants), has_targets=bool(plan.config.targets), at_step=plan.at_step
        ),
        runs=tuple(_row(history, run, plan) for run in history.runs),
        num_counted=len(courses),
        run_seconds=plan.config.budget.run,
        seconds_spent=history.seconds_spent,
        seconds_total=plan.config.budget.total,
        machine=_machine(protocol, environment),
        ended=history.ended,
    )


def course_of(run: RunRecord, points: Points, plan: AblationPlan) -> Course:
    """Return a run as a comparison sees it; one that broke has no value, however far it came."""
    clock = plan.config.clock
    told = [(point.get("step"), point.get(f"{clock}_seconds"), point.get(plan.metric)) for point in points]
    evaluations = tuple(
        Evaluation(int(step), float(seconds), float(loss))
        for step, seconds, loss in told
        if step is not None and seconds is not None and loss is not None and math.isfinite(loss)
    )
    return Course(
        variant=run.candidate,
        seed=run.seed,
        run_id=run.run_id,
        evaluations=evaluations,
        steps=run.steps,
        seconds=run.reading(clock),
        tokens_per_second=run.tokens / run.train_seconds if run.tokens and run.train_seconds > 0 else math.nan,
        seconds_to_target=run.clock_to_target(clock) if plan.config.targets else math.nan,
        failure=run.outcome.replace("_", " ") if run.outcome in FAILURES else "",
    )


def _row(history: History, run: RunRecord, plan: AblationPlan) -> tuple[str, str, int, str, float, int, float, str]:
    """Return run, variant, seed, outcome, last loss, steps, reading of the clock, and why it was repeated or broke."""
    note = run.contaminated or (run.reason if run.outcome in (*FAILURES, "lost", "interrupted") else "")
    return (
        run.run_id,
        plan.titles[run.candidate],
        run.seed,
        f"{run.outcome}, repeated" if run.is_infrastructure_failure else run.outcome.replace("_", " "),
        float(run.metrics.get(plan.metric, math.nan)),
        run.steps,
        run.reading(plan.config.clock),
        (note.strip().splitlines() or [""])[0],
    )


def _machine(protocol: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Return what the runs were timed on."""
    device = environment.get("device_name") or protocol.get("processor") or protocol.get("device")
    threads = count_text(int(environment.get("threads") or protocol.get("threads") or 1), "thread")
    return f"{device}, {threads}; torch {protocol.get('torch')}, hotlap {protocol.get('hotlap')}"
