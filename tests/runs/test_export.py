"""Exports leave nothing out, and say what is missing to make them."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.errors import ConfigError, MissingExtraError, StorageError
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.export import (
    frame,
    one_kind,
    point_rows,
    points_json,
    run_rows,
    runs_json,
    table_csv,
    write_parquet,
)
from hotlap.runs.store import RunStore

MakeRun = Callable[..., RunFolder]
ROWS = [{"run_id": "r0001", "loss": 0.5}, {"run_id": "r0002", "loss": math.nan, "config.name": ["a", 1]}]


def test_every_point_of_every_run(make_run: MakeRun) -> None:
    folders = [make_run(12.0), make_run(None)]
    rows = point_rows(folders)
    assert [(row["run_id"], row["step"]) for row in rows] == [
        ("r0001", 100),
        ("r0001", 200),
        ("r0002", 100),
        ("r0002", 200),
    ]
    assert rows[0]["train_loss"] == 2.5
    assert json.loads(points_json(rows))["points"] == rows
    read = list(csv.DictReader(io.StringIO(table_csv(rows))))
    assert (len(read), read[1]["eval_loss"], read[0]["eval_loss"]) == (4, "2.0", "")


def test_every_run(project: ProjectFolder, make_run: MakeRun) -> None:
    make_run(12.0)
    make_run(3.0, "crashed")
    with RunStore(project) as store:
        store.refresh()
        runs = store.runs()
    assert [row["outcome"] for row in run_rows(runs)] == ["reached", "crashed"]
    document = json.loads(runs_json(runs))
    assert document["schema"] == "hotlap/runs/1"
    assert [run["metrics"]["eval_loss"] for run in document["runs"]] == [0.75, 0.75]


def test_documents_hold_no_number_that_json_has_not() -> None:
    points = json.loads(points_json(ROWS), parse_constant=lambda name: pytest.fail(name))["points"]
    assert points[1]["loss"] is None
    assert "nan" not in table_csv(ROWS)


cells = st.one_of(st.none(), st.booleans(), st.integers(-100, 100), st.floats(allow_nan=False), st.text(max_size=3))


@given(st.lists(cells, max_size=6))
def test_a_column_has_one_kind_and_loses_nothing(values: list[Any]) -> None:
    found = one_kind(values)
    assert len({type(value) for value in found if value is not None}) <= 1
    assert [value is None for value in found] == [value is None for value in values]
    for kept, value in zip(found, values, strict=True):
        is_text = isinstance(kept, str) and not isinstance(value, str)
        assert (json.loads(kept) if is_text else kept) == value


def test_a_column_of_lists_becomes_text() -> None:
    assert one_kind([["a", 1], None, "x"]) == ['["a", 1]', None, "x"]


class FakeTables:
    """Stands in for pandas and pyarrow: keeps what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: dict[str, Sequence[Any]] = {}
        self.rows: list[Mapping[str, Any]] = []
        pandas, arrow, parquet = ModuleType("pandas"), ModuleType("pyarrow"), ModuleType("pyarrow.parquet")
        pandas.DataFrame = self._frame  # type: ignore[attr-defined]
        arrow.table = dict  # type: ignore[attr-defined]
        parquet.write_table = self._write  # type: ignore[attr-defined]
        for module in (pandas, arrow, parquet):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def _frame(self, rows: list[Mapping[str, Any]]) -> str:
        self.rows = rows
        return "a frame"

    def _write(self, table: dict[str, Sequence[Any]], path: str) -> None:
        self.written = table
        Path(path).write_bytes(b"PAR1")


def test_frames_and_parquet_files_are_made_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTables(monkeypatch)
    assert frame(ROWS) == "a frame"
    assert fake.rows == ROWS
    write_parquet(ROWS, tmp_path / "runs.parquet")
    assert fake.written["run_id"] == ["r0001", "r0002"]
    assert fake.written["loss"][0] == 0.5 and math.isnan(fake.written["loss"][1])
    assert fake.written["config.name"] == [None, '["a", 1]']
    assert [path.name for path in tmp_path.iterdir()] == ["runs.parquet"]


def test_a_parquet_file_that_cannot_be_written_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTables(monkeypatch)
    with pytest.raises(StorageError, match=r"cannot write .*runs\.parquet"):
        write_parquet(ROWS, tmp_path / "gone" / "runs.parquet")
    with pytest.raises(ConfigError, match="nothing to write"):
        write_parquet([], tmp_path / "runs.parquet")


def test_without_the_packages_the_install_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pandas is not installed; run: pip install 'hotlap\[data\]'"):
        frame(ROWS)
    with pytest.raises(MissingExtraError, match=r"pyarrow is not installed; run: pip install 'hotlap\[data\]'"):
        write_parquet(ROWS, tmp_path / "runs.parquet")


def test_a_real_frame_and_a_real_file(tmp_path: Path) -> None:
    pandas, parquet = pytest.importorskip("pandas"), pytest.importorskip("pyarrow.parquet")
    found = frame(ROWS)
    assert list(found["run_id"]) == ["r0001", "r0002"]
    assert pandas.isna(found["loss"][1])
    write_parquet(ROWS, tmp_path / "runs.parquet")
    table = parquet.read_table(str(tmp_path / "runs.parquet")).to_pydict()
    assert table["config.name"] == [None, '["a", 1]']
