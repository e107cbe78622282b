"""The import table of the design, and the limits on sizes, held against the source."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import hotlap

PACKAGE = Path(hotlap.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

TRAINING_SIDE = {"tasks", "data", "models", "optim", "train", "worker"}
LAB_SIDE = {
    "inspect_script",
    "runs",
    "launch",
    "bench",
    "search",
    "policies",
    "study",
    "analysis",
    "report",
    "cli",
    "api",
}

MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "config": {"core"},
    "capture": {"core"},
    "logging": {"core"},
    "knobs": {"core", "config"},
    "probes": {"core"},
    "tasks": {"core", "config"},
    "data": {"core", "config", "tasks"},
    "models": {"core", "config"},
    "optim": {"core", "config"},
    "train": {"core", "config", "tasks", "data", "models", "optim"},
    "worker": {"core", "config", "tasks", "data", "train", "capture", "knobs"},
    "runs": {"core", "config"},
    "launch": {"core", "config"},
    "search": {"core", "config"},
    "policies": {"core", "config", "search"},
    "bench": {"core", "config", "knobs", "runs", "launch", "report"},
    "study": {
        *("core", "config", "capture", "knobs", "runs", "launch", "bench", "search", "policies", "analysis", "report"),
    },
    "inspect_script": {"core", "config", "knobs", "launch"},
    "analysis": {"core", "config", "runs"},
    "report": {"core", "config", "runs", "analysis"},
    "cli": {"core", "config", "capture", "knobs", *LAB_SIDE},
    "api": {"core", "runs", "study", "analysis", "report"},
}

ONLY_IN: dict[str, set[str]] = {
    "torch": TRAINING_SIDE - {"tasks"},
    "numpy": TRAINING_SIDE | {"search", "analysis", "bench"},
    "sacrebleu": TRAINING_SIDE,
    "safetensors": TRAINING_SIDE,
    "transformers": {"train", "models"},
    "peft": {"models"},
    "huggingface_hub": {"config", "data", "tasks"},
    "accelerate": {"train"},
    "sqlite3": {"runs"},
    "matplotlib": {"report"},
    "plotly": {"report"},
    "jinja2": {"report", "tasks"},
    "optuna": {"search"},
    "sklearn": {"analysis"},
    "sqlalchemy": {"search"},
    "pandas": {"runs"},
    "pyarrow": {"runs", "tasks"},
    "datasets": {"tasks"},
    "tensorboard": {"launch"},
    "wandb": {"launch"},
    "trackio": {"launch"},
    "typer": {"cli"},
    "rich": {"cli"},
}

HEAVY = {"torch", "transformers", "optuna", "pydantic", "numpy", "pandas", "matplotlib", "ruamel", "sqlite3", "rich"}
"""What `hotlap --help` has no use for."""


def folder_of(path: Path) -> str:
    """Return the folder that a file belongs to: empty for the package's own __init__; __main__ is a command line.

    A file beside it is a folder of one file.
    """
    parts = path.relative_to(PACKAGE).parts
    if parts == ("__main__.py",):
        return "cli"
    return parts[0].removesuffix(".py") if parts != ("__init__.py",) else ""


def module_name(path: Path) -> str:
    """Return the dotted name of a file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Yield every module that a syntax tree imports: lazily, for types only, or by name through a function."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert not level, f"line {node.lineno}: imports are absolute"
                full = [f"{module}.{alias.name}" for alias in names]
                yield from (name if name in MODULES else str(module) for name in full)
            case ast.Call(func=ast.Name(id="import_module" | "import_optional"), args=[ast.Constant(value=name), *_]):
                yield str(name)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=name), *_]):
                yield str(name)


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file, which every test looks at."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Return every module that a file imports."""
    return frozenset(imported_names(tree_of(path)))


def own_folders(names: frozenset[str]) -> set[str]:
    """Return the folders of hotlap that module names lie in."""
    return {name.split(".")[1] for name in names if name.startswith("hotlap.")}


IDS = [str(path.relative_to(PACKAGE)) for path in FILES]
each_file = pytest.mark.parametrize("path", FILES, ids=IDS)


def test_every_folder_has_a_row_in_the_table() -> None:
    assert {folder_of(path) for path in FILES} - {""} <= MAY_IMPORT.keys()


def test_the_table_has_no_edge_between_the_sides() -> None:
    for folder, allowed in MAY_IMPORT.items():
        other = LAB_SIDE if folder in TRAINING_SIDE else TRAINING_SIDE
        assert not allowed & other, f"{folder} may import from the other side"


@each_file
def test_imports_follow_the_table(path: Path) -> None:
    folder = folder_of(path)
    found = own_folders(imports_of(path)) - {folder}
    refused = found - MAY_IMPORT.get(folder, set())
    assert not refused, f"{path} may not import {sorted(refused)}"


@each_file
def test_packages_are_imported_where_they_belong(path: Path) -> None:
    for package in {name.split(".")[0] for name in imports_of(path)} & ONLY_IN.keys():
        assert folder_of(path) in ONLY_IN[package], f"{package} belongs to {ONLY_IN[package]}"


@each_file
def test_own_modules_are_imported_at_the_top(path: Path) -> None:
    if folder_of(path) == "cli":
        return  # commands load what they need when they are called, so that --help is quick
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lazy = [name for name in imported_names(node) if name.split(".")[0] == "hotlap"]
            assert not lazy, f"{node.name} imports {lazy}; move the shared name down instead"


def test_no_import_cycle() -> None:
    graph = {name: imports_of(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the modules of the cycle


@each_file
def test_files_and_functions_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{path} has {lines} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{path}: {node.name} has {length} lines"


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports them by their names alone, and would leave out all but the first."""
    found = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in found.items() if count > 1] == []


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', *sys.modules, file=sys.stderr))\n"
        "sys.argv = ['hotlap', '--help']\n"
        "from hotlap.cli.main import run\n"
        "run()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    loaded = re.search(r"loaded: (.*)", ended.stderr)
    assert loaded is not None
    assert not {name.split(".")[0] for name in loaded[1].split()} & HEAVY
