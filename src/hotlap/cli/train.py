"""`hotlap train`: one run of the built-in trainer, with live progress and a closing summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hotlap.cli.progress import LiveLine
    from hotlap.config.schema import RunConfig
    from hotlap.core.records import RunRecord
    from hotlap.core.run_folder import RunFolder

_POLL_SECONDS = 0.1

SettingOption = Annotated[list[str] | None, typer.Option("-s", "--set", help="Override a setting: key=value, dotted.")]
ProjectOption = Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap (default: here).")]
ConfigArgument = Annotated[Path, typer.Argument(help="Config file.", metavar="[CONFIG]")]


def train(
    config: ConfigArgument = Path("hotlap.yaml"),
    settings: SettingOption = None,
    project: ProjectOption = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Train once: until the targets hold, the schedule ends or the budget is spent."""
    from hotlap.config.load import load_config
    from hotlap.core.records import EXIT_CODES
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.prepare import prepare_data

    loaded = load_config(config, settings or [])
    folder = ProjectFolder(project.absolute()).create()
    prepare_data(folder, loaded)
    record, run_folder = run_training(loaded, folder.project, folder.runs_path, quiet=json)
    if json:
        from hotlap.cli.screen import print_json

        result = run_folder.read("result") or {}
        ending = {"outcome": record.outcome, "reason": record.reason}
        print_json({"run": record.run_id, **result, "schema": "hotlap/run/1", **ending})
    else:
        typer.echo(closing_summary(record, run_folder))
    raise typer.Exit(EXIT_CODES[record.outcome])


def run_training(
    config: "RunConfig", project: Path, runs: Path, *, quiet: bool = False
) -> tuple["RunRecord", "RunFolder"]:
    """Start a run, show it until it ends, and return its record; Ctrl-C ends it as interrupted."""
    import time

    from hotlap.cli.progress import LiveLine, TextFollower, progress_text
    from hotlap.config.load import config_text
    from hotlap.core.run_folder import RunFolder
    from hotlap.launch.local import LaunchFacts, LocalLauncher
    from hotlap.launch.locks import device_lock
    from hotlap.launch.system import SystemSampler
    from hotlap.runs.ingest import ingest
    from hotlap.study.study import device_name

    folder = RunFolder.create(runs)
    folder.write_config(config_text(config))
    line = LiveLine(on_terminal=False if quiet else None)
    limits = {f"{config.clock}_seconds": config.budget.run}
    facts = LaunchFacts(directory=project, seed=config.training.seed, limits=limits)
    with device_lock(device_name(), None if quiet else line.say):
        job = LocalLauncher().start(folder, facts)
        reader, log, points = folder.point_reader(), TextFollower(folder.stdout_path), list[dict[str, Any]]()
        with SystemSampler(folder, job.pid):
            while True:
                try:  # Ctrl-C may come at any place
                    if job.poll():
                        break
                    points.extend(reader.read_new())
                    _show(line, log.read_new(), progress_text(folder.run_id, config, points), quiet=quiet)
                    time.sleep(_POLL_SECONDS)
                except KeyboardInterrupt:
                    job.stop("interrupted", "stopped by the user")
    _show(line, log.read_new(), "", quiet=quiet)
    line.clear()
    record = ingest(folder)
    assert record is not None, f"{folder.path} has ended"
    return record, folder


def _show(line: "LiveLine", printed: list[str], progress: str, *, quiet: bool) -> None:
    if quiet:
        return
    for text in printed:
        line.say(text)
    if progress:
        line.show(progress)


def closing_summary(record: "RunRecord", folder: "RunFolder") -> str:
    """Return what a run ends with: the outcome, sparklines, both clocks, where the seconds went, what to do next."""
    from hotlap.cli.screen import sparkline
    from hotlap.core.durations import format_seconds

    mark = "✓" if record.outcome == "reached" else "✗"
    rows = [f"{mark} {record.outcome.replace('_', ' ')}: {record.reason}"]
    if record.time_to_target:
        train, wall = record.time_to_target["train"], record.time_to_target["wall"]
        rows.append(f"  time to target  {format_seconds(train)} (train clock) · {format_seconds(wall)} (wall clock)")
    points = folder.points()
    for name in ("train_loss", "eval_loss", "eval_byte_accuracy"):
        values = [float(point[name]) for point in points if name in point]
        if values:
            rows.append(f"  {name:<18} {sparkline(values, 40):<40} {values[-1]:.4g}")
    shown = ("setup", "steps", "evaluation", "saving")
    spent = " · ".join(f"{part} {format_seconds(record.seconds[part])}" for part in shown if part in record.seconds)
    rows.append(f"  seconds            {spent} · wall {format_seconds(record.wall_seconds)}")
    rows.append(f"  files {folder.path}   next: hotlap speedrun · hotlap runs show {record.run_id}")
    return "\n".join(rows)
