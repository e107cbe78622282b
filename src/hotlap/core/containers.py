"""The containers that a run's command was started in: they are no processes of the run, so they are ended by their ids.

`docker run --cidfile FILE` writes the id; each run has a folder of such files.
"""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

ENGINES: Final = ("docker", "podman", "nerdctl")
_PATIENCE_SECONDS: Final = 20.0


def container_ids(directory: Path) -> tuple[str, ...]:
    """Return the ids in a run's folder of them; none where it is not there."""
    if not directory.is_dir():
        return ()
    found = []
    for path in sorted(directory.iterdir()):
        with suppress(OSError, UnicodeDecodeError):
            found.append(path.read_text(encoding="utf-8").strip())
    return tuple(text for text in found if text.isalnum())


def container_program() -> str | None:
    """Return the path of the engine that is installed here, None without one."""
    return next((found for name in ENGINES if (found := shutil.which(name))), None)


def stop_containers(directory: Path) -> None:
    """Kill the containers of a run that still go on; one that has ended is left alone."""
    ids, program = container_ids(directory), container_program()
    if not ids or program is None:
        return
    with suppress(OSError, subprocess.TimeoutExpired):  # an engine that does not answer cannot be helped here
        subprocess.run([program, "kill", *ids], capture_output=True, timeout=_PATIENCE_SECONDS, check=False)
