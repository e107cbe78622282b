"""The points of a command that may print very many of them: in few writes, and no more than can be drawn."""

import json
from collections.abc import Mapping
from typing import Final

from hotlap.core.errors import StorageError
from hotlap.core.files import append_json_line
from hotlap.core.run_folder import RunFolder

MOST_PER_SECOND: Final = 100
"""Points of training figures that are kept; those of the targets' metrics always are."""


class PointWriter:
    """Appends points to metrics.jsonl, each on a line of its own, those of one moment in one write."""

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.metrics_path
        self._lines: list[str] = []
        self._kept_at = float("-inf")
        self._is_new = True

    def add(self, point: Mapping[str, float | int], *, is_needed: bool) -> None:
        """Take a point in; one that is not needed is left out where many come at once."""
        at_seconds = float(point["wall_seconds"])
        if not is_needed and at_seconds - self._kept_at < 1 / MOST_PER_SECOND:
            return
        self._kept_at = at_seconds
        self._lines.append(json.dumps(point, ensure_ascii=False))

    def flush(self) -> None:
        """Write what was taken in; raises StorageError when it cannot be written."""
        if not self._lines:
            return
        first, *others = self._lines
        self._lines = []
        if self._is_new:  # closes what a killed writer may have left
            append_json_line(self._path, json.loads(first))
            self._is_new = False
        else:
            others = [first, *others]
        if not others:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n".join(others) + "\n")
        except OSError as error:
            raise StorageError(f"cannot append to {self._path}: {error.strerror or error}") from error
