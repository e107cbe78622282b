"""Tables of other programs: every form gives the same rows, and what is broken is told with its line."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotlap.core.errors import DataError
from hotlap.runs.foreign_table import Table, load_table


def load(folder: Path, text: str, name: str = "runs.csv") -> Table:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_table(path)


def cells(table: Table) -> list[dict[str, Any]]:
    return [dict(row.cells) for row in table.rows]


def test_cells_of_csv_are_what_they_are_written_as(tmp_path: Path) -> None:
    text = 'id,lr,layers,optim,bf16,loss,empty\n007,3e-4,12,"adamw, fused",True,-1.5,\nb, .5 ,-3,muon,false,NaN,\n'
    table = load(tmp_path, text)
    first, second = cells(table)
    assert first == {"id": "007", "lr": 3e-4, "layers": 12, "optim": "adamw, fused", "bf16": True, "loss": -1.5}
    assert math.isnan(second.pop("loss"))
    assert second == {"id": "b", "lr": ".5 ", "layers": -3, "optim": "muon", "bf16": False}
    assert table.columns == ("id", "lr", "layers", "optim", "bf16", "loss")
    assert [row.place for row in table.rows] == [f"{tmp_path}/runs.csv:2", f"{tmp_path}/runs.csv:3"]


@pytest.mark.parametrize("text", ["007", "1_000", "1e", "0x10", "12e4a", "--1", "1.2.3", "9" * 30])
def test_what_only_looks_like_a_number_stays_text(tmp_path: Path, text: str) -> None:
    assert cells(load(tmp_path, f"lr\n{text}\n")) == [{"lr": text}]


def test_the_place_of_a_row_after_a_cell_of_several_lines(tmp_path: Path) -> None:
    assert [row.place[-2:] for row in load(tmp_path, 'a,b\n"x\ny",1\nz,2\n').rows] == [":3", ":4"]


def test_all_forms_give_the_same_rows(tmp_path: Path) -> None:
    found = [{"id": "a", "config.lr": 0.5, "n": 3}, {"id": "b", "n": 4}]
    nested = [{"id": "a", "config": {"lr": 0.5}, "n": 3, "x": None}, {"id": "b", "n": 4, "config": {}}]
    lines = "".join(json.dumps(row) + "\n" for row in nested)
    assert cells(load(tmp_path, lines, "runs.jsonl")) == found
    assert cells(load(tmp_path, json.dumps(nested), "runs.json")) == found
    assert cells(load(tmp_path, json.dumps({"runs": nested}), "export.json")) == found
    assert cells(load(tmp_path, "id,config.lr,n\na,0.5,3\nb,,4\n")) == found
    assert cells(load(tmp_path, "id\tconfig.lr\tn\na\t0.5\t3\nb\t\t4\n", "runs.tsv")) == found


def test_mappings_that_were_written_as_text_are_spread(tmp_path: Path) -> None:
    summary = str({"loss": 0.5, "worst": math.inf, "gone": math.nan, "eval": {"acc": 1}})
    config = json.dumps({"lr": 3e-4, "optim": "muon"})
    path = tmp_path / "project.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["", "summary", "config", "name"], [0, summary, config, "glad-sun"]])
    assert cells(load_table(path)) == [
        {
            "summary.loss": 0.5,
            "summary.worst": math.inf,
            "summary.eval.acc": 1,
            "config.lr": 3e-4,
            "config.optim": "muon",
            "name": "glad-sun",
        }
    ]


json_cells = st.one_of(st.booleans(), st.integers(-(10**15), 10**15), st.text(min_size=1), st.floats(allow_nan=False))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["lr", "loss", "optim"]), json_cells, min_size=1), min_size=1, max_size=5)
)
def test_lines_of_json_lose_nothing(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert cells(load(tmp_path, text, "runs.jsonl")) == rows


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("runs.csv", "", r"runs\.csv: there is no row"),
        ("runs.csv", "a,b\n", r"runs\.csv: there is no row"),
        ("runs.csv", "a,b\n1,2\n1,2,3\n", r"runs\.csv:3: 3 cells, but the header names 2 columns"),
        ("runs.csv", "a,b\n1\n", r"runs\.csv:2: 1 cells, but the header names 2 columns"),
        ("runs.csv", "a,a\n1,2\n", r"runs\.csv:1: the column 'a' appears twice"),
        (
            "runs.csv",
            "id;lr;eval_loss\na;0,1;2,5\n",
            r"runs\.csv:1: the columns are separated by ';', expected commas; save",
        ),
        ("runs.csv", "id\tlr\na\t1\n", r"runs\.csv:1: the columns are separated by '\\t', .* name it runs\.tsv"),
        (
            "runs.tsv",
            "id,lr\na,1\n",
            r"runs\.tsv:1: the columns are separated by ',', expected tabs; name it runs\.csv",
        ),
        ("runs.csv", 'a,b\n"x"y,2\n', r"runs\.csv:2: not valid CSV"),
        ("runs.csv", "name,summary\nx,{oops\n", r"runs\.csv:2: column summary: cannot be read as a mapping"),
        ("runs.jsonl", '{"a": 1}\n{"a":\n', r"runs\.jsonl:2: not valid JSON"),
        ("runs.jsonl", '{"a": 1}\n\n[1]\n', r"runs\.jsonl:3: expected an object"),
        ("runs.json", "[{},\n oops]", r"runs\.json:2: not valid JSON"),
        ("runs.json", '{"a": 1}', r"runs\.json: expected a list of objects"),
        ("runs.json", "[1]", r"runs\.json: entry 1: expected an object"),
    ],
)
def test_what_is_broken_is_told_with_its_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load(tmp_path, text, name)


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes("a\nÄ\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        load_table(path)
