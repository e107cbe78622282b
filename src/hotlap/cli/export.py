"""`hotlap export`: a run's weights as a folder for transformers.

hotlap export r0042 my-model
"""

from pathlib import Path
from typing import Annotated

import typer

from hotlap.cli.train import ProjectOption


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="r0042, r42, @last, @baseline or @best.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder to write.")],
    step: Annotated[int | None, typer.Option(min=0, help="Take the checkpoint after this step.")] = None,
    project: ProjectOption = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write a run's weights as a folder that transformers loads."""
    from hotlap.cli.screen import print_json
    from hotlap.core.errors import ConfigError
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.export import export_run
    from hotlap.runs.store import RunStore

    place = ProjectFolder(project.absolute())
    if not place.path.is_dir():
        raise ConfigError(f"there is no .hotlap in {place.project}; give the project's folder with -p")
    with RunStore(place) as store:
        store.refresh()
        run_folder = store.folder(store.get(run).run_id)
    told = export_run(run_folder, folder, step)
    if json:
        print_json({"schema": "hotlap/export/1", "run": run_folder.run_id, "folder": str(folder), "told": told})
    else:
        typer.echo(told)
