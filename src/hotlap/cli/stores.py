"""What the commands about runs share: the project's index, opened and up to date, and the options of all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hotlap.runs.store import RunStore

Project = Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap/.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@contextmanager
def open_store(project: Path) -> Iterator["RunStore"]:
    """Open and refresh the index; an error that is meant for the user becomes one message and its exit code."""
    from hotlap.core.errors import ConfigError, HotlapError
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.runs.store import RunStore

    try:
        if not project.is_dir():
            raise ConfigError(f"{project} is no folder; give the project's folder with -p")
        with RunStore(ProjectFolder(project)) as store:
            store.refresh()
            yield store
    except HotlapError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
