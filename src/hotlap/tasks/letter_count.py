"""The task `letter_count`: read a word, write how often it has each of its letters (the WeLT benchmark's second task).

The answer to `neurosis` is `N1 E1 U1 R1 O1 S2 I1`: upper-cased letters in the order of their first occurrence. Answers
are made here, so any list of words will do, and any text.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hotlap.config.tasks import LetterCountConfig
from hotlap.tasks.examples import Example, TaskData
from hotlap.tasks.text_pieces import PieceTask, load_pieces

_RECIPE: Final = 1


def load_letter_count(config: LetterCountConfig, directory: Path, cache: Path) -> TaskData:
    """Return the task's examples, prepared now or taken from the cache.

    `directory` is what a relative `text` glob starts from. Raises DataError for text that is missing or unusable.
    """
    return load_pieces(PieceTask("word", _RECIPE, words_of, example_for), config, directory, cache)


def example_for(word: str) -> Example:
    """Put a word into the template; SO and SI (0x0E, 0x0F) bracket it."""
    return Example(f"<text>\x0e{word}\x0f<count> ", counts_of(word))


def counts_of(word: str) -> str:
    """Return the letters of a word, upper-cased, each with how often it occurs, in order of first occurrence."""
    return " ".join(f"{letter}{count}" for letter, count in Counter(_letters(word)).items())


def _letters(word: str) -> list[str]:
    """Return the upper-cased letters of a word; marks that have no letter of their own stay with the one before."""
    letters: list[str] = []
    for sign in unicodedata.normalize("NFC", word.upper()):
        if letters and _kind(sign) == "M":
            letters[-1] += sign
        else:
            letters.append(sign)
    return letters


def words_of(text: str, min_bytes: int, max_bytes: int) -> Iterator[str]:
    """Yield the words of a text in lower case whose UTF-8 length lies within the bounds.

    A word is what stands between white space, without the signs around it; one that holds anything but letters then,
    such as an apostrophe, a hyphen or a digit, is left out.
    """
    for token in text.split():
        word = unicodedata.normalize("NFC", _without_signs(token).lower())
        is_word = word.isalpha() or (word != "" and all(_kind(sign) in "LM" for sign in word))
        if is_word and min_bytes <= len(word.encode()) <= max_bytes:
            yield word


def _without_signs(token: str) -> str:
    """Return what stands between the first and the last letter or digit, with its marks; empty: there is none."""
    if token.isalpha():
        return token
    start, end = 0, len(token)
    while start < end and _kind(token[start]) not in "LN":
        start += 1
    while end > start and _kind(token[end - 1]) not in "LMN":
        end -= 1
    return token[start:end]


def _kind(sign: str) -> str:
    """Return the first letter of a sign's category in Unicode: L for letters, M for marks."""
    return unicodedata.category(sign)[0]
