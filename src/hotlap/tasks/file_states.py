"""Which files a text stands in, what they hold, and whether they still do.

A file is named by the hash of its content, never by its name or its time: a corpus that was moved is known again, and
one that was changed is another. Hashing a large corpus before every run would cost seconds, so a hash is remembered for
as long as the file system says that the file was not touched: size, both times and inode, as git does it. One that was
written within the last two seconds is not remembered, since it could be written again within the same tick.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hotlap.core.errors import DataError
from hotlap.core.files import read_json, write_json
from hotlap.tasks.sentences import matching_files

FileKind = Literal["text", "lines", "table"]

_LINES: Final = (".jsonl", ".ndjson")
_PACKED: Final = (".zst", ".xz", ".bz2", ".zip", ".7z", ".tar", ".tgz", ".tar.gz", ".rar")
_REMEMBERED_BYTES: Final = 16 << 20
"""Below so many bytes in all, hashing takes no time that anybody would notice."""
_TICK_NANOSECONDS: Final = 2_000_000_000


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file with text, as it was when its content was hashed."""

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: str
    """SHA-256 of the content."""

    @property
    def is_packed(self) -> bool:
        """Whether gzip packed it."""
        return self.path.name.lower().endswith(".gz")

    @property
    def kind(self) -> FileKind:
        """What the file's name says that it holds: plain text, JSON lines, or a Parquet table."""
        name = self.path.name.lower().removesuffix(".gz")
        return "lines" if name.endswith(_LINES) else "table" if name.endswith(".parquet") else "text"


def find_files(names: str | Sequence[str], directory: Path, key: str) -> list[Path]:
    """Return the files that names stand for: files, folders (everything below them that is not hidden), or globs.

    Relative ones start from `directory`. Raises DataError, with the setting's `key`, where a name stands for none.
    """
    found: dict[Path, None] = {}
    for name in [names] if isinstance(names, str) else names:
        path = directory / name
        if path.is_dir():
            below = [one for one in sorted(path.rglob("*")) if one.is_file() and not _is_hidden(one.relative_to(path))]
            if not below:
                raise DataError(f"{key}: the folder {path} holds no file")
            found.update(dict.fromkeys(below))
        else:
            found.update(dict.fromkeys([path] if path.is_file() else matching_files(name, directory, key)))
    for path in found:
        packed = next((ending for ending in _PACKED if path.name.lower().endswith(ending)), None)
        if packed is not None:
            raise DataError(f"{path}: {packed} files cannot be read; unpack it, or pack each text with gzip")
    return list(found)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def file_states(paths: Iterable[Path], cache: Path) -> tuple[TextFile, ...]:
    """Return files with what names their content; large ones that were not touched since are not read again.

    Raises DataError for a file that cannot be read, that changes, or when all are empty.
    """
    paths = list(paths)
    try:
        facts = {path: path.stat() for path in paths}
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror or error}") from error
    total = sum(one.st_size for one in facts.values())
    if not total:
        told = f"{paths[0]} is empty" if len(paths) == 1 else f"all {len(paths)} files are empty, {paths[0]} the first"
        raise DataError(f"{told}; give text")
    named = hashlib.sha256(json.dumps([str(path) for path in paths]).encode()).hexdigest()[:16]
    memory = cache / f"hashes-{named}.json"
    known = (read_json(memory) or {}) if total > _REMEMBERED_BYTES else {}
    files, remembered, now = [], {}, time.time_ns()
    for path, one in facts.items():
        state = (one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino)
        before = known.get(str(path))
        digest = before[-1] if before is not None and tuple(before[:-1]) == state else _digest(path, one)
        files.append(TextFile(path, *state, digest=digest))
        if max(one.st_mtime_ns, one.st_ctime_ns) < now - _TICK_NANOSECONDS:
            remembered[str(path)] = [*state, digest]
    if total > _REMEMBERED_BYTES and remembered != known:
        cache.mkdir(parents=True, exist_ok=True)
        write_json(memory, remembered)
    return tuple(files)


def _digest(path: Path, before: os.stat_result) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            now = os.fstat(file.fileno())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    file_before = TextFile(path, before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino, "")
    refuse_changed(file_before, now)
    return digest


def refuse_changed(file: TextFile, now: os.stat_result) -> None:
    """Raise DataError when a file is not any more what it was: its content would get another's name."""
    mend = "let nothing write to it, and start again"
    if now.st_size < file.size:
        raise DataError(
            f"{file.path}: shrank from {file.size:,} to {now.st_size:,} bytes while it was being read; {mend}"
        )
    if (now.st_size, now.st_mtime_ns, now.st_ctime_ns) != (file.size, file.mtime_ns, file.ctime_ns):
        raise DataError(f"{file.path}: changed while it was being read; {mend}")
