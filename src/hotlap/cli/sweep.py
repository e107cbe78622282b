"""`hotlap sweep`: search a space for the best value of a metric; a wandb sweep file without a program works as it is.

hotlap sweep sweep.yaml -s model.hidden_size=64 -s budget.run=60s
hotlap sweep hotlap.yaml -s search.run_cap=40 --slots 2
"""

from pathlib import Path
from typing import Annotated

import typer

from hotlap.cli.train import DEFAULT_CONFIG, ConfigArgument, ProjectOption, SettingOption


def sweep(
    config: ConfigArgument = DEFAULT_CONFIG,
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
    from hotlap.cli.sweep_screen import SweepScreen
    from hotlap.cli.train import tell_trackers
    from hotlap.config.sweep import load_sweep
    from hotlap.core.errors import ConfigError, RunFailedError
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.trackers import tracker_notices
    from hotlap.study.sweep_drive import drive_sweep, settings_of

    space, notices = load_sweep(config, settings or [])
    if space.base is not None:
        notices = [*notices, *tracker_notices(space.base)]
    for notice in dict.fromkeys(notices):
        typer.echo(f"note: {notice}", err=True)
    if space.base is None:
        raise ConfigError(
            f"{config} starts a program of its own, which hotlap sweep does not run; remove program and command to "
            "sweep hotlap's own training"
        )
    folder = ProjectFolder(project.absolute()).create()
    limits = settings_of(space, slots=slots, top=top, seeds=seeds)
    screen = SweepScreen(space.method, limits, quiet=json)
    study, end = drive_sweep(space, folder, limits, screen, retry_failed=retry_failed)
    found = screen.finish(study, end.reason)
    if json:
        print_json(found.document())
    tell_trackers(study.new_run_folders)
    ended = 0 if found.best is not None else 3
    raise typer.Exit({"end": ended, "interrupted": 130, "machine": RunFailedError.exit_code}[end.cause])
