"""`hotlap exec`: one measured run of any training command.

hotlap exec --target "val_loss <= 3.28" --limit 10m -- python train.py --lr 6e-4
hotlap exec "docker build -t me . && docker run --gpus all me"
hotlap exec -s params.learning_rate=3e-4           # the command of hotlap.yaml
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import DEFAULT_CONFIG, ProjectOption, SettingOption

if TYPE_CHECKING:
    from hotlap.config.schema import RunConfig
    from hotlap.core.records import RunRecord
    from hotlap.core.run_folder import RunFolder

_SHOWN_METRICS = 6

CommandArgument = Annotated[
    list[str] | None, typer.Argument(help="The command, or one shell string (default: hotlap.yaml's).", metavar="CMD")
]
TargetOption = Annotated[list[str] | None, typer.Option("-t", "--target", help='Such as "val_loss <= 3.28".')]
LimitOption = Annotated[str | None, typer.Option("--limit", help="Longest run, such as 10m.")]
MetricOption = Annotated[
    list[str] | None, typer.Option("-m", "--metric", help="NAME=REGEX with a group around the number.")
]
PtyOption = Annotated[bool, typer.Option("--pty/--no-pty", help="Give the command a pseudo-terminal.")]


def exec(
    command: CommandArgument = None,
    target: TargetOption = None,
    limit: LimitOption = None,
    metric: MetricOption = None,
    pty: PtyOption = True,
    settings: SettingOption = None,
    project: ProjectOption = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, the output to stderr.")] = False,
) -> None:
    """Run a training command of your own once, and measure it; it is stopped when the targets hold."""
    import sys
    from json import dumps

    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.measure import measure_once
    from hotlap.runs.ingest import ingest

    overrides = [*_metric_settings(metric or []), *(settings or [])]
    if not pty:
        overrides.append("command.pty=false")
    if command:
        loaded = config_of_command(command, target or [], overrides)
    else:
        loaded = _configured(DEFAULT_CONFIG, [*([f"targets={dumps(target)}"] if target else []), *overrides])
    folder = ProjectFolder(project.absolute()).create()
    seconds = _limit(loaded, limit, is_bounded=not command)
    output = sys.stderr.buffer if json else sys.stdout.buffer

    def hand_on(data: bytes) -> None:
        output.write(data)
        output.flush()

    run_folder = measure_once(loaded, folder, hand_on, None if json else typer.echo, seconds)
    record = ingest(run_folder)
    assert record is not None, f"{run_folder.path} has ended"
    _tell(loaded, record, run_folder, as_json=json)
    raise typer.Exit(exit_code(loaded, record, run_folder))


def config_of_command(words: Sequence[str], targets: Sequence[str], settings: Sequence[str]) -> "RunConfig":
    """Return the config of a run of a command given as words, or as one shell string.

    Raises ConfigError for a target or a setting that cannot be read.
    """
    import shlex

    from hotlap.config.command import without_placeholders
    from hotlap.config.load import config_from_values, parse_override, without_secrets

    text = words[0] if len(words) == 1 else shlex.join(words)
    values: dict[str, Any] = {"command": {"run": without_placeholders(text)}, "targets": list(targets)}
    return without_secrets(config_from_values(values, dict(map(parse_override, settings)), "the command line"))


def _metric_settings(metrics: Sequence[str]) -> list[str]:
    """Return the settings that name metrics by regular expressions; raises ConfigError for one that has no name."""
    from json import dumps

    from hotlap.core.errors import ConfigError

    settings = []
    for text in metrics:
        name, sign, expression = text.partition("=")
        if not sign:
            raise ConfigError(f"--metric {text!r}: write NAME=REGEX, such as 'val_loss=validation loss ([0-9.]+)'")
        settings.append(f"command.metrics.{name.strip()}={dumps(expression)}")
    return settings


def _configured(path: Path, settings: Sequence[str]) -> "RunConfig":
    """Load a config that has a command."""
    from hotlap.cli.train import load_with_notices
    from hotlap.core.errors import ConfigError

    if not path.is_file():
        raise ConfigError(f"{path}: no such config; give a command: hotlap exec -- python train.py, or run hotlap init")
    loaded = load_with_notices(path, settings)
    if loaded.command is None:
        raise ConfigError(f"{path}: has no command; give one: hotlap exec -- python train.py, or use hotlap train")
    return loaded


def _limit(config: "RunConfig", limit: str | None, *, is_bounded: bool) -> float | None:
    """Return the longest run in seconds; without --limit a command on the command line has no bound."""
    from hotlap.core.durations import parse_seconds
    from hotlap.core.errors import ConfigError

    if limit is None:
        return config.budget.run if is_bounded else None
    try:
        return parse_seconds(limit)
    except ValueError as error:
        raise ConfigError(f"--limit {limit!r}: {error}") from error


def exit_code(config: "RunConfig", record: "RunRecord", folder: "RunFolder") -> int:
    """Return the exit code of `hotlap exec`: without a target it is the command's own, where that has one."""
    from hotlap.core.records import EXIT_CODES

    code = (folder.read("result") or {}).get("exit_code")
    if config.targets or record.outcome not in ("reached", "crashed", "out_of_memory") or not isinstance(code, int):
        return EXIT_CODES[record.outcome]
    return code if code >= 0 else 128 - code


