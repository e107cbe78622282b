"""From the bytes of a terminal to lines of text.

A carriage return ends a line as well: what a progress bar draws over was a line of its own. Colours and other escape
sequences are taken out, bytes that are no UTF-8 become U+FFFD, and a line that arrives in pieces waits until its end
has come. Memory stays bounded: of a line that never ends only the beginning is kept.
"""

import re
from typing import Final

MAX_LINE_BYTES: Final = 1 << 16
"""What is kept of one line; no line with metrics is that long."""

_ESCAPES: Final = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # colours, and moves of the cursor
    r"|[]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # titles of windows, links
    r"|[ -/]+[0-~]"  # character sets
    r"|[0-Z\\`-~]"
    r")"
)
_ENDS: Final = re.compile(rb"[\r\n]")


def without_escapes(text: str) -> str:
    """Return a text without the escape sequences of a terminal."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


class LineReader:
    """Cuts bytes into lines; the last one waits until its end comes."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._limit = max_line_bytes
        self._rest = b""
        self._is_dropping = False

    @property
    def tail(self) -> str:
        """The line that has no end yet, such as a progress bar that stands there."""
        return _decode(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are complete now, without their ends; lines of nothing but blanks are left out."""
        if self._is_dropping:
            end = _ENDS.search(data)
            if end is None:
                return []
            data = data[end.start() :]
            self._is_dropping = False
        if self._rest:
            data = self._rest + data
        if b"\r" in data or b"\b" in data:
            data = data.replace(b"\r", b"\n").replace(b"\b", b"\n")  # old progress bars go back with backspaces
        whole, _, rest = data.rpartition(b"\n")
        self._is_dropping = len(rest) > self._limit
        self._rest = rest[: self._limit]
        return self._lines(whole) if whole else []

    def end(self) -> list[str]:
        """Return the last line, which has no end."""
        rest, self._rest, self._is_dropping = self._rest, b"", False
        return self._lines(rest) if rest else []

    def _lines(self, data: bytes) -> list[str]:
        text = _decode(data)
        if len(data) <= self._limit:
            return [line for line in text.split("\n") if line and not line.isspace()]
        return [line[: self._limit] for line in text.split("\n") if line and not line.isspace()]


def _decode(data: bytes) -> str:
    return without_escapes(data.decode("utf-8", "replace"))
