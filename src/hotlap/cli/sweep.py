"""`hotlap sweep`: search a space for the best value of a metric; a pasted wandb sweep file works as it is.

hotlap sweep sweep.yaml -s model.hidden_size=64 -s budget.run=60s
hotlap sweep hotlap.yaml -s search.run_cap=40 --slots 2
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import ConfigArgument, ProjectOption, SettingOption

if TYPE_CHECKING:
    from hotlap.config.sweep import SweepConfig
    from hotlap.report.sweep_summary import SweepSummary
    from hotlap.search.rungs import RungRules
    from hotlap.study.sweep_loop import Suggest
    from hotlap.study.sweep_plan import SweepSettings


def sweep(
    config: ConfigArgument = Path("hotlap.yaml"),
    settings: SettingOption = None,
    project: ProjectOption = Path(),
    slots: Annotated[int, typer.Option("--slots", min=1, help="Runs at the same time, on cores of their own.")] = 1,
    top: Annotated[int, typer.Option("--top", min=0, help="The best so many run again with other seeds.")] = 3,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each of them, the first one counted.")] = 3,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run what failed once more.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Search a space of settings: the best config, what mattered, and how sure that is."""
    from hotlap.cli.screen import print_json
    from hotlap.config.sweep import load_sweep
    from hotlap.core.errors import ConfigError

    space, notices = load_sweep(config, settings or [])
    for notice in dict.fromkeys(notices):
        typer.echo(f"note: {notice}", err=True)
    if space.base is None:
        raise ConfigError(f"{config} starts a command of its own; hotlap sweep runs its own trainer so far")
    found, reason = drive(space, project, slots=slots, top=top, seeds=seeds, retry_failed=retry_failed, quiet=json)
    if json:
        print_json(found.document())
    raise typer.Exit(130 if reason == "interrupted" else 0 if found.best is not None else 3)


def drive(
    space: "SweepConfig", project: Path, *, slots: int, top: int, seeds: int, retry_failed: bool, quiet: bool = False
) -> tuple["SweepSummary", str]:
    """Run or go on with a sweep; return where it stands, and why it stopped."""
    from hotlap.cli.sweep_screen import SweepScreen
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.locks import study_lock
    from hotlap.launch.orphans import reap_orphans
    from hotlap.launch.prepare import prepare_data
    from hotlap.report.text import count_text
    from hotlap.search.sweep_sampler import suggest
    from hotlap.search.sweep_score import TIME_TO_TARGET
    from hotlap.study.sweep import open_sweep, retry_failures
    from hotlap.study.sweep_loop import SweepDriver

    assert space.base is not None, "a command of somebody else's was refused"
    folder = ProjectFolder(project.absolute()).create()
    settings = settings_of(space, slots=slots, top=top, seeds=seeds)
    suggest(space, [], [], 0, settings.seed_base)  # a space without a point is told of before anything runs
    with study_lock(folder.study(space.base.name).create()):
        screen = SweepScreen(space.method, settings, quiet=quiet)
        for run_id in reap_orphans(folder):
            screen.says(f"{run_id} had lost its driver and was stopped")
        screen.says(f"task {space.base.task.name}: {prepare_data(folder, space.base)}")
        study = open_sweep(folder, space.base, settings, space_values(space))
        if space.base.targets and settings.metric != TIME_TO_TARGET:
            screen.says(f"not used in a sweep for {settings.metric}: targets; runs go to their end")
        if study.history.runs:
            screen.says(f"going on with {space.base.name}: {len(study.history.runs)} runs so far")
        if retry_failed:
            screen.says(f"tried again: {count_text(retry_failures(study), 'point')} that failed")
        reason = SweepDriver(study, settings, suggester(space, settings), rung_rules(space, settings), screen).run()
        summary = screen.finish(study, reason)
    return summary, reason


def settings_of(space: "SweepConfig", *, slots: int, top: int, seeds: int) -> "SweepSettings":
    """Return what a sweep may spend, from its config and the command line."""
    from hotlap.study.sweep_plan import SweepSettings

    base = space.base
    assert base is not None
    return SweepSettings(
        metric=space.metric,
        goal=space.goal,
        target=space.target,
        clock=base.clock,
        run_cap=space.run_cap,
        total_seconds=base.budget.total,
        run_seconds=base.budget.run,
        slots=slots,
        top=top,
        seeds=seeds,
        seed_base=base.training.seed,
    )


def suggester(space: "SweepConfig", settings: "SweepSettings") -> "Suggest":
    """Return the function that proposes the next point of a sweep from its history."""
    from collections.abc import Sequence

    from hotlap.core.records import History, Proposal
    from hotlap.search.sweep_sampler import Told, suggest
    from hotlap.search.sweep_score import sweep_scores
    from hotlap.study.sweep import point_proposal
    from hotlap.study.sweep_plan import Start

    def next_point(history: History, running: Sequence[Start]) -> Proposal | None:
        scores = sweep_scores(history, settings.metric, settings.goal)
        told = [Told(history.config_of(number), score) for number, score in scores.items()]
        pending = [history.config_of(start.candidate) for start in running if start.candidate not in scores]
        point = suggest(space, told, pending, len(history.proposals), settings.seed_base)
        return None if point is None else point_proposal(history, point, space.method)

    return next_point


def rung_rules(space: "SweepConfig", settings: "SweepSettings") -> "RungRules | None":
    """Return when runs are stopped early, None where the sweep does not ask for it."""
    from hotlap.search.rungs import RungRules
    from hotlap.search.sweep_score import TIME_TO_TARGET

    early = space.early_terminate
    if early is None:
        return None
    is_timed = settings.metric == TIME_TO_TARGET
    return RungRules(
        clock=settings.clock,
        metric="eval_loss" if is_timed else settings.metric,
        is_minimized=is_timed or settings.goal == "minimize",
        eta=early.eta,
        readings=tuple(share * settings.run_seconds for share in early.shares),
        limit_seconds=settings.run_seconds,
        is_strict=early.is_strict,
    )


def space_values(space: "SweepConfig") -> dict[str, Any]:
    """Return what may vary as plain values, as it is kept with the sweep."""
    from dataclasses import asdict

    known: dict[str, Any] = {
        "method": space.method,
        "constraints": list(space.constraints),
        "parameters": [_known(asdict(parameter)) for parameter in space.parameters],
    }
    if space.early_terminate is not None:
        known["early_terminate"] = asdict(space.early_terminate)
    return known


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a parameter; 0 is a bound like any other."""
    return {name: value for name, value in values.items() if value is not None and value != () and value != {}}
