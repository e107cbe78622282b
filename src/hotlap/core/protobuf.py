"""The wire format of protocol buffers, as far as reading a few known fields needs it."""

from collections.abc import Iterator

Field = tuple[int, int | bytes]


def fields(message: bytes, *, with_fixed: bool = False) -> Iterator[Field]:
    """Yield number and value of the fields of a message: integers, and the bytes of texts and messages.

    Numbers of fixed width come as their bytes, and only when they are asked for. Raises ValueError for a broken
    message.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise ValueError("a field is longer than its message")
                yield tag >> 3, message[at : at + length]
                at += length
            case 1 | 5 as kind:
                length = 8 if kind == 1 else 4
                if with_fixed:
                    yield tag >> 3, message[at : at + length]
                at += length
            case kind:
                raise ValueError(f"a field has the unknown wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while at < len(message):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
    raise ValueError("a number is cut off")
