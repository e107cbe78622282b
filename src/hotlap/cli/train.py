"""`hotlap train`: one run of the built-in trainer, with live progress and a closing summary.

hotlap train hotlap.yaml -s training.learning_rate=1e-3
hotlap train --resume r0007 -s training.max_steps=2000
hotlap train hotlap.yaml --plot-schedule
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hotlap.cli.progress import LiveLine
    from hotlap.config.schema import RunConfig
    from hotlap.core.records import RunRecord
    from hotlap.core.run_folder import RunFolder
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.local import LaunchFacts
    from hotlap.launch.resume import ResumePlan

DEFAULT_CONFIG = Path("hotlap.yaml")

_POLL_SECONDS = 0.1
_RESUMABLE = ("interrupted", "lost", "crashed", "out_of_memory")

SettingOption = Annotated[list[str] | None, typer.Option("-s", "--set", help="Override a setting: key=value, dotted.")]
ProjectOption = Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap (default: here).")]
ConfigArgument = Annotated[Path, typer.Argument(help="Config file.", metavar="CONFIG")]
WordArgument = Annotated[str | None, typer.Argument(help="Config file (default: hotlap.yaml).", metavar="CONFIG")]
RunArgument = Annotated[str | None, typer.Argument(help="With --resume: r0007, r7, @last.", metavar="RUN")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with RUN, or with the last run that can go on.")]
PlotOption = Annotated[bool, typer.Option("--plot-schedule", help="Draw the learning rate; train nothing.")]


def train(
    config: WordArgument = None,
    run: RunArgument = None,
    settings: SettingOption = None,
    project: ProjectOption = Path(),
    resume: ResumeOption = False,
    plot_schedule: PlotOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Train once: until the targets hold, the schedule ends or the budget is spent."""
    from hotlap.core.errors import ConfigError
    from hotlap.core.records import EXIT_CODES
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.prepare import prepare_data

    if resume and plot_schedule:
        raise ConfigError(
            "--plot-schedule draws a config, such as: hotlap train .hotlap/runs/r0007/config.yaml --plot-schedule"
        )
    path, name = config_and_run([word for word in (config, run) if word], is_resume=resume)
    folder = ProjectFolder(project.absolute())
    if resume:
        record, run_folder = resume_training(folder, name, path, settings or [], quiet=json)
    else:
        loaded = load_with_notices(path or DEFAULT_CONFIG, settings or [])
        if plot_schedule:
            draw_learning_rate(loaded, folder.project)
            return
        prepared = prepare_data(folder.create(), loaded)
        if not json:
            typer.echo(f"{loaded.subject}: {prepared}")
        record, run_folder = run_training(loaded, folder.project, folder.runs_path, quiet=json)
    if json:
        _print_result(record, run_folder)
    else:
        typer.echo(closing_summary(record, run_folder))
    tell_trackers([run_folder])
    raise typer.Exit(EXIT_CODES[record.outcome])


def tell_trackers(folders: "Sequence[RunFolder]") -> None:
    """Say which trackers have not mirrored these runs to their end, once all of them are done."""
    from hotlap.launch.trackers import settled_lines

    def say(text: str) -> None:
        typer.echo(f"note: {text}", err=True)

    for line in settled_lines(folders, say):
        say(line)


def config_and_run(words: Sequence[str], *, is_resume: bool) -> tuple[Path | None, str | None]:
    """Tell config and run apart among the words of the command line; only --resume takes a run.

    Raises ConfigError when there are too many of either.
    """
    from hotlap.core.errors import ConfigError

    runs = [word for word in words if is_resume and re.fullmatch(r"@\w+|r?\d+", word)]
    configs = [Path(word) for word in words if word not in runs]
    if len(runs) > 1 or len(configs) > 1:
        raise ConfigError(f"cannot read {' '.join(words)!r}: expected at most one config file, and with --resume a run")
    return configs[0] if configs else None, runs[0] if runs else None


def load_with_notices(path: Path, settings: Sequence[str]) -> "RunConfig":
    """Load a config; what was taken in another way than it was written is told once, on stderr."""
    from hotlap.config.load import load_config
    from hotlap.launch.trackers import tracker_notices

    notices: list[str] = []
    config = load_config(path, settings, notices)
    for notice in dict.fromkeys([*notices, *tracker_notices(config)]):
        typer.echo(f"note: {notice}", err=True)
    return config


def run_training(
    config: "RunConfig", project: Path, runs: Path, *, quiet: bool = False, facts: "LaunchFacts | None" = None
) -> tuple["RunRecord", "RunFolder"]:
    """Start a run, show it until it ends, and return its record; Ctrl-C ends it as interrupted.

    `facts` say with which seed and limits it is launched, where these are not those of the config.
    """
    from hotlap.config.load import config_text
    from hotlap.core.run_folder import RunFolder

    with held_devices(config, quiet=quiet):
        folder = RunFolder.create(runs)
        folder.write_config(config_text(config), config.model_dump(mode="json"))
        return _follow(folder, config, facts or launch_facts(config, project), quiet=quiet), folder


