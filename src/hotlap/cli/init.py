"""`hotlap init`: write a hotlap.yaml for a training command of your own.

hotlap init -- python train.py --lr 3e-4
hotlap init -y --target "val_loss < 3.28" -- python train.py config.yaml
hotlap init "docker build -t me . && docker run -e CONFIG=conf/run.yaml -v ./conf:/app/conf me"
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotlap.cli.exec import CommandArgument, MetricOption, TargetOption
from hotlap.cli.train import ProjectOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from hotlap.inspect_script.probe import Probe
    from hotlap.inspect_script.settings import Found
    from hotlap.inspect_script.whole import Wording

_SHOWN_KNOBS = 20


def init(
    command: CommandArgument = None,
    target: TargetOption = None,
    metric: MetricOption = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing; run the command for up to 30 s.")] = False,
    try_it: Annotated[bool, typer.Option("--probe/--no-probe", help="Run the command for up to 30 s.")] = True,
    agents: Annotated[bool, typer.Option("--agents", help="Also tell coding agents, in AGENTS.md.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document; ask nothing.")] = False,
    project: ProjectOption = Path(),
) -> None:
    """Write a hotlap.yaml for a training command of your own; no file of yours is imported or changed."""
    from hotlap.core.files import write_atomic
    from hotlap.inspect_script.whole import file_text, inspect, read_config, suggested_target, try_out_settled

    path = project / "hotlap.yaml"
    if agents and not command:
        _tell_agents(project, as_json=json)
        return
    words = _wording(command or [], target or [], metric or [], project)
    _refuse_to_overwrite(path)
    is_asking = not yes and not json and _is_conversation()
    may_run = try_it and (yes or json or not is_asking or _allowed(words.command))
    found = inspect(words, may_run=may_run and (yes or json or is_asking))
    if not json:
        _show_found(found)
    is_probed = may_run and (yes or json or is_asking)
    added, seen = found.added, None
    if is_probed:
        found, seen = try_out_settled(found, words, _echo(json))
    if added and not found.added:
        typer.echo(f"the command does not take what its source seems to define: {', '.join(added)}", err=True)
    if seen is not None and not json:
        _show_probe(seen)
    if is_asking and not words.targets:
        words = _with_target(words, suggested_target(seen))
    text = file_text(found, words, seen)
    write_atomic(path, text)
    config = read_config(text, words.directory)
    if agents:
        _tell_agents(project)
    if json:
        _print_document(path, found, seen, list(config.targets))
        return
    typer.echo(f"\nwrote {path}: {len(config.params)} knobs, targets {', '.join(config.targets) or 'none yet'}")
    if not is_probed:
        typer.echo("the command was not run; see what it prints with: hotlap exec --limit 30s")
    typer.echo(f"next: hotlap exec · hotlap speedrun {path}")


def _wording(words: list[str], targets: list[str], metrics: list[str], project: Path) -> "Wording":
    """Return what was said on the command line; raises ConfigError where it cannot be used."""
    import shlex

    from hotlap.core.errors import ConfigError
    from hotlap.core.masking import hide_secrets
    from hotlap.core.targets import parse_target
    from hotlap.inspect_script.whole import Wording

    if not words:
        raise ConfigError("which command trains? Give it behind two dashes: hotlap init -- python train.py")
    for text in targets:
        parse_target(text, is_any_metric=True)
    expressions = dict(text.partition("=")[::2] for text in metrics)
    if "" in expressions.values():
        raise ConfigError(f"--metric {metrics[0]!r}: write NAME=REGEX, such as 'val_loss=validation loss ([0-9.]+)'")
    command = words[0] if len(words) == 1 else shlex.join(words)
    return Wording(
        command=command,
        directory=project.absolute(),
        targets=tuple(targets),
        metrics=expressions,
        written_by=hide_secrets(f"hotlap init -- {command}", {})[0],
    )


def _tell_agents(project: Path, *, as_json: bool = False) -> None:
    """Write the section for coding agents into AGENTS.md; the rest of the file stays."""
    from hotlap.cli.screen import print_json
    from hotlap.core.files import write_atomic
    from hotlap.study.agents_section import agents_section, with_agents_section

    path = project / "AGENTS.md"
    existing = path.read_text(encoding="utf-8") if path.exists() else ""
    write_atomic(path, with_agents_section(existing, agents_section("hotlap.yaml")))
    typer.echo(f"wrote the section for coding agents into {path}", err=True)
    if as_json:
        print_json({"schema": "hotlap/agents/1", "file": str(path)})


def _refuse_to_overwrite(path: Path) -> None:
    from hotlap.core.errors import ConfigError

    if path.exists():
        raise ConfigError(f"{path} is there already; move it away, or write elsewhere with -p FOLDER")


def _is_conversation() -> bool:
    import sys

    return sys.stdin.isatty() and sys.stdout.isatty()


def _allowed(command: str) -> bool:
    typer.echo(f"command: {command}")
    return typer.confirm("Run it for at most 30 s, to see its settings and what it prints?", default=True)


def _with_target(words: "Wording", suggestion: str) -> "Wording":
    """Ask for the target; an empty answer leaves it open."""
    from dataclasses import replace

    from hotlap.core.errors import ConfigError
    from hotlap.core.targets import parse_target

    while True:
        answer = typer.prompt("Target, such as val_loss < 3.28", default=suggestion, show_default=bool(suggestion))
        if not answer.strip():
            return words
        try:
            parse_target(answer, is_any_metric=True)
        except ConfigError as error:
            typer.echo(str(error), err=True)
            continue
        return replace(words, targets=(answer.strip(),))


def _echo(is_quiet: bool) -> "Callable[[bytes], object]":
    import sys

    stream = sys.stderr.buffer if is_quiet else sys.stdout.buffer

    def echo(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return echo


def _show_found(found: "Found") -> None:
    from hotlap.cli.screen import print_table
    from hotlap.config.set_in_yaml import value_text

    if not found.knobs:
        typer.echo("no settings were found; name them yourself as {name} in command.run and in params")
        return
    rows = [[knob.name, value_text(knob.value), knob.place] for knob in found.knobs[:_SHOWN_KNOBS]]
    print_table(["knob", "value", "where"], rows, left=3)
    if len(found.knobs) > _SHOWN_KNOBS:
        typer.echo(f"and {len(found.knobs) - _SHOWN_KNOBS} more")
    if found.added:
        typer.echo(f"named in the command now, with the values that they have anyway: {', '.join(found.added)}")
    typer.echo("")


def _show_probe(seen: "Probe") -> None:
    from hotlap.cli.screen import harmless, print_table
    from hotlap.core.durations import format_seconds

    typer.echo("")
    took = format_seconds(seen.wall_seconds)
    if not seen.is_well:
        typer.echo(f"the command failed after {took}: {seen.reason}", err=True)
    else:
        typer.echo(f"the command {'ended' if seen.is_whole else 'was stopped'} after {took}")
    if seen.metrics:
        rows = [[one.name, f"{one.first:.5g}", f"{one.last:.5g}", str(one.count), one.source] for one in seen.metrics]
        print_table(["metric", "first", "last", "values", "found in"], rows, left=1)
        return
    typer.echo("no metrics were found; its last lines were:")
    for line in seen.last_lines:
        typer.echo(f"  {harmless(line)}")
    typer.echo("name one by an expression: hotlap init --metric 'val_loss=val loss ([0-9.]+)' -- CMD")


def _print_document(path: Path, found: "Found", seen: "Probe | None", targets: list[str]) -> None:
    from dataclasses import asdict

    from hotlap.cli.screen import print_json

    print_json(
        {
            "schema": "hotlap/init/1",
            "file": str(path),
            "command": found.run,
            "knobs": [asdict(knob) for knob in found.knobs],
            "files": found.files,
            "constants": found.constants,
            "env": found.env,
            "targets": targets,
            "probe": None if seen is None else asdict(seen),
        }
    )