def _tell(config: "RunConfig", record: "RunRecord", folder: "RunFolder", *, as_json: bool) -> None:
    from hotlap.cli.screen import print_json

    result = folder.read("result") or {}
    if as_json:
        ending = {"outcome": record.outcome, "reason": record.reason}
        print_json({"run": record.run_id, **result, "schema": "hotlap/run/1", **ending})
        return
    for line in summary_lines(config, record, folder):
        typer.echo(line, err=not config.targets)


def summary_lines(config: "RunConfig", record: "RunRecord", folder: "RunFolder") -> list[str]:
    """Return what a run of a command ends with: outcome, times, metrics, what to know of them, where it is."""
    from hotlap.cli.screen import sparkline
    from hotlap.core.durations import format_seconds
    from hotlap.core.files import read_json_lines

    result = folder.read("result") or {}
    capture = result.get("capture") or {}
    mark = "✓" if record.outcome == "reached" else "✗"
    rows = [f"{mark} {record.outcome.replace('_', ' ')}: {record.reason.splitlines()[0] if record.reason else ''}"]
    if record.time_to_target:
        wall, train = record.time_to_target["wall"], record.time_to_target["train"]
        own = f" · {format_seconds(train)} (its own clock)" if capture.get("clock") == "own" else ""
        rows.append(
            f"  time to target  {format_seconds(wall)} (wall clock){own} · step {record.time_to_target['step']:.0f}"
        )
    points = folder.points()
    wanted = [target.metric for target in config.parsed_targets()]
    names = list(dict.fromkeys([*wanted, *(name for name in record.metrics if "loss" in name), *record.metrics]))
    for name in names[:_SHOWN_METRICS]:
        if values := [float(point[name]) for point in points if name in point]:
            rows.append(f"  {name:<18} {sparkline(values, 40):<40} {values[-1]:.6g}")
    if capture.get("is_buffered"):
        rows.append("  buffered: its lines came in blocks, so their times are not those of the training")
    for name, text in (capture.get("rounded") or {}).items():
        rows.append(f"  rounded: {name} {text} has too few digits to decide the target; print more of them")
    for name, reason in (capture.get("doubts") or {}).items():
        rows.append(f"  not believed: {name}: {reason}")
    rows += [f"  {problem}" for problem in capture.get("problems") or ()]
    samples = read_json_lines(folder.system_path)
    if samples and samples[-1].get("run_cores", 0.0) is None:
        rows.append(f"  CPU and memory unknown: {samples[-1]['containers']}")
    if not record.metrics and record.outcome not in ("crashed", "out_of_memory"):
        rows.append("  no metrics were found in its output; name them: --metric 'val_loss=val loss ([0-9.]+)'")
    rows.append(
        f"  wall {format_seconds(record.wall_seconds)} · files {folder.path} · hotlap runs show {record.run_id}"
    )
    return rows
