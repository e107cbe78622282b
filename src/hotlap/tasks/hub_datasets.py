"""Text of Hugging Face data sets (extra `hf`): of the hub by name, or of a folder; downloaded, or read as it comes.

A data set that was downloaded is named by its fingerprint, which follows from its content. One that is streamed cannot
be named before it was read, so what names it is what it was asked for by, and for a folder the files in it.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import DataError, import_optional
from hotlap.tasks.documents import CHUNK_BYTES, TextsChunk, text_problem

_ROWS: Final = 256
_SAVED: Final = ("dataset_info.json", "dataset_dict.json", "state.json")
"""What lies in a folder of `save_to_disk`, one of them at least."""


@dataclass(frozen=True, slots=True)
class DatasetTexts:
    """The rows of one column of a data set, each a document."""

    name: str
    """Of the hub, or a folder."""
    config: str | None
    split: str
    key: str
    is_streamed: bool

    @property
    def identity(self) -> str:
        """Names the content, or where it comes from when it is streamed."""
        if not self.is_streamed:
            content: Any = _load(self.name, self.config, self.split, False)._fingerprint
        else:
            content = [self.name, self.config, self.split, _folder_state(Path(self.name))]
        return hashlib.sha256(json.dumps(["dataset", content, self.key]).encode()).hexdigest()

    @property
    def num_bytes(self) -> int | None:
        """Bytes of the text, where the data set tells."""
        size = getattr(_load(self.name, self.config, self.split, self.is_streamed).info, "dataset_size", None)
        return int(size) if size else None

    def chunks(self) -> Iterator[TextsChunk]:
        """Yield the stretches; they come one after the other, from one process.

        Raises DataError for a data set that cannot be had, has no such column, or has a row without text.
        """
        texts: list[str] = []
        size = 0
        for row, value in enumerate(self._values()):
            problem = text_problem(value, self.key)
            if problem:
                raise DataError(f"task.dataset_name: {self.name}, {self.split}: row {row}: {problem}")
            texts.append(value)
            size += len(value.encode())
            if size >= CHUNK_BYTES:
                yield TextsChunk(tuple(texts), size)
                texts, size = [], 0
        if texts:
            yield TextsChunk(tuple(texts), size)

    def _values(self) -> Iterator[Any]:
        data = _load(self.name, self.config, self.split, self.is_streamed)
        names = data.column_names
        if names is not None and self.key not in names:
            raise DataError(
                f"task.dataset_name: {self.name} has no column {self.key!r}; it has {', '.join(names)}; name it with "
                "task.text_key"
            )
        try:
            if self.is_streamed:
                yield from (row.get(self.key) for row in data)
            else:
                for first in range(0, len(data), _ROWS):
                    yield from data[first : first + _ROWS][self.key]
        except Exception as error:  # of many kinds: a connection that broke, a damaged file
            raise DataError(f"task.dataset_name: {self.name}: cannot be read on: {_first_line(error)}") from error


@lru_cache(maxsize=4)
def _load(name: str, config: str | None, split: str, is_streamed: bool) -> Any:
    """Return a split of a data set; raises DataError when it cannot be had."""
    library = import_optional("datasets", "hf")
    library.disable_progress_bars()
    folder = Path(name)
    try:
        if folder.is_dir() and any((folder / one).is_file() for one in _SAVED):
            found = library.load_from_disk(name)
            found = found[split] if hasattr(found, "keys") else found
            return found.to_iterable_dataset() if is_streamed else found
        return library.load_dataset(name, config, split=split, streaming=is_streamed)
    except Exception as error:  # of many kinds: no such name, no such split, no network, no files
        where = "" if folder.is_dir() else "; it is no folder here"
        raise DataError(
            f"task.dataset_name: {name}, {config or 'default'}, {split}: cannot be loaded{where}: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _folder_state(folder: Path) -> list[Any]:
    """Return what tells whether a folder's files are the same ones, without reading them."""
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [path.stat() for path in paths]
    return [[path.name, one.st_size, one.st_mtime_ns] for path, one in zip(paths, facts, strict=True)]
