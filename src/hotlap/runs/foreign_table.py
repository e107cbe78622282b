"""Read a table that another program wrote: CSV, TSV, JSON lines, or a JSON list; one row a run or a point.

    table = load_table(Path("runs.csv"))
    table.rows[0].cells  ->  {"id": "a1", "learning_rate": 0.0003, "eval_loss": 3.1}

Nested objects become dotted columns. Cells of CSV are read as numbers and truth values where they are written as such;
names, ids and states stay text.
"""

import ast
import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import DataError
from hotlap.runs.views import flatten

SUFFIXES: Final = (".csv", ".tsv", ".jsonl", ".json")

IDS: Final = ("run_id", "id", "ID", "run", "number")
NAMES: Final = ("name", "Name", "run_name")
STATES: Final = ("outcome", "state", "State", "status")
STARTED: Final = ("started_at", "Created", "created_at", "datetime_start")
FACTS: Final = (
    *("Agent", "Commit", "Description", "End Time", "GPU Count", "GPU Type", "Group", "Host", "Hostname", "Job Type"),
    *("Notes", "Sweep", "Tags", "Updated", "User", "_timestamp", "candidate", "clock", "contaminated", "group"),
    *("datetime_complete", "duration", "notes", "reason", "role", "study", "sweep", "tags"),
    *("target_step", "target_train_seconds", "target_wall_seconds"),
)
"""Columns that are neither settings nor metrics; hotlap's own export, wandb's and Optuna's have them."""

_TEXT: Final = frozenset((*IDS, *NAMES, *STATES, *STARTED, *FACTS))
_SECTIONS: Final = ("config", "summary", "metrics", "params")
"""Columns whose cells may hold a whole mapping: so wandb's own example writes its runs."""
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_REAL: Final = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_WORDS: Final[Mapping[str, Any]] = {
    "true": True,
    "false": False,
    "nan": math.nan,
    "inf": math.inf,
    "infinity": math.inf,
    "-inf": -math.inf,
    "-infinity": -math.inf,
}
_UNNAMED: Final = re.compile(r"(Unnamed: [0-9]+)?")
"""Names of the column in which pandas writes its row numbers."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells that are not empty, and where it stands."""

    place: str
    """File and line, or file and entry."""
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """All rows of a file, and the columns of all rows in the order in which they first appear."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def load_table(path: Path) -> Table:
    """Read a table; raises DataError with file and line for what cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    match path.suffix.lower():
        case ".jsonl":
            rows = list(_json_lines(path, text))
        case ".json":
            rows = list(_json_list(path, text))
        case suffix:
            rows = list(_csv_rows(path, text, "\t" if suffix == ".tsv" else ","))
    if not rows:
        raise DataError(f"{path}: there is no row in it; expected one row a run, or one row a point")
    columns = tuple(dict.fromkeys(column for row in rows for column in row.cells))
    return Table(path, columns, tuple(rows))


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        header = next(reader, [])
        _refuse_other_separator(path, header, delimiter)
        twice = sorted({name for name in header if name and header.count(name) > 1})
        if twice:
            raise DataError(f"{path}:1: the column {twice[0]!r} appears twice; give each a name of its own")
        for row in reader:
            if not row:
                continue
            place = f"{path}:{reader.line_num}"
            if len(row) != len(header):
                raise DataError(f"{place}: {len(row)} cells, but the header names {len(header)} columns")
            cells = {name: _cell(name, cell) for name, cell in zip(header, row, strict=True) if cell != ""}
            yield _row(place, cells)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not valid CSV: {error}") from error


def _refuse_other_separator(path: Path, header: Sequence[str], delimiter: str) -> None:
    """Raise DataError for a header that is one column with the separators of another kind of table in it."""
    found = next((sign for sign in "\t;,|" if len(header) == 1 and sign in header[0] and sign != delimiter), None)
    if found is None:
        return
    expected = "tabs" if delimiter == "\t" else "commas"
    advice = f"save it with {expected} between the cells and with decimal points"
    if found in "\t,":
        advice = f"name it {path.stem}{'.tsv' if found != ',' else '.csv'}"
    raise DataError(f"{path}:1: the columns are separated by {found!r}, expected {expected}; {advice}")


def _cell(name: str, text: str) -> Any:
    """Return a cell of CSV as the value that it means."""
    if name in _TEXT:
        return text
    if _WHOLE.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text):
        return float(text)
    return _WORDS.get(text.lower(), text)


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{path}:{number}"
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{place}: not valid JSON: {error.msg}") from error
            yield _object(place, value)


def _json_list(path: Path, text: str) -> Iterator[Row]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
    if isinstance(values, dict):  # as `hotlap runs export --json` writes it
        values = values.get("points", values.get("runs"))
    if not isinstance(values, list):
        raise DataError(f"{path}: expected a list of objects, or an object with such a list called runs or points")
    for number, value in enumerate(values, start=1):
        yield _object(f"{path}: entry {number}", value)


def _object(place: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{place}: expected an object such as {{...}}, got {type(value).__name__}")
    return _row(place, value)


def _row(place: str, cells: Mapping[str, Any]) -> Row:
    """Return a row with the mappings in it spread over dotted columns, without what is empty or has no name."""
    whole = {name: _mapping(place, name, cell) if name in _SECTIONS else cell for name, cell in cells.items()}
    return Row(
        place,
        {
            name: cell
            for name, cell in flatten(whole).items()
            if cell not in (None, "", {}) and not _UNNAMED.fullmatch(name)
        },
    )


def _mapping(place: str, name: str, cell: Any) -> Any:
    """Return a mapping that was written as text, in JSON or as Python writes it; any other cell as it is."""
    if not isinstance(cell, str) or not cell.startswith("{"):
        return cell
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        pass
    try:  # literals of Python have no name for these two
        return ast.literal_eval(re.sub(r": nan\b", ": None", re.sub(r": (-?)inf\b", r": \g<1>1e999", cell)))
    except (ValueError, SyntaxError, RecursionError) as error:
        raise DataError(f"{place}: column {name}: cannot be read as a mapping: {cell[:60]!r}") from error
