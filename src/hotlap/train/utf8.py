"""Which bytes may follow in a word of valid UTF-8, and when a word is whole."""

import re
from functools import cache
from typing import Final

import torch
from torch import Tensor

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_PAD, _BOS, _EOS = 0, 2, 3
_FIRST_AFTER: Final = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}
"""Second bytes after those first bytes that do not take every one (RFC 3629: no overlong forms, no surrogates)."""


def allowed_bytes(word: bytes, room: int) -> Tensor:
    """Return which bytes may come next in a word that has room for `room` more, (256,) bool; byte 3 ends the word.

    A character has to fit as a whole. The marks of padding and of a beginning are never written.
    """
    first, missing = _open_character(word)
    if not missing:
        return _beginnings(min(room, 4))
    any_byte = (0x80, 0xBF)
    return _between(*(_FIRST_AFTER.get(first, any_byte) if word[-1] == first else any_byte))


def is_whole_word(word: bytes) -> bool:
    """Say whether nothing can be added to a word: it is a control character, or has a space behind its characters."""
    if _CONTROL.fullmatch(word):
        return True
    if not word or _open_character(word)[1]:
        return False
    text = word.decode("utf-8", errors="replace")
    return text[-1].isspace() and not text.isspace()


def _open_character(word: bytes) -> tuple[int, int]:
    """Return the first byte of the last character where that is not whole, and how many bytes are missing."""
    for back in range(1, min(4, len(word)) + 1):
        byte = word[-back]
        if byte < 0x80:
            return 0, 0
        if byte >= 0xC0:
            return byte, _length_of(byte) - back
    return 0, 0


def _length_of(first: int) -> int:
    """Return the bytes of the character that a byte begins."""
    return 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4


@cache
def _beginnings(room: int) -> Tensor:
    allowed = torch.zeros(256, dtype=torch.bool)
    for first in [*range(0x80), *range(0xC2, 0xF5)]:
        allowed[first] = _length_of(first) <= room
    allowed[_PAD] = allowed[_BOS] = False
    allowed[_EOS] = True
    return allowed


@cache
def _between(first: int, last: int) -> Tensor:
    allowed = torch.zeros(256, dtype=torch.bool)
    allowed[first : last + 1] = True
    return allowed
