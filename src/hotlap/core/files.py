"""Files that survive a crash: atomic writes, one flushed line per record, partial last lines left for later."""

import errno
import glob
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import StorageError

_CUT_OFF: Final = b" ... cut off\n"
"""Closes a line that its writer could not finish: no JSON text ends like this, so it is never read as a whole one."""


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new content, never half of it, also after a power cut.

    Raises StorageError when the folder is read-only or the disk is full.
    """
    _remove_temporaries(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error
    sync_name(path)


def sync_name(path: Path) -> None:
    """Wait until the name of a new file or folder is on the disk: without it the content is lost."""
    with suppress(OSError):  # not every network file system can do this for a folder
        sync(path.parent)


def _remove_temporaries(path: Path) -> None:
    """Remove what writers of a file left beside it when they were killed; one that still writes keeps its own."""
    head = f"{path.name}."
    for temporary in path.parent.glob(f"{glob.escape(head)}*.tmp"):
        pid = temporary.name[len(head) : -len(".tmp")]
        if pid.isdigit() and int(pid) != os.getpid() and not _is_process(int(pid)):
            with suppress(OSError):
                temporary.unlink()


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def is_disk_full(error: BaseException) -> bool:
    """Say whether an error comes of a full disk, or of a quota or a limit that is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping stored in a file, or None when there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def append_json_line(path: Path, value: Mapping[str, Any], *, durable: bool = False) -> None:
    """Append one JSON object as one flushed line; `durable` also waits for the disk.

    A partial line that a killed writer left at the end is closed first, so that it swallows no other line and never
    counts, not even if nothing but its line break was missing.
    Raises StorageError when it cannot be written.
    """
    try:
        with path.open("ab+") as file:
            is_new = not file.tell()
            if not is_new and not _ends_with_newline(file):
                file.write(_CUT_OFF)
            file.write(_json_line(value).encode())
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if durable and is_new:
            sync_name(path)
    except OSError as error:
        raise StorageError(f"cannot append to {path}: {error.strerror or error}") from error


def _json_line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    last: bytes = file.read(1)
    return last == b"\n"


class LineReader:
    """Reads the complete JSON lines that were added since the last look; a partial last line waits.

    A file that was cut, or replaced by another one, is read again from its start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode = 0

    def read_new(self) -> list[dict[str, Any]]:
        """Return every complete, well-formed line added since the last call."""
        try:
            with self._path.open("rb") as file:
                facts = os.fstat(file.fileno())
                if facts.st_ino != self._inode or facts.st_size < self._offset:
                    self._inode, self._offset = facts.st_ino, 0
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        return [value for value in _parsed(data[:complete].splitlines()) if isinstance(value, dict)]


def _parsed(lines: Sequence[bytes]) -> list[Any]:
    """Return the value of every line that holds one, quickly where all of them do."""
    try:
        values: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")
    except ValueError:
        values = []
    if len(values) == len(lines):
        return values
    values = []
    for line in lines:
        with suppress(ValueError):  # the closed-off fragment of a writer that was killed
            values.append(json.loads(line))
    return values


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return all complete lines of a file; an absent file has none."""
    return LineReader(path).read_new()


def move_lines(path: Path, aside: Path, is_moved: Callable[[dict[str, Any]], bool]) -> int:
    """Move some of a file's lines to the end of another file; return how many.

    They are on the disk in their new place before they leave the old one: a crash may double them, not lose them.
    Raises StorageError when a file cannot be written.
    """
    kept: list[dict[str, Any]] = []
    moved: list[dict[str, Any]] = []
    for line in read_json_lines(path):
        (moved if is_moved(line) else kept).append(line)
    for number, line in enumerate(moved, start=1):
        append_json_line(aside, line, durable=number == len(moved))
    if moved:
        write_atomic(path, "".join(map(_json_line, kept)))
    return len(moved)


def remove_tree(folder: Path) -> None:
    """Remove a folder, also one whose folders may not be written in; links are removed, not followed."""
    if not folder.exists():
        return
    folder.chmod(stat.S_IRWXU)
    for path, names, _ in os.walk(folder):  # which looks into the folders once they were made readable
        for inner in (Path(path, name) for name in names):
            if not inner.is_symlink():  # what it leads to is the user's
                inner.chmod(stat.S_IRWXU)
    shutil.rmtree(folder)
