"""`hotlap import`: take in runs that another program made.

hotlap import wandb_export.csv
hotlap import runs/ --name baselines
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hotlap.core.foreign import ForeignSource
    from hotlap.runs.imports import Imported


def import_runs(
    path: Annotated[str, typer.Argument(metavar="PATH", help="File, folder, or sqlite:/// address.")],
    name: Annotated[str, typer.Option(help="What the runs are called together (default: after the source).")] = "",
    config: Annotated[list[str] | None, typer.Option(help="Column of a table that is a setting; repeatable.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Column of a table that is a metric; repeatable.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    project: Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap/.")] = Path(),
) -> None:
    """Take in runs of wandb, the Trainer, Optuna, or a table.

    They are marked as imported: no clock of hotlap's, never a record. What is here already is not taken twice.
    """
    from hotlap.cli.screen import print_json
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.runs.imports import import_runs as write_runs

    sources = _read(path, config or (), metric or ())
    folder = ProjectFolder(project.absolute())
    done = [(source, write_runs(folder, source, name)) for source in sources]
    for notice in (notice for source in sources for notice in source.notices):
        typer.echo(f"note: {notice}", err=True)
    if json:
        print_json({"schema": "hotlap/imported/1", "sources": [_document(*each) for each in done]})
        return
    for source, imported in done:
        typer.echo(summary_line(source, imported))
        if imported.changed:
            typer.echo(f"note: {_changed_line(imported)}", err=True)
    place = [] if project == Path() else ["-p", str(project)]
    group = done[-1][1].group
    commands = (["hotlap", "runs", "ls", "--study", group], ["hotlap", "analyze", group])
    typer.echo(f"next: {' · '.join(shlex.join([*command, *place]) for command in commands)}")


import_runs.__name__ = "import"  # Python keeps the word for itself: no function can be defined under it


def _read(path: str, config: Sequence[str], metrics: Sequence[str]) -> "Sequence[ForeignSource]":
    from hotlap.core.errors import ConfigError
    from hotlap.runs.foreign_columns import Chosen
    from hotlap.runs.imports import read_source, refuse_address
    from hotlap.search.optuna_storage import is_optuna_storage, read_optuna_storage

    if not is_optuna_storage(path):
        refuse_address(path)
        return [read_source(Path(path), Chosen(tuple(config), tuple(metrics)))]
    if config or metrics:
        raise ConfigError(f"{path} is no table, so it has no columns to choose with --config and --metric")
    return read_optuna_storage(path)


def summary_line(source: "ForeignSource", imported: "Imported") -> str:
    """Return what an import did, in one line."""
    count = len(imported.added)
    ids = f" as {imported.added[0]} to {imported.added[-1]} ({imported.group})" if count > 1 else ""
    ids = f" as {imported.added[0]} ({imported.group})" if count == 1 else ids
    known = f"; {imported.known} {'was' if imported.known == 1 else 'were'} here already" if imported.known else ""
    return f"imported {count} run{'' if count == 1 else 's'} from {source.place} ({source.kind}){ids}{known}"


def _changed_line(imported: "Imported") -> str:
    ids = ", ".join(imported.changed)
    return f"{ids}: changed since the import; to have them anew, delete their folders in .hotlap/runs and import again"


def _document(source: "ForeignSource", imported: "Imported") -> dict[str, object]:
    return {
        "kind": source.kind,
        "place": source.place,
        "group": imported.group,
        "added": list(imported.added),
        "known": imported.known,
        "changed": list(imported.changed),
        "notices": list(source.notices),
    }
