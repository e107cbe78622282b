"""`hotlap ablate`: variants of a config with the same seeds, in turn; which differences are more than luck?

hotlap ablate hotlap.yaml -s model.positions=learned,rope
hotlap ablate hotlap.yaml -s training.optim=adamw_torch_fused,muon -s training.learning_rate=1e-3,3e-3 --seeds 5
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotlap.cli.train import DEFAULT_CONFIG, ConfigArgument, ProjectOption

if TYPE_CHECKING:
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.report.ablation import AblationSummary
    from hotlap.study.ablate import AblationPlan
    from hotlap.study.study import Study

VariedOption = Annotated[
    list[str] | None,
    typer.Option("-s", "--set", help="Values to compare, key=a,b (the first is the reference), or one for all."),
]


def ablate(
    config: ConfigArgument = DEFAULT_CONFIG,
    settings: VariedOption = None,
    project: ProjectOption = Path(),
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each variant, with the same seeds.")] = 3,
    name: Annotated[str | None, typer.Option("--name", help="Name (default: the config's and the keys').")] = None,
    at_step: Annotated[
        int | None, typer.Option("--at-step", min=1, help="Compare losses there (default: the last step of all runs).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Compare variants of a config seed by seed: loss at equal steps and at equal clock, and what is more than luck."""
    from hotlap.cli.ablation_screen import ablation_lines
    from hotlap.cli.screen import print_json
    from hotlap.cli.train import tell_trackers
    from hotlap.config.ablation import load_ablation
    from hotlap.core.errors import RunFailedError
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.trackers import tracker_notices
    from hotlap.study.ablate import COMPLETE, NO_ROOM, plan_ablation
    from hotlap.study.ablate_view import ablation_summary

    notices: list[str] = []
    ablation = load_ablation(config, settings or [], notices)
    for notice in dict.fromkeys([*notices, *tracker_notices(ablation.variants[0].config)]):
        typer.echo(f"note: {notice}", err=True)
    folder = ProjectFolder(project.absolute()).create()
    plan = plan_ablation(folder, ablation, seeds=seeds, name=name, at_step=at_step)
    study, reason = _drive(folder, plan, quiet=json)
    summary = ablation_summary(folder, plan, study.history)
    if json:
        print_json(summary.document())
    else:
        told = [] if summary.ended else [f"ended: {reason}"]  # else it is among the facts
        following = _next_line(summary, is_complete=reason == COMPLETE)
        typer.echo("\n".join(["", *ablation_lines(summary), "", *told, following]))
    tell_trackers(study.new_run_folders)
    if reason == "interrupted":
        raise typer.Exit(130)
    if reason != COMPLETE and not reason.startswith(NO_ROOM):
        raise typer.Exit(RunFailedError.exit_code)
    raise typer.Exit(0 if summary.quantities else 3)


def _drive(folder: "ProjectFolder", plan: "AblationPlan", *, quiet: bool) -> "tuple[Study, str]":
    """Carry the ablation out; return it and why it ended."""
    from hotlap.cli.replay import Silence
    from hotlap.cli.speedrun import StudyScreen
    from hotlap.launch.locks import study_lock
    from hotlap.launch.orphans import reap_orphans
    from hotlap.launch.prepare import prepare_data
    from hotlap.study.ablate import open_ablation, run_ablation
    from hotlap.study.ablate_view import write_ablation_journal

    screen = Silence() if quiet else StudyScreen()
    with study_lock(plan.folder.create()):
        for run_id in reap_orphans(folder):
            screen.says(f"{run_id} had lost its driver and was stopped")
        screen.says(f"{plan.config.subject}: {prepare_data(folder, plan.config)}")
        for line in opening_lines(plan):
            screen.says(line)
        study = open_ablation(folder, plan)
        if study.history.runs:
            screen.says(f"going on with {plan.folder.name}: {len(study.history.runs)} runs so far")
        reason = run_ablation(study, plan, screen, write_ablation_journal)
        screen.says(f"\njournal {write_ablation_journal(study)}")
    return study, reason


def opening_lines(plan: "AblationPlan") -> list[str]:
    """Return what is about to run, and which settings are set aside for it."""
    from hotlap.core.durations import format_seconds
    from hotlap.report.text import count_text

    longest = f"each at most {format_seconds(plan.settings.run_seconds)} on the {plan.config.clock} clock"
    seeds = count_text(plan.seeds, "seed")
    lines = [f"ablation {plan.folder.name}: {plan.num_runs} runs, {seeds} in turn, {longest}"]
    lines += [f"  {'reference' if not number else f'variant {number}'}: {t}" for number, t in enumerate(plan.titles)]
    if plan.num_runs * plan.settings.run_seconds > plan.settings.total_seconds:
        lines.append(f"  budget.total ends it after {format_seconds(plan.settings.total_seconds)} at the latest")
    if plan.idle:
        lines.append(f"not used in an ablation, whose runs are all evaluated alike: {', '.join(plan.idle)}")
    return lines


def _next_line(summary: "AblationSummary", *, is_complete: bool) -> str:
    """Return what to type next."""
    if not is_complete:
        return "next: the same command goes on where it was"
    more = f"--seeds {summary.seeds + 2} tells smaller differences apart"
    return f"next: hotlap report {summary.name} --format md · hotlap runs ls --study {summary.name} · {more}"
