"""Read `run-ID.wandb`, the log that wandb keeps of a run, without the wandb package.

It is LevelDB's log format (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of 7 bytes,
with zlib's CRC-32 as checksum; every record is a protocol buffer `Record` of `wandb/proto/wandb_internal.proto`, whose
field numbers never change. Read are only the fields that a run needs.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import DataError
from hotlap.core.protobuf import fields

_HEADER: Final = struct.Struct("<4sHB")
_IDENT, _MAGIC, _VERSION = b":W&B", 0xBEE1, 0
_RECORD: Final = struct.Struct("<IHB")
"""Checksum, length and kind of a piece of a record."""
_BLOCK: Final = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

_UPDATE, _REMOVE = 1, 2
"""Fields of the records of config and summary; the items of a history record are its field 1, too."""


@dataclass(slots=True)
class WandbLog:
    """What a log says of its run."""

    run_id: str = ""
    name: str = ""
    project: str = ""
    sweep: str = ""
    started_at: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    """The last value of everything that was logged, by dotted name."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """What was logged, a line each, by dotted name; `_step` is among it."""
    exit_code: int | None = None
    """None in a log without an end."""
    damage: str = ""
    """Where it could not be read any further, and why; empty for a whole log."""


def read_log(path: Path) -> WandbLog:
    """Read a log as far as it is whole.

    Raises DataError for a file that is none.
    """
    log = WandbLog()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) < _HEADER.size or _HEADER.unpack_from(data) != (_IDENT, _MAGIC, _VERSION):
        raise DataError(f"{path}: no log of wandb's: it begins with {data[:7]!r}, expected {_IDENT!r} and version 0")
    try:
        for record in records(data):
            _take(record, log)
    except (ValueError, OverflowError, OSError) as error:  # the last two: a time that no calendar holds
        log.damage = str(error)
    return log


def records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a log, put together from their pieces; one that was cut off while written is left out.

    Raises ValueError, with the byte, where the file is damaged.
    """
    at, pieces = _HEADER.size, bytearray()
    while at + _RECORD.size <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _RECORD.size:
            at += left  # the end of a block that no piece fits into
            continue
        checksum, length, kind = _RECORD.unpack_from(data, at)
        piece = data[at + _RECORD.size : at + _RECORD.size + length]
        if len(piece) < length:
            return
        if not _FULL <= kind <= _LAST or zlib.crc32(piece, zlib.crc32(bytes([kind]))) != checksum:
            raise ValueError(f"damaged at byte {at:,} of {len(data):,}")
        at += _RECORD.size + length
        if kind in (_FULL, _FIRST):
            pieces.clear()
        pieces += piece
        if kind in (_FULL, _LAST):
            yield bytes(pieces)


def _take(record: bytes, log: WandbLog) -> None:
    """Add what a record says."""
    for number, value in fields(record):
        if not isinstance(value, bytes):
            continue
        match number:
            case 2:  # history
                line = {".".join(path): inner for path, inner in _items(value, _UPDATE)}
                line.setdefault("_step", _step(value))
                log.history.append(line)
                log.summary.update(line)
            case 3:  # summary
                log.summary.update({".".join(path): inner for path, inner in _items(value, _UPDATE)})
                for path, _ in _items(value, _REMOVE):
                    log.summary.pop(".".join(path), None)
            case 5:  # config
                _set_config(value, log)
            case 17:  # run
                _take_run(value, log)
            case 18:  # exit
                code = next((code for key, code in fields(value) if key == 1 and isinstance(code, int)), 0)
                log.exit_code = code - 2**64 if code >= 2**63 else code


def _items(message: bytes, wanted: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield key path and value of the items that a history, config or summary record holds in a field."""
    for number, value in fields(message):
        if number != wanted or not isinstance(value, bytes):
            continue
        key, text = "", "null"
        nested: list[str] = []
        for inner, content in fields(value):
            if isinstance(content, bytes):
                match inner:
                    case 1:
                        key = content.decode()
                    case 2:
                        nested.append(content.decode())
                    case 16:
                        text = content.decode()
        yield tuple(nested) or (key,), json.loads(text)


def _step(history: bytes) -> int:
    """Return the step of a history record, which stands beside its items."""
    steps = [value for number, value in fields(history) if number == 2 and isinstance(value, bytes)]
    numbers = [value for step in steps for number, value in fields(step) if number == 1 and isinstance(value, int)]
    return numbers[-1] if numbers else 0


def _set_config(message: bytes, log: WandbLog) -> None:
    for path, value in _items(message, _UPDATE):
        section = log.config
        for part in path[:-1]:
            inner = section.get(part)
            if not isinstance(inner, dict):
                inner = section[part] = {}
            section = inner
        section[path[-1]] = value
    for path, _ in _items(message, _REMOVE):
        if len(path) == 1:
            log.config.pop(path[0], None)


def _take_run(message: bytes, log: WandbLog) -> None:
    """Take what is said of the run itself; it is said again whenever something of it changes."""
    tags = []
    for number, value in fields(message):
        if not isinstance(value, bytes):
            continue
        match number:
            case 1:
                log.run_id = value.decode()
            case 3:
                log.project = value.decode()
            case 4:
                _set_config(value, log)
            case 8:
                log.name = value.decode()
            case 10:
                tags.append(value.decode())
            case 12:
                log.sweep = value.decode()
            case 17:
                seconds = next((inner for key, inner in fields(value) if key == 1 and isinstance(inner, int)), 0)
                log.started_at = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    log.tags = tags or log.tags
