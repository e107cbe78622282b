"""`hotlap bench`: how fast could it go? A grid of settings, measured cell by cell, and what the figures say.

hotlap bench hotlap.yaml --batch 1,2,4,8 --seq 256,512 --precision fp32,bf16
hotlap bench --batch auto --devices 1,2 --compile on,off
hotlap bench --axis model.hidden_size=128,256 --axis training.padding=longest,packed
hotlap bench --resume
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import DEFAULT_CONFIG, ProjectOption, SettingOption

if TYPE_CHECKING:
    from hotlap.bench.drive import OpenBench
    from hotlap.core.study_folder import ProjectFolder

_VALUES = "VALUES"

ConfigWord = Annotated[str | None, typer.Argument(metavar="CONFIG", help="Config file; with --resume a bench: b0003.")]
AxisOption = Annotated[
    list[str] | None,
    typer.Option("--axis", metavar="KEY=VALUES", help="Any setting, such as model.hidden_size=64,128."),
]
LimitOption = Annotated[str, typer.Option("--limit", help="Longest measurement of one cell.")]


def bench(  # noqa: PLR0913  an option of the command is an argument
    config: ConfigWord = None,
    batch: Annotated[str | None, typer.Option(metavar=_VALUES, help="Rows per device: 1,2,4 or auto.")] = None,
    seq: Annotated[str | None, typer.Option(metavar=_VALUES, help="Length of the inputs, as the task has it.")] = None,
    devices: Annotated[str | None, typer.Option(metavar=_VALUES, help="Devices, a process each.")] = None,
    precision: Annotated[str | None, typer.Option(metavar=_VALUES, help="fp32,bf16.")] = None,
    compile: Annotated[str | None, typer.Option(metavar=_VALUES, help="on,off: torch.compile.")] = None,
    optim: Annotated[str | None, typer.Option(metavar=_VALUES, help="Optimizers.")] = None,
    workers: Annotated[str | None, typer.Option(metavar=_VALUES, help="Processes that make batches: 0,2,4.")] = None,
    attention: Annotated[str | None, typer.Option(metavar=_VALUES, help="Ways to compute attention.")] = None,
    axis: AxisOption = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Measurements of each cell, in turn.")] = 3,
    steps: Annotated[int, typer.Option("--steps", min=2, help="Measured steps each time, at least.")] = 10,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Measured seconds each time, at least.")] = 3.0,
    warmup: Annotated[int, typer.Option("--warmup", min=1, help="Steps before those.")] = 3,
    limit: LimitOption = "5m",
    seed: Annotated[int, typer.Option("--seed", help="Of the order of the cells.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last bench, or with the one named.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin anew where the same bench could go on.")] = False,
    settings: SettingOption = None,
    project: ProjectOption = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Measure speed and memory over a grid of settings: what is fastest, what fits, what holds it back."""
    from hotlap.bench.drive import find_bench, open_bench
    from hotlap.bench.plan import BenchPlan
    from hotlap.bench.request import plan_bench
    from hotlap.cli.train import load_with_notices
    from hotlap.core.errors import ConfigError
    from hotlap.core.study_folder import ProjectFolder

    given: dict[str, Any] = {
        **{"batch": batch, "seq": seq, "devices": devices, "precision": precision, "compile": compile},
        **{"optim": optim, "workers": workers, "attention": attention},
    }
    short = {name: text for name, text in given.items() if text is not None}
    folder = ProjectFolder(project.absolute())
    if resume:
        if short or axis or settings or new:
            raise ConfigError("--resume goes on with a bench as it was planned; leave the axes, --new and -s out")
        opened = find_bench(folder, config)
    else:
        loaded = load_with_notices(Path(config) if config else DEFAULT_CONFIG, settings or [])
        options = BenchPlan(
            axes=(),
            repeats=repeats,
            seed=seed,
            warmup_steps=warmup,
            steps=steps,
            seconds=seconds,
            limit_seconds=_limit_seconds(limit),
        )
        notices: list[str] = []
        base, plan = plan_bench(loaded, short, axis or [], options, notices)
        for notice in notices:
            typer.echo(f"note: {notice}", err=True)
        opened = open_bench(folder.create(), base, plan, is_new=new)
    raise typer.Exit(drive_bench(folder, opened, as_json=json))


def drive_bench(project: "ProjectFolder", opened: "OpenBench", *, as_json: bool) -> int:
    """Run or go on with a bench, show it and its answers, and return the exit code."""
    from hotlap.bench.drive import conclude, run_bench
    from hotlap.bench.summary import summary_document
    from hotlap.cli.bench_screen import BenchLines, answer_lines
    from hotlap.cli.errors import EXIT_INTERRUPTED
    from hotlap.cli.screen import print_json
    from hotlap.core.errors import RunFailedError

    screen = BenchLines(opened, quiet=as_json)
    ending = run_bench(project, opened, screen)
    screen.close()
    written = conclude(opened)
    if as_json:
        print_json({**summary_document(written.answers), "ending": ending})
    else:
        typer.echo("\n".join(answer_lines(written, ending)))
    if ending == "interrupted":
        return EXIT_INTERRUPTED
    return 0 if written.answers.measured else RunFailedError.exit_code


def _limit_seconds(text: str) -> float:
    """Return the longest time of a measurement; raises ConfigError for what is no time."""
    from hotlap.core.durations import parse_seconds
    from hotlap.core.errors import ConfigError

    try:
        return parse_seconds(text)
    except ValueError as error:
        raise ConfigError(f"--limit {text!r}: {error}") from error
