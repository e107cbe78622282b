"""`hotlap bench`: how fast could it go? A grid of settings, measured cell by cell, and what the figures say.

hotlap bench hotlap.yaml --batch 1,2,4,8 --seq 256,512 --precision fp32,bf16
hotlap bench --batch auto --devices 1,2 --compile on,off
hotlap bench --axis model.hidden_size=128,256 --axis training.padding=longest,packed
hotlap bench --resume
"""

from collections.abc import Mapping, Sequence
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
LimitOption = Annotated[
    str | None,
    typer.Option(
        "--limit",
        show_default="5m",
        help="Longest measurement of one cell; with --resume a longer one retries what timed out.",
    ),
]


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
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, show_default="3", help="Measurements of each cell, in turn.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=2, show_default="10", help="Measured steps each time, at least.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, show_default="3", help="Measured seconds each time, at least.")
    ] = None,
    warmup: Annotated[int | None, typer.Option("--warmup", min=1, show_default="3", help="Steps before those.")] = None,
    limit: LimitOption = None,
    seed: Annotated[int | None, typer.Option("--seed", show_default="0", help="Of the order of the cells.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last bench, or with the one named.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin anew where the same bench could go on.")] = False,
    settings: SettingOption = None,
    project: ProjectOption = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Measure speed and memory over a grid of settings: what is fastest, what fits, what holds it back."""
    from hotlap.bench.resume import resume_bench
    from hotlap.core.study_folder import ProjectFolder

    axes: dict[str, str | None] = {
        **{"batch": batch, "seq": seq, "devices": devices, "precision": precision, "compile": compile},
        **{"optim": optim, "workers": workers, "attention": attention},
    }
    short = {name: text for name, text in axes.items() if text is not None}
    plan = {"repeats": repeats, "steps": steps, "seconds": seconds, "warmup": warmup, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in plan.items() if value is not None}
    most = None if limit is None else _limit_seconds(limit)
    folder = ProjectFolder(project.absolute())
    if resume:
        others = {"axis": axis, "new": new, "set": settings}
        _refuse_beside_resume([*short, *given, *(name for name, value in others.items() if value)])
        opened = resume_bench(folder, config, most)
    else:
        given |= {} if most is None else {"limit_seconds": most}
        opened = _begun(folder, (config, settings or []), (short, axis or []), given, is_new=new)
    raise typer.Exit(drive_bench(folder, opened, as_json=json))


def _refuse_beside_resume(names: Sequence[str]) -> None:
    """Raise ConfigError for options that a bench which goes on cannot be given."""
    from hotlap.core.errors import ConfigError

    if names:
        options = ", ".join(f"--{name}" for name in names)
        raise ConfigError(
            f"--resume goes on with a bench as it was planned: leave out {options} (only --limit may change), or leave "
            "out --resume, and another bench begins"
        )


def _begun(
    folder: "ProjectFolder",
    source: tuple[str | None, Sequence[str]],
    axes: tuple[Mapping[str, str], Sequence[str]],
    given: Mapping[str, Any],
    *,
    is_new: bool,
) -> "OpenBench":
    """Return a bench of a config file and what is set in it, with axes by short names and by keys, ready to run."""
    from hotlap.bench.drive import open_bench
    from hotlap.bench.plan import BenchPlan
    from hotlap.bench.request import check_devices, plan_bench
    from hotlap.cli.train import load_with_notices

    config, settings = source
    named = {"warmup_steps" if name == "warmup" else name: value for name, value in given.items()}
    loaded = load_with_notices(Path(config) if config else DEFAULT_CONFIG, settings)
    notices: list[str] = []
    base, plan = plan_bench(loaded, *axes, BenchPlan(axes=(), **named), notices)
    for notice in notices:
        typer.echo(f"note: {notice}", err=True)
    check_devices(base, plan)
    return open_bench(folder.create(), base, plan, is_new=is_new)


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
