"""`hotlap import`: what it says it has done, and what it says when it cannot."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from typer.testing import CliRunner, Result

from hotlap.cli import main
from hotlap.core.errors import ConfigError, DataError, HotlapError
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.store import RunStore

RUNNER = CliRunner()
TABLE = "id,state,learning_rate,optim,eval_loss\na,finished,0.1,muon,3.5\nb,failed,0.2,sgd,\nc,running,0.3,sgd,4\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.csv"
    path.write_text(TABLE)
    return path


def run(project: Path, *arguments: str, name: str = "import") -> Result:
    return RUNNER.invoke(main.app, [name, *arguments, "-p", str(project)])


def refused(project: Path, *arguments: str, name: str = "import") -> HotlapError:
    error = run(project, *arguments, name=name).exception
    assert isinstance(error, HotlapError), error
    return error


def test_a_table_is_taken_in_and_what_was_read_is_told(table: Path, tmp_path: Path) -> None:
    result = run(tmp_path, str(table))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"imported 2 runs from {table} (table of runs) as r0001 to r0002 (sweep@import)",
        f"next: hotlap runs ls --study sweep@import -p {tmp_path} · hotlap analyze sweep@import -p {tmp_path}",
    ]
    assert "note: columns read as settings: learning_rate, optim; metrics: eval_loss" in result.stderr
    assert "note: 1 of 3 runs left out" in result.stderr
    listed = run(tmp_path, "ls", "--study", "sweep@import", name="runs").stdout
    assert [line.split()[:4] for line in listed.splitlines()[1:]] == [
        ["r0001", "sweep@import", "manual", "missed"],
        ["r0002", "sweep@import", "manual", "crashed"],
    ]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://wandb.ai/me/proj", "export the runs table on that page as CSV"),
        ("s3://bucket/runs.csv", "fetches nothing; download it"),
        ("mysql+pymysql://host/db", "only SQLite is read here; copy the study"),
    ],
)
def test_an_address_is_told_what_to_do_instead(tmp_path: Path, address: str, told: str) -> None:
    error = refused(tmp_path, address)
    assert isinstance(error, DataError) and told in str(error) and str(error).startswith(address)
    assert ("optuna" in str(error)) == address.startswith("mysql")


def test_importing_again_adds_only_what_is_new(table: Path, tmp_path: Path) -> None:
    run(tmp_path, str(table))
    table.write_text(TABLE.replace("running", "finished"))
    told = run(tmp_path, str(table)).stdout.splitlines()[0]
    assert told == f"imported 1 run from {table} (table of runs) as r0003 (sweep@import); 2 were here already"
    table.write_text(TABLE.replace("3.5", "3.25"))
    result = run(tmp_path, str(table))
    assert result.stdout.startswith(f"imported 0 runs from {table} (table of runs); 1 was here already\n")
    assert "note: r0001: changed since the import" in result.stderr


def test_names_and_columns_can_be_chosen(table: Path, tmp_path: Path) -> None:
    result = run(tmp_path, str(table), "--name", "mine", "--config", "eval_loss", "--metric", "learning_rate")
    assert "(mine@import)" in result.stdout
    with RunStore(ProjectFolder(tmp_path)) as store:
        store.refresh()
        first = store.get("r1")
    assert (first.config, first.metrics) == ({"optim": "muon", "eval_loss": 3.5}, {"learning_rate": 0.1})


def test_as_json(table: Path, tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(run(tmp_path, str(table), "--json").stdout)
    assert document["schema"] == "hotlap/imported/1"
    (source,) = document["sources"]
    assert (source["added"], source["known"], source["changed"]) == (["r0001", "r0002"], 0, [])
    assert source["group"] == "sweep@import"


def test_a_storage_of_optuna(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(path))), study_name="tiny")
    trial = study.ask()
    trial.suggest_float("learning_rate", 0.1, 0.2)
    study.tell(trial, 2.5)
    result = run(tmp_path, str(path))
    assert result.stdout.splitlines()[0] == f"imported 1 run from {path} (Optuna study) as r0001 (tiny@import)"
    assert "no columns to choose" in str(refused(tmp_path, str(path), "--metric", "value"))


def test_an_imported_run_is_shown_as_one(table: Path, tmp_path: Path) -> None:
    run(tmp_path, str(table))
    shown = run(tmp_path, "show", "r0001", name="runs").stdout
    assert f"imported: a of {table} (table of runs)" in shown
    assert "no clock of hotlap's" in shown
    assert "config, against nothing" in shown
    assert "run it again" not in shown
    document = json.loads(run(tmp_path, "show", "r0001", "--json", name="runs").stdout)
    assert document["reproduce"] is None
    assert document["runs"][0]["imported"]["id"] == "a"


def test_an_imported_run_cannot_be_run_again(table: Path, tmp_path: Path) -> None:
    run(tmp_path, str(table))
    error = refused(tmp_path, "r0001", name="rerun")
    assert isinstance(error, ConfigError)
    assert "was imported from" in str(error)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,lr\na,1,2\n", "sweep.csv:2: 3 cells"),
        ("", "sweep.csv: there is no row"),
        ("id,lr\na,1\na,2\n", "sweep.csv:3"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_message_and_leaves_no_run(
    table: Path, tmp_path: Path, text: str, told: str
) -> None:
    table.write_text(text)
    error = refused(tmp_path, str(table))
    assert isinstance(error, DataError)
    assert told in str(error) and "\n" not in str(error)
    assert not (tmp_path / ".hotlap" / "runs").exists()


def test_reindex_keeps_imported_runs(table: Path, tmp_path: Path) -> None:
    run(tmp_path, str(table))
    before = run(tmp_path, "ls", "--json", name="runs").stdout
    assert "2 runs in" in run(tmp_path, name="reindex").stdout
    assert run(tmp_path, "ls", "--json", name="runs").stdout == before
