"""Documents of running text: where they come from, in stretches that several processes can share out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

CHUNK_BYTES: Final = 8 << 20
"""Bytes of input in a stretch: what is made anew at most when a preparation is killed, for each process."""
LONGEST: Final = 1 << 20
"""Characters of the longest document; what is longer is cut at line ends into several."""


class Chunk(Protocol):
    """A stretch of the text: the same documents whenever it is read, by whatever process. It can be pickled."""

    @property
    def num_bytes(self) -> int:
        """Bytes of input that it stands for, to tell how far the work is."""

    def documents(self) -> Iterator[str]:
        """Yield its documents. Raises DataError for text that cannot be used, with the place."""


class TextSource(Protocol):
    """Where documents come from. It can be pickled."""

    @property
    def identity(self) -> str:
        """Names the content of the documents and how they are cut."""

    @property
    def num_bytes(self) -> int | None:
        """Bytes of input in all, None where nobody knows."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield all stretches, from the first one on at each call, in the same order."""


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How text is read and cut into documents."""

    encoding: str = "utf-8"
    separator: str | None = None
    """What stands between two documents of a text file; None: each file is one."""
    key: str = "text"
    """Where the text stands in a JSON object or a table."""
    longest: int = LONGEST
    """Characters of a document at most."""
    chunk_bytes: int = CHUNK_BYTES
    """Bytes of input in a stretch."""


@dataclass(frozen=True, slots=True)
class TextsChunk:
    """Documents that were read already, by a process that alone can read them."""

    texts: tuple[str, ...]
    num_bytes: int
    longest: int = LONGEST

    def documents(self) -> Iterator[str]:
        """Yield the documents, those that are too long in pieces."""
        for text in self.texts:
            yield from cut_at_lines(text, self.longest)


def split_documents(text: str, options: TextOptions) -> Iterator[str]:
    """Yield the documents of a text file, or of a stretch of it; those without any letter or sign are left out."""
    for piece in [text] if options.separator is None else text.split(options.separator):
        if piece and not piece.isspace():
            yield from cut_at_lines(piece, options.longest)


def cut_at_lines(text: str, longest: int) -> Iterator[str]:
    """Yield a text in pieces of at most `longest` characters, cut behind line breaks where there are any.

    Nothing is lost: put end to end, the pieces are the text.
    """
    start = 0
    while len(text) - start > longest:
        end = text.rfind("\n", start, start + longest) + 1
        if not end:
            end = start + longest
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def text_problem(value: Any, key: str) -> str | None:
    """Say why a value of a row cannot be a document, or return None."""
    if not isinstance(value, str):
        return f"{key!r} is {'empty' if value is None else type(value).__name__}, expected text"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{key!r} has half a character (U+{ord(value[error.start]):04X}) at place {error.start}"
    return None
