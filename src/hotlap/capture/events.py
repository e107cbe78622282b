"""Scalars in TensorBoard's event files, read without the tensorboard package.

A file is a row of records: length, checksum of the length, a protocol buffer `Event`, checksum of it
(https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto). The checksums are left
alone: a record that does not end yet waits for the next look, and one that is broken ends the reading of its file.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hotlap.capture.printed import Number
from hotlap.capture.reading import Found
from hotlap.core.protobuf import fields
from hotlap.core.trainer_names import rewritten_metric_name

PATTERN: Final = "*.tfevents.*"
_LENGTH: Final = struct.Struct("<Q")
_AROUND: Final = 16
"""Bytes of a record beside its message: the length and both checksums."""
_MAX_RECORD: Final = 1 << 28
_FLOAT, _DOUBLE = 1, 2
_FLOAT32_SHARE: Final = 1.2e-7
"""A number of float32 may be off by so much of itself, from side to side."""


class EventFiles:
    """The event files of a folder and below, or one of them."""

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self._path = path
        self._offsets = {file: _size(file) for file in self._files()}

    def read(self) -> list[Found]:
        """Return what has been added since the last call, by step."""
        found = [each for file in self._files() for each in self._new(file)]
        return sorted(found, key=lambda each: (each.step or 0, each.unix_seconds or 0.0))

    def _files(self) -> list[Path]:
        if ".tfevents." in self._path.name:
            return [self._path]
        return sorted(self._path.rglob(PATTERN)) if self._path.is_dir() else []

    def _new(self, file: Path) -> list[Found]:
        offset = self._offsets.get(file, 0)
        if offset < 0 or _size(file) <= offset:
            return []
        try:
            with file.open("rb") as opened:
                opened.seek(offset)
                data = opened.read()
            found: dict[int, Found] = {}
            for message, length in _records(data):
                offset += length
                _take(message, found)
        except OSError as error:
            self._give_up(file, str(error.strerror or error))
            return []
        except (ValueError, struct.error) as error:
            self._give_up(file, f"no event file, or a broken one: {error}")
            return []
        self._offsets[file] = offset
        return list(found.values())

    def _give_up(self, file: Path, reason: str) -> None:
        self._offsets[file] = -1
        if len(self.problems) < 100:
            self.problems.append(f"{file}: cannot be read: {reason}")


def _records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each whole message and the length of its record; raises ValueError for what is none."""
    at = 0
    while at + _AROUND <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        if length > _MAX_RECORD:
            raise ValueError(f"a record of {length:,} bytes")
        if at + _AROUND + length > len(data):
            return
        yield data[at + 12 : at + 12 + length], _AROUND + length
        at += _AROUND + length


def _take(message: bytes, found: dict[int, Found]) -> None:
    """Add the scalars of one event to those of its step."""
    step, seconds, summaries = 0, 0.0, []
    for key, value in fields(message, with_fixed=True):
        if key == 1 and isinstance(value, bytes) and len(value) == 8:
            (seconds,) = struct.unpack("<d", value)
        elif key == 2 and isinstance(value, int):
            step = value if value < 1 << 63 else value - (1 << 64)
        elif key == 5 and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for key, value in fields(summary):
            scalar = _scalar(value) if key == 1 and isinstance(value, bytes) else None
            if scalar is None:
                continue
            name, number = scalar
            name = rewritten_metric_name(name)
            entry = found.setdefault(step, Found(source="tensorboard", numbers={}, step=step))
            entry.numbers[name] = number
            entry.unix_seconds = seconds


def _scalar(message: bytes) -> tuple[str, Number] | None:
    """Return tag and number of one value of a summary; None for pictures, texts and histograms."""
    tag, number = "", None
    for key, value in fields(message, with_fixed=True):
        if key == 1 and isinstance(value, bytes):
            tag = value.decode("utf-8", "replace")
        elif key == 2 and isinstance(value, bytes) and len(value) == 4:
            number = _float32(value)
        elif key == 8 and isinstance(value, bytes):
            number = _tensor(value)
    return (tag, number) if tag and number is not None else None


def _tensor(message: bytes) -> Number | None:
    """Return the number of a tensor with one element of float32 or float64; None for any other."""
    kind, content = 0, b""
    for key, value in fields(message, with_fixed=True):
        if key == 1 and isinstance(value, int):
            kind = value
        elif key in (4, 5, 6) and isinstance(value, bytes):
            content = value
        elif key == 2 and isinstance(value, bytes) and _num_elements(value) != 1:
            return None
    if kind == _FLOAT and len(content) == 4:
        return _float32(content)
    if kind == _DOUBLE and len(content) == 8:
        (value,) = struct.unpack("<d", content)
        return Number(value)
    return None


def _num_elements(shape: bytes) -> int:
    dimensions = [value for key, value in fields(shape) if key == 2 and isinstance(value, bytes)]
    sizes = [size for each in dimensions for key, size in fields(each) if key == 1 and isinstance(size, int)]
    return math.prod(sizes)


def _float32(content: bytes) -> Number:
    """Return a number of float32, with the digits that are left of what was written."""
    (value,) = struct.unpack("<f", content)
    if not math.isfinite(value) or value == 0:
        return Number(value)
    return Number(value, math.floor(-math.log10(_FLOAT32_SHARE * abs(value))))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
