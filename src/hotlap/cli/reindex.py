"""`hotlap reindex`: build the index again from run folders, ledgers and notes."""

from pathlib import Path
from typing import Annotated

import typer


def reindex(
    project: Annotated[Path, typer.Option("-p", "--project", help="Folder that holds .hotlap/.")] = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Build the index of runs again from the files."""
    from hotlap.cli.screen import print_json
    from hotlap.core.errors import StorageError
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.runs.store import RunStore

    folder = ProjectFolder(project.absolute())
    if not folder.path.is_dir():
        raise StorageError(f"there is no .hotlap in {folder.project}; give the project's folder with -p")
    with RunStore(folder) as store:
        store.reindex()
        count = len(store.runs())
    if json:
        print_json({"schema": "hotlap/reindex/1", "runs": count, "index": str(folder.index_path)})
    else:
        typer.echo(f"{count} runs in {folder.index_path}; see: hotlap runs ls")
