"""What all pictures share: their look, and files that are the same for the same numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import StorageError

GREY: Final = "#8a8a8a"
BLACK: Final = "#222222"
BLUE: Final = "#0072B2"
STYLE: Final[Mapping[str, Any]] = {
    "svg.hashsalt": "hotlap",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "xtick.color": BLACK,
    "ytick.color": BLACK,
}


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure in the format that the suffix says; a file that is there is replaced at once.

    Raises StorageError when it cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    metadata = {"Date": None} if path.suffix == ".svg" else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, metadata=metadata, dpi=110)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}; free space") from error
