"""Writes `run-ID.wandb` as wandb does: LevelDB's framing, and protocol buffers with the fields that a run has."""

import json
import struct
import zlib
from collections.abc import Iterable
from typing import Any

BLOCK = 32768


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a field of a protocol buffer: a whole number, a text or a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def item(path: str | tuple[str, ...], value: Any) -> bytes:
    """Return an item of a history, config or summary record; a path is a nested key."""
    key = field(1, path) if isinstance(path, str) else b"".join(field(2, part) for part in path)
    return key + field(16, json.dumps(value))


def history(step: int, values: dict[Any, Any]) -> bytes:
    items = b"".join(field(1, item(key, value)) for key, value in {**values, "_step": step}.items())
    return field(1, 7) + field(2, items + field(2, field(1, step)))


def config(values: dict[Any, Any]) -> bytes:
    return field(5, b"".join(field(1, item(key, value)) for key, value in values.items()))


def summary(values: dict[Any, Any], removed: Iterable[str] = ()) -> bytes:
    items = b"".join(field(1, item(key, value)) for key, value in values.items())
    return field(3, items + b"".join(field(2, item(key, None)) for key in removed))


def run(run_id: str, settings: dict[Any, Any], name: str = "glad-sun-7", project: str = "tiny") -> bytes:
    items = b"".join(field(1, item(key, value)) for key, value in settings.items())
    facts = field(1, run_id) + field(3, project) + field(4, items) + field(8, name) + field(10, "first")
    return field(17, facts + field(12, "sweep1") + field(17, field(1, 1_790_000_000) + field(2, 5)))


def ended(exit_code: int = 0) -> bytes:
    """Return the record of the end; like every number, a 0 is left out of its message."""
    return field(18, field(1, exit_code) if exit_code else b"")


def framed(records: Iterable[bytes]) -> bytes:
    """Return a whole log."""
    out = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for record in records:
        rest, is_first = record, True
        while rest or is_first:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                left = BLOCK
            piece, rest = rest[: left - 7], rest[left - 7 :]
            kind = (2 if rest else 1) if is_first else (3 if rest else 4)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
            is_first = False
    return bytes(out)
