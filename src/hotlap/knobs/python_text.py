"""Constants in Python scripts of somebody else's: read them, and change one in its place; nothing is run.

    constants(text)  ->  {"learning_rate": Constant(0.0006, line=12), "Hyperparameters.num_steps": …, "CONFIG.depth": …}
    with_constant(text, "learning_rate", 3e-3)

A name with a dot is an attribute of a class, a key of a dictionary, an argument of a call at the top of the module, or
an argument of a class that is built anywhere, `TrainingArguments.learning_rate`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_NAMESPACES: Final = ("dict", "SimpleNamespace", "Namespace")


@dataclass(frozen=True, slots=True)
class Constant:
    """The value that a script gives to a name, and where."""

    value: Any
    line: int


def constants(text: str) -> dict[str, Constant]:
    """Return the plain values at the top of a script, the last one of each name; class attributes by `Class.name`.

    Raises ValueError, in words for the user, where the text is no Python.
    """
    found: dict[str, Constant] = {}
    for name, node in _places(_parsed(text)):
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            value = _product(node)
        if value is None or isinstance(value, bool | int | float | str):
            found.pop(name, None)
            if value is not None or isinstance(node, ast.Constant):
                found[name] = Constant(value, node.lineno)
    return found


def with_constant(text: str, name: str, value: Any) -> str:
    """Return a script with the last assignment of a name changed, comments and spacing kept.

    Raises ValueError, in words for the user, where the script has no such name or the value does not fit there.
    """
    tree = _parsed(text)
    places = [node for known, node in _places(tree) if known == name]
    if not places:
        known = ", ".join(sorted(constants(text))) or "none"
        raise ValueError(f"{name} is no constant at the top of the script; there are: {known}")
    node = places[-1]
    start, end = _index(text, node.lineno, node.col_offset), _index(text, node.end_lineno, node.end_col_offset)
    edited = f"{text[:start]}{value!r}{text[end:]}"
    after = _parsed(edited)
    others = [place for known, place in _places(after) if known == name]
    is_right = bool(others) and ast.dump(others[-1]) == ast.dump(ast.parse(repr(value), mode="eval").body)
    if not is_right or _without(tree, node) != _without(after, others[-1]):
        raise ValueError(f"{name} cannot be changed safely where it stands; write it as NAME = VALUE on one line")
    return edited


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise ValueError(f"{f'line {line}: ' if line else ''}not valid Python") from error


def _places(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the name and the value of each assignment at the top of a module, in their order, and those of calls."""
    yield from _arguments(tree)
    for statement in tree.body:
        for name, value in _assignments(statement):
            yield name, value
            yield from ((f"{name}.{key}", inner) for key, inner in _entries(value))
        if isinstance(statement, ast.ClassDef):
            for inner_statement in statement.body:
                yield from ((f"{statement.name}.{name}", value) for name, value in _assignments(inner_statement))


def _arguments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the named arguments of classes that are built anywhere, such as `TrainingArguments(learning_rate=…)`.

    A class that is built with the same argument in several places is left out: it would not be clear which one counts.
    """
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name[:1].isupper():
            for keyword in node.keywords:
                if keyword.arg:
                    found.setdefault(f"{name}.{keyword.arg}", []).append(keyword.value)
    yield from ((name, values[0]) for name, values in found.items() if len(values) == 1)


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)) if len(names) == len(values):
            yield from (
                (name.id, value) for name, value in zip(names, values, strict=True) if isinstance(name, ast.Name)
            )
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value


def _entries(value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Yield the entries of a dictionary that is written out, and the named arguments of a call."""
    if isinstance(value, ast.Dict):
        for key, inner in zip(value.keys, value.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, inner
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _NAMESPACES:
        yield from ((keyword.arg, keyword.value) for keyword in value.keywords if keyword.arg)


def _product(node: ast.expr) -> Any:
    """Return the value of arithmetic with numbers alone, such as `5 * 8` or `2**16`; None for anything else."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.BinOp(
            left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow() as operator, right=right
        ):
            first, second = _product(left), _product(right)
            if first is None or second is None:
                return None
            return _computed(first, operator, second)
    return None


def _computed(first: float, operator: ast.operator, second: float) -> Any:
    try:
        match operator:
            case ast.Add():
                return first + second
            case ast.Sub():
                return first - second
            case ast.Mult():
                return first * second
            case ast.Div():
                return first / second
            case ast.Pow() if abs(second) <= 64:
                return first**second
    except (ArithmeticError, ValueError):
        pass
    return None


def _index(text: str, line: int | None, column: int | None) -> int:
    """Return the index of a place that Python tells as a line and a number of UTF-8 bytes."""
    assert line is not None and column is not None
    lines = text.split("\n")[:line]
    before = sum(len(earlier) + 1 for earlier in lines[:-1])
    mark = 1 if line == 1 and text.startswith("\ufeff") else 0
    return before + mark + len(lines[-1][mark:].encode()[:column].decode())


def _without(tree: ast.Module, node: ast.expr) -> str:
    """Return what a module says apart from one expression."""
    return ast.dump(_Hole(node).visit(tree))


class _Hole(ast.NodeTransformer):
    """Puts a hole in the place of one expression."""

    def __init__(self, node: ast.expr) -> None:
        self._node = node

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the node, or the hole where it is the one."""
        return ast.Constant(value=...) if node is self._node else super().visit(node)
