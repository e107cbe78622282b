"""What can be told of a Python script by its syntax tree alone, and the options that are found in it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["value", "switch", "pair", "equals"]
"""How an option is written: `--x 1`, `--x` or nothing, `--x` or `--no-x`, `--x=1`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A setting that a script takes on its command line."""

    name: str
    flag: str
    """As it is written, such as --learning-rate."""
    default: Any = None
    kind: Kind = "value"
    help: str = ""
    choices: tuple[Any, ...] = ()
    line: int = 0
    source: str = ""
    """Which library defines it."""


def parsed(text: str) -> ast.Module | None:
    """Return the syntax tree of a script; None where the text is no Python."""
    try:
        return ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError):
        return None


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Return every call in a script."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def name_of(node: ast.AST) -> str:
    """Return the last part of a name: `flags.DEFINE_float` is DEFINE_float."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return name_of(inner)
    return ""


def literal(node: ast.AST | None) -> Any:
    """Return what an expression is, where that can be told without running anything; else None."""
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    """Return the named arguments of a call."""
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def plain(value: Any) -> Any:
    """Return a value that a knob could have; None for any other."""
    return value if isinstance(value, bool | int | float | str) else None


def choices_in(node: ast.AST | None) -> tuple[Any, ...]:
    """Return the choices that a list is; none for anything else."""
    found = literal(node)
    return tuple(found) if isinstance(found, list | tuple | set) else ()


def text_in(node: ast.AST | None) -> str:
    """Return a text on one line; empty for anything else."""
    found = literal(node)
    return " ".join(found.split()) if isinstance(found, str) else ""


def imports(tree: ast.Module, package: str) -> bool:
    """Say whether a script imports a package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == package for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            return True
    return False
