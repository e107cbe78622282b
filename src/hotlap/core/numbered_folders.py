"""Folders that are counted, `r0001`, `r0002`, …: an id is taken by making its folder.

No id below the highest one is taken again; that of a highest folder which was removed is.

path = take_folder(project / "runs", "r", "a run folder")
"""

import re
from pathlib import Path

from hotlap.core.errors import StorageError
from hotlap.core.files import sync_name


def id_pattern(letter: str) -> re.Pattern[str]:
    """Return what ids that begin with a letter look like; the group is the number."""
    return re.compile(rf"{letter}(\d{{4,}})")


def numbered_folders(parent: Path, letter: str) -> list[tuple[int, Path]]:
    """Return the numbers and paths of what has such an id in a folder, in their order; an absent folder has none."""
    if not parent.is_dir():
        return []
    pattern = id_pattern(letter)
    return sorted((int(found[1]), path) for path in parent.iterdir() if (found := pattern.fullmatch(path.name)))


def take_folder(parent: Path, letter: str, what: str) -> Path:
    """Take the id after the highest one by making its folder, which only one process can do.

    It is on the disk when this returns. Raises StorageError when `what` (such as "a run folder") cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = max((number for number, _ in numbered_folders(parent, letter)), default=0)
        while True:
            number += 1
            path = parent / f"{letter}{number:04}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            sync_name(path)
            return path
    except OSError as error:
        raise StorageError(
            f"cannot make {what} in {parent}: {error.strerror or error}; choose another project folder with -p"
        ) from error
