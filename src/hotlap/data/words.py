"""Text cut into words without loss, for models that read words as strings of bytes.

A word is one control character (U+0001–0008, U+000E–001F, U+007F), a run of anything but these and white space together
with one white space after it, or a run of white space. One that is too long is cut between characters as people see
them (grapheme clusters, UAX #29), and only where one of these is too long itself, between its code points. The words
put end to end are the text. It is the segmentation of WeLT (the package words-segmentation), with three differences:
Chinese, Japanese, Thai and SignWriting get no segmenters of their own, no word is longer than asked for, and a control
character never counts as the white space after a word. A test holds words against those that package made.
"""

import re
from collections.abc import Iterator
from typing import Final

import regex

BOS, EOS = 2, 3
"""Bytes that stand before and after the bytes of every word."""
SHIFT_OUT, SHIFT_IN = 0x0E, 0x0F
"""Between these the words of a prompt see each other in both directions."""
FEWEST_PLACES: Final = 6
"""A word takes one character of UTF-8 at least, with BOS and EOS."""

_CONTROL: Final = r"\x01-\x08\x0e-\x1f\x7f"
_SPACE: Final = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WORD: Final = re.compile(rf"[{_CONTROL}]|[^{_SPACE}{_CONTROL}]+[{_SPACE}]?|[{_SPACE}]+")
_ASCII_WORD: Final = re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]|[^\t-\r \x01-\x08\x0e-\x1f\x7f]+[\t-\r ]?|[\t-\r ]+")
_CHARACTER: Final = regex.compile(r"\X")


def split_words(data: bytes, max_word_length: int) -> list[bytes]:
    """Return the words of a text, none of which takes more than `max_word_length` places with BOS and EOS.

    Bytes that are no UTF-8 count as a character each. Raises ValueError for fewer than 6 places.
    """
    if max_word_length < FEWEST_PLACES:
        raise ValueError(f"max_word_length is {max_word_length}; one character with BOS and EOS takes {FEWEST_PLACES}")
    most = max_word_length - 2
    words = _ASCII_WORD.findall(data) if data.isascii() else [_bytes(word) for word in _WORD.findall(_text(data))]
    if max(map(len, words), default=0) <= most:
        return words
    return [part for word in words for part in ([word] if len(word) <= most else _cut(word, most))]


def _cut(word: bytes, most: int) -> Iterator[bytes]:
    """Yield a word in parts of at most so many bytes, each as long as it can be."""
    part = b""
    for piece in _pieces(word, most):
        if len(part) + len(piece) > most:
            yield part
            part = b""
        part += piece
    yield part


def _pieces(word: bytes, most: int) -> Iterator[bytes]:
    """Yield what must not be cut."""
    for character in _CHARACTER.findall(_text(word)):
        whole = _bytes(character)
        yield from [whole] if len(whole) <= most else map(_bytes, character)


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")
