"""Write runs, or all of their points, as tables: CSV, JSON, Parquet, or a pandas frame; nothing is ever left out.

    write_table(point_rows(folders), Path("points.parquet"))

Rows are mappings from column to value; the columns of a table are those of all rows, in the order in which they appear.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import ConfigError, StorageError, import_optional
from hotlap.core.run_folder import RunFolder
from hotlap.runs.rows import StoredRun
from hotlap.runs.views import SCHEMA, csv_text, finite, flat_row, runs_document

EXTRA: Final = "data"

Rows = Sequence[Mapping[str, Any]]


def run_rows(runs: Iterable[StoredRun]) -> list[dict[str, Any]]:
    """Return one flat row a run."""
    return [flat_row(run) for run in runs]


def point_rows(folders: Iterable[RunFolder]) -> list[dict[str, Any]]:
    """Return one row a point of every run, with the id of its run; what is not finite stays so."""
    return [{"run_id": folder.run_id, **point} for folder in folders for point in folder.points()]


def table_csv(rows: Rows) -> str:
    """Return rows as CSV; what is not finite becomes an empty cell."""
    return csv_text([finite(row) for row in rows])


def runs_json(runs: Iterable[StoredRun]) -> str:
    """Return runs as one JSON document with everything that is known of them."""
    return json.dumps(runs_document(runs), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def points_json(rows: Rows) -> str:
    """Return points as one JSON document; what is not finite becomes null."""
    return json.dumps({"schema": SCHEMA, "points": finite(rows)}, ensure_ascii=False, allow_nan=False) + "\n"


def frame(rows: Rows) -> Any:
    """Return rows as a pandas DataFrame; raises MissingExtraError without pandas."""
    return import_optional("pandas", EXTRA).DataFrame([dict(row) for row in rows])


def write_parquet(rows: Rows, path: Path) -> None:
    """Write rows as a Parquet file; a column with values of several kinds is written as JSON text.

    Raises MissingExtraError without pyarrow, StorageError when the file cannot be written.
    """
    arrow, parquet = import_optional("pyarrow", EXTRA), import_optional("pyarrow.parquet", EXTRA)
    columns = dict.fromkeys(name for row in rows for name in row)
    if not columns:
        raise ConfigError("there is nothing to write: no run has a column")
    table = arrow.table({name: one_kind([row.get(name) for row in rows]) for name in columns})
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        parquet.write_table(table, str(temporary))
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def one_kind(values: Sequence[Any]) -> list[Any]:
    """Return the values of a column as one kind: truth values, whole numbers, numbers or text; None stays None."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {int} or kinds <= {str}:
        return list(values)
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else _text(value) for value in values]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
