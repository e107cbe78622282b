"""Variables that a shell script sets, and flags that it gives to programs: read them, and change one in its place.

constants(text)  ->  {"LR": Constant(0.1, line=3)}          # LR=0.1, LR=${LR:-0.1}, export LR=0.1, : "${LR:=0.1}"
constants(text)  ->  {"--lr": Constant(0.1, line=3)}        # --lr 0.1, --lr=0.1, where the script says it once
with_constant(text, "LR", 0.05)
"""

import re
import shlex
from collections.abc import Iterator
from typing import Any, Final

from hotlap.knobs.placeholders import variable_text
from hotlap.knobs.python_text import Constant
from hotlap.knobs.shell_words import words_of

_ASSIGNMENT: Final = re.compile(
    r"^[ \t]*(?:(?:export|readonly|local|declare(?:[ \t]+-\w+)*)[ \t]+)?(?P<name>[A-Za-z_]\w*)="
    r"(?P<value>\"\$\{\w+:?-(?P<quoted>[^\"}]*)\}\"|\$\{\w+:?-(?P<default>[^}]*)\}|\"[^\"$`\\]*\"|'[^']*'|[\w./:+-]*)"
    r"(?=[ \t\r]*(?:;|#|&&|$))",
    re.MULTILINE,
)
_FLAG: Final = re.compile(r"--[A-Za-z][\w.-]*")
_FLAG_VALUE: Final = re.compile(r"[\w./:+][\w./:+-]*|-[\d.]+(e-?\d+)?")
_DEFAULT: Final = re.compile(r"^[ \t]*:[ \t]+\"?\$\{(?P<name>\w+):?=(?P<value>[^}]*)\}\"?", re.MULTILINE)


def constants(text: str) -> dict[str, Constant]:
    """Return the variables that a script sets to plain values, the first place of each name, and its flags."""
    found: dict[str, Constant] = {}
    for name, start, end in sorted(_places(text), key=lambda place: place[1]):
        found.setdefault(name, Constant(read_value(text[start:end].strip("'\"")), text.count("\n", 0, start) + 1))
    return found


def defaults(text: str) -> set[str]:
    """Return the variables that a script takes from outside, where they are set there: `LR=${LR:-0.1}`."""
    own = {
        m["name"]
        for m in _ASSIGNMENT.finditer(text)
        if f"{{{m['name']}:" in m["value"] or f"{{{m['name']}-" in m["value"]
    }
    return own | {match["name"] for match in _DEFAULT.finditer(text)}


def with_constant(text: str, name: str, value: Any) -> str:
    """Return a script with the first assignment of a variable, or the value of a flag, changed.

    Raises ValueError, in words for the user, where the script sets no such variable to a plain value.
    """
    places = sorted((start, end) for known, start, end in _places(text) if known == name)
    if not places:
        known = ", ".join(constants(text)) or "none"
        raise ValueError(f"{name} is neither a variable nor a flag that has a plain value there; there are: {known}")
    start, end = places[0]
    written = variable_text(value)
    if not re.fullmatch(r"[\w./:+-]*", written):
        if text[start - 1 : start] in ("-", "="):
            is_default = text[start - 1] == "-" or text[max(0, start - 2) : start] == ":="
            if is_default:
                raise ValueError(f"{name}: {written!r} cannot stand in a default of the shell; use letters and digits")
        written = shlex.quote(written)
    return f"{text[:start]}{written}{text[end:]}"


def read_value(text: str) -> Any:
    """Return the number, truth value or text that a word of a shell is to a program."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _flags(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the flags that stand in a script once, with a plain value."""
    words = words_of(text)
    names = [word.value.partition("=")[0] for word in words]
    for word, name, following in zip(words, names, [*words[1:], None], strict=False):
        if not _FLAG.fullmatch(name) or names.count(name) > 1:
            continue
        start, end = word.start + len(name) + 1, word.end
        if "=" not in word.value:
            if following is None or following.command != word.command:
                continue
            start, end = following.start, following.end
        if _FLAG_VALUE.fullmatch(text[start:end]):
            yield name, start, end


def _places(text: str) -> Iterator[tuple[str, int, int]]:
    yield from _flags(text)
    for match in _ASSIGNMENT.finditer(text):
        group = next((name for name in ("quoted", "default") if match[name] is not None), "value")
        yield match["name"], match.start(group), match.end(group)
    for match in _DEFAULT.finditer(text):
        yield match["name"], match.start("value"), match.end("value")
