"""`hotlap demo`: a speedrun on real text in a few minutes, with nothing to write first."""

from pathlib import Path
from typing import Annotated

import typer

DEMO_CONFIG = Path(__file__).parent.parent / "examples" / "demo.yaml"


def demo(
    folder: Annotated[Path, typer.Argument(help="New folder for the example.")] = Path("hotlap-demo"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document; progress goes to stderr.")] = False,
) -> None:
    """Write the example into a new folder and speed it up there."""
    from hotlap.cli.speedrun import drive_and_tell
    from hotlap.cli.train import load_with_notices
    from hotlap.core.errors import StorageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "hotlap.yaml"
        if not config.exists():
            config.write_text(DEMO_CONFIG.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write in {folder}: {error.strerror or error}; name another folder") from error
    typer.echo(f"the example is {config}; the journal will be {folder / 'SPEEDRUN.md'}", err=json)
    raise typer.Exit(drive_and_tell(load_with_notices(config, []), folder, as_json=json))