def resume_training(
    project: "ProjectFolder", run: str | None, config: Path | None, settings: Sequence[str], *, quiet: bool = False
) -> tuple["RunRecord", "RunFolder"]:
    """Go on with a run, by its own config or a changed one, as `run_training` starts one.

    Raises ConfigError when it cannot go on.
    """
    from hotlap.config.load import config_text
    from hotlap.launch.prepare import prepare_data
    from hotlap.launch.resume import plan_resume

    is_changed = config is not None or bool(settings)
    folder = _chosen_run(project, run, is_changed=is_changed)
    changed = load_with_notices(config or folder.config_path, settings) if is_changed else None
    plan = plan_resume(folder, changed)  # a refusal comes now, not after waiting for the device
    prepare_data(project, plan.config)
    with held_devices(plan.config, quiet=quiet):
        plan = plan_resume(folder, changed)  # somebody else may have gone on with it meanwhile
        _tell_plan(folder, plan)
        folder.begin_attempt(config_text(plan.config))
        folder.drop_points_after(plan.step)
        facts = launch_facts(plan.config, project.project, plan)
        return _follow(folder, plan.config, facts, quiet=quiet), folder


def _chosen_run(project: "ProjectFolder", name: str | None, *, is_changed: bool) -> "RunFolder":
    from hotlap.core.run_folder import RunFolder
    from hotlap.launch.resume import last_resumable
    from hotlap.runs.store import RunStore

    if name is None:
        return last_resumable(project.runs_path, is_changed=is_changed)
    with RunStore(project) as store:
        store.refresh()
        return RunFolder(project.runs_path / store.get(name).run_id)


def _tell_plan(folder: "RunFolder", plan: "ResumePlan") -> None:
    lost = f"; the {plan.num_lost_steps} steps after it are taken again" if plan.num_lost_steps else ""
    for text in (f"{folder.run_id} goes on from step {plan.step}{lost}", *plan.differences):
        typer.echo(f"resume: {text}", err=True)


@contextmanager
def held_devices(config: "RunConfig", *, quiet: bool) -> Iterator[None]:
    """Hold the devices that a run computes on."""
    from hotlap.launch.devices import devices_notice, run_devices
    from hotlap.launch.locks import device_lock

    devices = run_devices(config.devices, use_cpu=config.training.use_cpu)
    if notice := devices_notice(config.devices, devices):
        typer.echo(f"note: {notice}", err=True)
    with device_lock(devices, None if quiet else typer.echo):
        yield


def launch_facts(config: "RunConfig", project: Path, plan: "ResumePlan | None" = None) -> "LaunchFacts":
    """Return what a run of a config is started with, or what it goes on with by a plan."""
    from hotlap.launch.local import LaunchFacts

    return LaunchFacts(
        directory=project,
        seed=config.seed,
        limits={f"{config.clock}_seconds": config.budget.run},
        devices=config.devices,
        resume=plan.checkpoint if plan else "",
        wall_before_seconds=plan.wall_before_seconds if plan else 0.0,
    )


def _follow(folder: "RunFolder", config: "RunConfig", facts: "LaunchFacts", *, quiet: bool) -> "RunRecord":
    """Start a run in its folder, show it until it ends, and return its record."""
    import time

    from hotlap.cli.progress import LiveLine, TextFollower, progress_text
    from hotlap.launch.local import LocalLauncher
    from hotlap.launch.measure import stop_for_user
    from hotlap.launch.system import SystemSampler
    from hotlap.runs.ingest import ingest

    line = LiveLine(on_terminal=False if quiet else None)
    log, points = TextFollower(folder.stdout_path), list[dict[str, Any]]()
    log.read_new()  # what an earlier attempt printed has been shown
    job = LocalLauncher().start(folder, facts)
    reader = folder.point_reader()
    with SystemSampler(folder, job.pid):
        while True:
            try:  # Ctrl-C may come at any place
                if job.poll():
                    break
                points.extend(reader.read_new())
                _show(line, log.read_new(), progress_text(folder.run_id, config, points), quiet=quiet)
                time.sleep(_POLL_SECONDS)
            except KeyboardInterrupt:
                stop_for_user(job)
    _show(line, log.read_new(), "", quiet=quiet)
    line.clear()
    record = ingest(folder)
    assert record is not None, f"{folder.path} has ended"
    return record


def _show(line: "LiveLine", printed: list[str], progress: str, *, quiet: bool) -> None:
    if quiet:
        return
    for text in printed:
        line.say(text)
    if progress:
        line.show(progress)


def draw_learning_rate(config: "RunConfig", project: Path) -> None:
    """Show the learning rate over a training that is not started: a line of text, and schedule.png in the project."""
    from hotlap.cli.screen import sparkline
    from hotlap.config.schedule import schedule_of
    from hotlap.report.schedule_plot import draw_schedule, schedule_curve

    schedule, curve = schedule_of(config), schedule_curve(config)
    bars = sparkline([rate for _, rate in curve], 60)
    typer.echo(f"{schedule.name}  {bars}  {schedule.horizon:,.10g} {schedule.unit}, peak {schedule.peak:g}")
    path = project / "schedule.png"
    draw_schedule(curve, schedule.unit, f"{config.name}: {schedule.name}", path)
    typer.echo(f"picture {path}")


def _print_result(record: "RunRecord", folder: "RunFolder") -> None:
    from hotlap.cli.screen import print_json

    result = folder.read("result") or {}
    ending = {"outcome": record.outcome, "reason": record.reason}
    print_json({"run": record.run_id, **result, "schema": "hotlap/run/1", **ending})


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
    can_go_on = record.outcome in _RESUMABLE and bool(folder.checkpoints())
    following = f"hotlap train --resume {record.run_id}" if can_go_on else "hotlap speedrun"
    rows.append(f"  files {folder.path}   next: {following} · hotlap runs show {record.run_id}")
    return "\n".join(rows)
