"""The words of a shell command and where they stand, so that one can be exchanged and the rest stays as it is written.

    for word in words_of('CONFIG=a.yaml python train.py --lr "3e-4" && echo done'):
        word.value, word.command

This reads what people type on one line or in a small loop; nothing is expanded and nothing is run.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OPERATORS: Final = ";&|()<>\n"
_SPACE: Final = " \t\r"
_CLOSES: Final[Mapping[str, str]] = {"(": ")", "{": "}"}
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_WORKING_FOLDER: Final = re.compile(r"\$\(\s*pwd\s*\)|`\s*pwd\s*`|\$\{PWD\}|\$PWD\b")


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command line."""

    start: int
    end: int
    """Its place in the text, quotes included."""
    value: str
    """What it says without its quotes; variables and `$(…)` as they are written."""
    command: int
    """Number of the simple command that it belongs to, counted from 0."""


def words_of(text: str) -> list[Word]:
    """Return the words of a shell text in their order; what is quoted in an odd way is read as far as it goes."""
    return list(_words(text))


def simple_commands(text: str) -> list[list[Word]]:
    """Return the words of each simple command: what stands between `&&`, `|`, `;` and line ends."""
    found: dict[int, list[Word]] = {}
    for word in _words(text):
        found.setdefault(word.command, []).append(word)
    return list(found.values())


def placed_commands(text: str, directory: Path) -> Iterator[tuple[list[Word], Path]]:
    """Yield the words of each simple command, and the folder that it runs in: `cd` changes it for what follows."""
    for words in simple_commands(text):
        yield words, directory
        if len(words) == 2 and words[0].value == "cd":
            directory = as_path(words[1].value, directory) or directory


def replaced(text: str, changes: Mapping[Word, str]) -> str:
    """Return a shell text with some of its words exchanged for other text, which has to be quoted already."""
    for word in sorted(changes, key=lambda word: word.start, reverse=True):
        text = text[: word.start] + changes[word] + text[word.end :]
    return text


def quotes_around(text: str) -> list[str]:
    """Return for each sign of a shell text the quotes that it stands in: a quotation mark, or nothing."""
    states: list[str] = []
    quote, is_escaped = "", False
    for sign in text:
        states.append(quote)
        if is_escaped:
            is_escaped = False
        elif sign == "\\" and quote != "'":
            is_escaped = True
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
    return states


def as_path(value: str, directory: Path, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the absolute path that a word would be to a program started in a folder; None where only a shell knows.

    The working folder (`$(pwd)`, `$PWD`), `~` and set variables are known, other substitutions are not.
    """
    known = os.environ if environ is None else environ
    value = _WORKING_FOLDER.sub(lambda _: str(directory), value)
    value = _VARIABLE.sub(lambda match: known.get(match[1] or match[2], match[0]), value)
    if value == "~" or value.startswith("~/"):
        value = str(Path.home()) + value[1:]
    if not value or "$" in value or "`" in value or "\0" in value or "\n" in value:
        return None
    return Path(os.path.normpath(directory / value))


def _words(text: str) -> Iterator[Word]:
    at, command, is_fresh = 0, 0, True
    while at < len(text):
        sign = text[at]
        if sign in _SPACE or text.startswith("\\\n", at):
            at += 1 if sign in _SPACE else 2
        elif sign == "#":
            at = _end_of_line(text, at)
        elif sign in _OPERATORS:
            is_redirection = sign in "<>"
            command += not is_redirection and not is_fresh
            is_fresh = is_fresh or not is_redirection
            at += 1
        else:
            end = _end_of_word(text, at)
            yield Word(at, end, _unquoted(text[at:end]), command)
            at, is_fresh = end, False


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _end_of_word(text: str, at: int) -> int:
    while at < len(text) and text[at] not in _SPACE + _OPERATORS:
        at = _end_of_piece(text, at)
    return at


def _end_of_piece(text: str, at: int) -> int:
    """Return the index behind a sign, or behind all of what it opens."""
    sign = text[at]
    if sign == "\\":
        return min(len(text), at + 2)
    if sign == "'" or sign == "`":
        end = text.find(sign, at + 1)
        return len(text) if end < 0 else end + 1
    if sign == '"':
        at += 1
        while at < len(text) and text[at] != '"':
            at = _end_of_piece(text, at) if text[at] in "\\$`" else at + 1
        return min(len(text), at + 1)
    if sign == "$" and text[at + 1 : at + 2] in _CLOSES:
        closes, at = _CLOSES[text[at + 1]], at + 2
        while at < len(text) and text[at] != closes:
            at = _end_of_piece(text, at)
        return min(len(text), at + 1)
    return at + 1


def _unquoted(raw: str) -> str:
    """Return a word without its quotes and backslashes; what `$(…)` holds stays as it is written."""
    found: list[str] = []
    at = 0
    while at < len(raw):
        end = _end_of_piece(raw, at)
        piece = raw[at:end]
        if piece[0] == "'":
            found.append(piece[1:].removesuffix("'"))
        elif piece[0] == '"':
            found.append(re.sub(r'\\(["\\$`])', r"\1", piece[1:].removesuffix('"')))
        elif piece[0] == "\\":
            found.append(piece[1:].replace("\n", ""))
        else:
            found.append(piece)
        at = end
    return "".join(found)
