"""Text that is at hand: the files of Python's standard library, or the user's own, and the sentences in them."""

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from hotlap.core.errors import DataError

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})


def library_files() -> Iterator[Path]:
    """Yield the source files of the standard library that runs this program, in the order of their names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if not _SKIPPED_FOLDERS & set(path.relative_to(root).parts):
            yield path


def docstring_texts() -> Iterator[str]:
    """Yield every docstring of the standard library, in the order of file names."""
    for path in library_files():
        yield from file_docstrings(path)


def file_docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a source file; one that is broken on purpose has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in the library's own test files
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return  # the library holds files that are broken on purpose, for its own tests
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def matching_files(pattern: str, directory: Path, key: str = "task.text") -> list[Path]:
    """Return the files that match a glob, in the order of their names; a relative one starts from `directory`.

    Raises DataError, with the setting's `key`, when none matches.
    """
    first, *names = (directory / pattern).parts or ("",)
    base = Path(first)
    while len(names) > 1 and (base / names[0]).is_dir():  # a folder that is there is no pattern, whatever its name has
        base /= names.pop(0)
    try:
        paths = sorted(path for path in base.glob("/".join(names)) if path.is_file())
    except (ValueError, IndexError):
        paths = []  # no pattern at all, or one with ** inside a name
    if not paths:
        raise DataError(f"{key}: no file matches {pattern!r} in {base}; give a glob such as corpus/*.txt")
    return paths


def file_texts(pattern: str, directory: Path) -> Iterator[str]:
    """Yield the content of the files that match a glob, in the order of their names.

    Raises DataError when none matches or one is not UTF-8, with the offending byte.
    """
    for path in matching_files(pattern, directory):
        try:
            yield path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 at byte {error.start} (0x{error.object[error.start]:02x})") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def split_sentences(text: str, min_bytes: int, max_bytes: int) -> Iterator[str]:
    """Yield the sentences of a text whose UTF-8 length lies within the bounds; white space is folded.

    A sentence that is too long is cut between words. Each piece needs two words and a letter; control characters,
    which the task's template uses, rule it out.
    """
    for raw in _SENTENCE_END.split(text):
        for piece in _cut(" ".join(raw.split()), max_bytes):
            if _CONTROL.search(piece) or " " not in piece or not any(c.isalpha() for c in piece):
                continue
            if len(piece.encode()) >= min_bytes:
                yield piece


def _cut(sentence: str, max_bytes: int) -> Iterator[str]:
    """Yield pieces of at most `max_bytes`, cut between words; a single longer word is left out."""
    piece = ""
    for word in sentence.split(" "):
        longer = f"{piece} {word}" if piece else word
        if len(longer.encode()) <= max_bytes:
            piece = longer
            continue
        if piece:
            yield piece
        piece = word if len(word.encode()) <= max_bytes else ""
    if piece:
        yield piece
