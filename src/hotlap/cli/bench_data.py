"""`hotlap bench data`: do the data keep up with the training, and are they the samples that it should get?

hotlap bench data hotlap.yaml --workers 0,2,4
hotlap bench data my_data:make_dataset --batch-size 64 --needs 1200
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli.train import DEFAULT_CONFIG, ProjectOption, SettingOption

if TYPE_CHECKING:
    from hotlap.bench.data_speed import DataFigures

SCHEMA = "hotlap/bench-data/1"
_EXIT_CHECK_FAILED = 3

SourceArgument = Annotated[
    str | None,
    typer.Argument(metavar="SOURCE", help="Config file (default: hotlap.yaml), or module:function that makes data."),
]
NeedsOption = Annotated[
    float | None, typer.Option(min=0, metavar="SAMPLES/S", help="What the training of module:function takes.")
]


def bench_data(
    source: SourceArgument = None,
    settings: SettingOption = None,
    workers: Annotated[str, typer.Option(help="Numbers of data workers to try.")] = "0,1,2,4",
    seconds: Annotated[float, typer.Option(min=0.05, help="For each measurement, about.")] = 1.0,
    needs: NeedsOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples of a batch of module:function.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: ProjectOption = Path(),
) -> None:
    """Measure sampling, tokenising, packing and collating against what a training step takes; check the samples."""
    from hotlap.bench.data_speed import data_of_config, data_of_function, parse_workers
    from hotlap.cli.screen import print_json
    from hotlap.cli.train import load_with_notices
    from hotlap.config.base import is_part
    from hotlap.core.errors import ConfigError
    from hotlap.core.study_folder import ProjectFolder

    if needs is not None and not 0 < needs < math.inf:
        raise ConfigError(f"--needs {needs:g}: expected samples per second, a number above 0")

    def say(text: str) -> None:
        if not as_json:
            typer.echo(text, err=True)

    counts, folder = parse_workers(workers), ProjectFolder(project.absolute())
    if source is not None and is_part(source):
        if settings:
            raise ConfigError("-s changes a config; module:function has none")
        found = data_of_function(source, folder, counts, seconds, say, batch_size=batch_size, needs=needs)
    else:
        if needs is not None:
            raise ConfigError("--needs goes with module:function; what a config's training needs is measured")
        loaded = load_with_notices(Path(source) if source else DEFAULT_CONFIG, settings or [])
        found = data_of_config(loaded, folder, counts, seconds, say)
    if as_json:
        print_json({"schema": SCHEMA, "source": source or str(DEFAULT_CONFIG), **found.to_json()})
    else:
        typer.echo("\n".join(_lines(found)))
    raise typer.Exit(_EXIT_CHECK_FAILED if found.failed else 0)


def _lines(found: "DataFigures") -> list[str]:
    """Return what is shown of the figures."""
    from hotlap.cli.screen import bold, harmless

    rows = _pipeline(found) if found.need is not None else _rates(found)
    marks = {True: "✓", False: "✗", None: "·"}
    rows += ["", *(f"{marks[check['passed']]} {check['name']}: {check['text']}" for check in found.checks)]
    reading = found.reading
    return [*map(harmless, rows), "", bold(reading.text), *([f"  {reading.advice}"] if reading.advice else [])]


def _pipeline(found: "DataFigures") -> list[str]:
    from hotlap.bench.data_reading import lost_ratio
    from hotlap.cli.screen import table_lines

    need = found.need or {}
    step = need["step_seconds"]
    parts = [
        [
            part["name"],
            "before" if part["is_once"] else _ms(part["seconds_per_step"]),
            "" if part["is_once"] else f"{part['seconds_per_step'] / step:.2%}",
            f"{part['rate']:,.4g} {part['unit']}/s",
        ]
        for part in found.parts
    ]
    rows = table_lines(["alone, in one process", "ms a step", "of a step", "speed"], parts)
    samples = need["samples_per_step"]
    rows += [
        "",
        f"a step whose batches lie ready: {_ms(step)} ms, {samples:.4g} samples: it takes {samples / step:,.4g} ",
    ]
    rows[-1] += f"samples/s, {need['tokens_per_step'] / step:,.4g} tokens/s"
    loaders = [
        [
            f"{one['workers']}",
            f"{samples / one['seconds_per_step']:,.4g}",
            f"{step / one['seconds_per_step']:,.3g} ×",
            f"{'about ' if one['is_computed'] else ''}{_ms(one['step_seconds'])}",
            f"{lost_ratio(one):.0%}",
            f"{one['startup_seconds']:.2g}",
        ]
        for one in found.loaders
    ]
    head = ["workers", "samples/s alone", "against the need", "training step, ms", "of it data", "first batch, s"]
    return [*rows, "", *table_lines(head, loaders)]


def _rates(found: "DataFigures") -> list[str]:
    from hotlap.cli.screen import table_lines

    needs = found.needs_per_second

    def row(one: dict[str, Any]) -> list[str]:
        rate = one["samples_per_second"]
        against = [f"{rate / needs:,.3g} ×"] if needs else []
        return [f"{one['workers']}", f"{rate:,.4g}", *against, f"{one['startup_seconds']:.2g}"]

    head = ["workers", "samples/s", *(["against the need"] if needs else []), "first batch, s"]
    return table_lines(head, [row(one) for one in found.loaders])


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.4g}"
