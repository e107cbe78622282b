"""The `hotlap` command: its list of commands, and nothing else.

Each command lives in a small file that loads what it needs when it is called, so `hotlap --help` is quick.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import hotlap
from hotlap.cli.ablate import ablate
from hotlap.cli.analyze import analyze
from hotlap.cli.apply import apply
from hotlap.cli.bench import bench
from hotlap.cli.bench_data import bench_data
from hotlap.cli.demo import demo
from hotlap.cli.doctor import doctor
from hotlap.cli.errors import exit_plainly
from hotlap.cli.exec import exec
from hotlap.cli.export import export
from hotlap.cli.generate import generate
from hotlap.cli.import_runs import import_runs
from hotlap.cli.init import init
from hotlap.cli.profile import profile
from hotlap.cli.propose import propose
from hotlap.cli.reindex import reindex
from hotlap.cli.replay import replay
from hotlap.cli.report import report
from hotlap.cli.rerun import rerun
from hotlap.cli.runs import app as runs
from hotlap.cli.speedrun import speedrun
from hotlap.cli.status import status
from hotlap.cli.sweep import sweep
from hotlap.cli.train import train

COMMANDS = (
    *(demo, init, train, exec, bench, profile, speedrun, sweep, ablate, generate, analyze, report, status),
    *(propose, apply, rerun, replay, export, import_runs, doctor, reindex),
)
"""In the order in which the help lists them."""
GROUPS = {"runs": runs}


class _Commands(TyperGroup):
    """The commands; `hotlap bench data` is one of its own, written as two words."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the words begin with."""
        return super().resolve_command(ctx, ["bench-data", *args[2:]] if args[:2] == ["bench", "data"] else args)


app = typer.Typer(
    name="hotlap",
    cls=_Commands,
    help=f"{hotlap.__doc__}\n\nStart with: hotlap demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # loading rich would take longer than everything else
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    is_exec = command is exec  # what follows its first word is somebody else's command line
    app.command(context_settings={"allow_interspersed_args": not is_exec})(command)
app.command("bench-data", hidden=True)(bench_data)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hotlap {hotlap.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""


def run() -> None:
    """Run the command line of this process; every error becomes a message and an exit code."""
    with exit_plainly():
        app()
