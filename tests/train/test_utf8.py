"""Bytes that may follow: against Python's own decoder, byte by byte."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.train.utf8 import allowed_bytes, is_whole_word

ROOM = 14


def can_be_finished(data: bytes, room: int) -> bool:
    """Say whether some continuation of at most `room` bytes makes valid UTF-8 of it, by asking the decoder."""
    endings = [b"", b"\x80", b"\xa0", b"\x90", b"\x80\x80", b"\xa0\x80", b"\x90\x80", b"\x80\x80\x80", b"\x90\x80\x80"]
    for ending in endings:
        try:
            (data + ending).decode()
        except UnicodeDecodeError:
            continue
        if len(ending) <= room:
            return True
    return False


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=3), cut=st.integers(0, 3), room=st.integers(1, 5))
def test_a_byte_is_allowed_where_the_word_can_still_become_text(text: str, cut: int, room: int) -> None:
    whole = text.encode()
    word = whole[: max(0, len(whole) - cut)]
    if not can_be_finished(word, room):
        return  # a word that was begun where it does not fit is never met
    allowed = allowed_bytes(word, room)
    is_text = not any(byte >= 0x80 for byte in word[-1:]) or word.decode(errors="ignore").encode() == word
    for byte in set(range(256)) - {0, 2, 3}:
        assert bool(allowed[byte]) == can_be_finished(word + bytes([byte]), room - 1), (word, byte)
    assert bool(allowed[3]) == is_text
    assert not allowed[0] and not allowed[2]


@pytest.mark.parametrize(
    ("word", "is_whole"),
    [
        (b"", False),
        (b"cat", False),
        (b"cat ", True),
        (b"cat\n", True),
        (b" ", False),
        (b" \n", False),
        (b"\x0e", True),
        (b"\x7f", True),
        ("é".encode()[:1], False),
        ("é ".encode(), True),
        ("é\u3000".encode(), True),
        ("é\u3000".encode()[:-1], False),
        ("\u3000".encode(), False),
    ],
)
def test_a_word_is_whole_behind_its_space(word: bytes, is_whole: bool) -> None:
    assert is_whole_word(word) is is_whole


@given(text=st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=4))
def test_a_word_without_space_or_control_can_go_on(text: str) -> None:
    assert not any(unicodedata.category(character) == "Cc" for character in text)
    assert not is_whole_word(text.encode())
    assert is_whole_word((text + " ").encode())
