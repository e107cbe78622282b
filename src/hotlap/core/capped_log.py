"""The log of a run that may print without end: its beginning and its end are kept, so that it cannot fill the disk.

stdout.log                       the first 64 MiB, and a line that says where the rest is
stdout.6.log, stdout.7.log       the last pieces, of 32 MiB each, of what came after

log = CappedLog(folder.stdout_path); log.write(b"...")            # in the process whose output is that file
for data in LogFollower(folder.stdout_path).read(): ...           # all of it, for who keeps up
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

HEAD_BYTES: Final = 2**26
"""Kept of the beginning."""
PIECE_BYTES: Final = 2**25
"""Size of the pieces of what comes after it."""
KEPT_PIECES: Final = 2
"""The last ones stay: the one that is written, and a full one before it."""
_LONGEST_LINE: Final = 2**20
"""From so many bytes beyond its size on a file ends within a line."""
_READ_BYTES: Final = 2**20


class CappedLog:
    """Writes to the descriptors of a process that lead to a log, and turns them to another file where one is full."""

    def __init__(
        self,
        path: Path,
        descriptors: Sequence[int] = (1, 2),
        head_bytes: int = HEAD_BYTES,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        """Take the log's path and what leads to it; descriptors that lead elsewhere, to a terminal, have no cap."""
        self._path = path
        self._descriptors = descriptors
        self._piece_bytes = piece_bytes
        self._number = max(piece_numbers(path), default=0)
        self._is_capped = _leads_to(descriptors[0], path)
        self._left = head_bytes - (path.stat().st_size if self._is_capped else 0)
        self._head_bytes = head_bytes

    def write(self, data: bytes) -> None:
        """Write some bytes; raises OSError where the disk is full."""
        self._left -= len(data)
        if self._is_capped and self._left < 0:
            end = data.rfind(b"\n") + 1
            if end or self._left < -_LONGEST_LINE:
                self._write(data[:end])
                data = data[end:]
                self._begin_piece(is_cut=not end)
        self._write(data)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptors[0], data) :]

    def _begin_piece(self, *, is_cut: bool) -> None:
        if not self._number:
            told = (
                f"hotlap: {self._path.name} ends here, at {self._head_bytes:,} bytes. Of what comes next the last "
                f"{self._piece_bytes:,} bytes or more are kept, in the {self._path.stem}.N{self._path.suffix} with the "
                "highest N; metrics are read from all of it\n"
            )
            self._write(("\n" * is_cut + told).encode())
        self._number += 1
        descriptor = os.open(_piece(self._path, self._number), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            for each in self._descriptors:
                os.dup2(descriptor, each)
        finally:
            os.close(descriptor)
        self._left = self._piece_bytes
        with suppress(FileNotFoundError):
            _piece(self._path, self._number - KEPT_PIECES).unlink()


class LogFollower:
    """Reads what is added to a log, from its beginning; who is slower than the writer by two pieces misses some."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        self._file: IO[bytes] | None = None

    def read(self) -> Iterator[bytes]:
        """Yield what has been added since the last call; what is missing is said in a line."""
        while True:
            later = [number for number in piece_numbers(self._path) if number > self._number]
            if self._file is None:
                with suppress(FileNotFoundError):
                    self._file = (_piece(self._path, self._number) if self._number else self._path).open("rb")
            while self._file is not None and (data := self._file.read(_READ_BYTES)):
                yield data
            if not later:  # asked before the reading: a file that has a successor is whole
                return
            self.close()
            if later[0] > self._number + 1:
                yield b"hotlap: output came faster than it was read here; some of it is not shown\n"
            self._number = later[0]

    def close(self) -> None:
        """Close the file that it is at."""
        if self._file is not None:
            self._file.close()
            self._file = None


def piece_numbers(path: Path) -> list[int]:
    """Return the numbers of the pieces that a log has beside it, the oldest first."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.(\d+){re.escape(path.suffix)}")
    try:
        names = [each.name for each in path.parent.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))


def log_position(path: Path) -> tuple[int, int]:
    """Return the number of the last piece (0: the log itself) and its size in bytes: it changes with each output."""
    number = max(piece_numbers(path), default=0)
    try:
        return number, (_piece(path, number) if number else path).stat().st_size
    except FileNotFoundError:
        return number, 0


def log_end(path: Path, num_bytes: int) -> bytes:
    """Return the last bytes of a log; none where it is not there."""
    found = b""
    for number in [*reversed(piece_numbers(path)), 0]:
        with suppress(FileNotFoundError), (_piece(path, number) if number else path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - (num_bytes - len(found))))
            found = file.read() + found
        if len(found) >= num_bytes:
            break
    return found


def _piece(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def _leads_to(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
