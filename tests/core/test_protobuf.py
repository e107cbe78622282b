"""Fields of protocol buffers."""

import struct

import pytest

from hotlap.core.protobuf import fields

MESSAGE = b"\x08\x96\x01" + b"\x12\x02hi" + b"\x19" + struct.pack("<d", 1.5) + b"\x25" + struct.pack("<f", 0.5)


def test_integers_and_bytes_are_read_and_fixed_numbers_when_asked_for() -> None:
    assert list(fields(MESSAGE)) == [(1, 150), (2, b"hi")]
    fixed = [(3, struct.pack("<d", 1.5)), (4, struct.pack("<f", 0.5))]
    assert list(fields(MESSAGE, with_fixed=True)) == [(1, 150), (2, b"hi"), *fixed]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (b"\x12\x05hi", "a field is longer than its message"),
        (b"\x08\x96", "a number is cut off"),
        (b"\x0b", "a field has the unknown wire type 3"),
    ],
)
def test_a_broken_message_is_refused(message: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        list(fields(message))
