"""Optuna's storages: every ended trial, with its points and names, and nothing written into the storage."""

import hashlib
import json
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hotlap.core.errors import DataError
from hotlap.search.optuna_storage import is_optuna_storage, read_optuna_storage


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def fill(storage: RDBStorage | JournalStorage, name: str = "tiny") -> None:
    """Run a study of five trials: complete, complete, pruned, failed, and one that goes on."""
    study = optuna.create_study(storage=storage, study_name=name, direction="minimize")
    for number in range(5):
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True)
        trial.suggest_categorical("optim", ["muon", "adamw"])
        for step in (10, 20):
            trial.report(3.0 - step / 100, step)
        trial.set_user_attr("grad_norm", 0.5)
        trial.set_user_attr("note", "hot")
        if number < 2:
            study.tell(trial, 2.5 - number)
        elif number < 4:
            study.tell(trial, state=TrialState.PRUNED if number == 2 else TrialState.FAIL)


def sqlite(path: Path) -> Path:
    storage = RDBStorage(f"sqlite:///{path}")
    fill(storage)
    storage.remove_session()
    storage.engine.dispose()
    return path


def journal(path: Path) -> Path:
    fill(JournalStorage(JournalFileBackend(str(path))))
    return path


def check(place: str, path: Path) -> None:
    (source,) = read_optuna_storage(place)
    assert (source.kind, source.label, source.place) == ("Optuna study", "tiny", str(path))
    assert [(run.own_id, run.outcome) for run in source.runs] == [
        ("0", "missed"),
        ("1", "missed"),
        ("2", "raced"),
        ("3", "crashed"),
    ]
    first = source.runs[0]
    assert set(first.config) == {"learning_rate", "optim"}
    assert 1e-5 <= first.config["learning_rate"] <= 1e-3
    assert (first.metrics["value"], first.metrics["grad_norm"]) == (2.5, 0.5)
    assert first.metrics["source_seconds"] >= 0
    assert first.points == ({"step": 10, "value": 2.9}, {"step": 20, "value": 2.8})
    assert first.facts == {"study": "tiny", "directions": {"value": "minimize"}, "note": "hot"}
    assert first.identity == f"optuna:tiny#0@{first.started_at}"
    assert "value" not in source.runs[3].metrics
    (notice,) = source.notices
    assert notice.startswith("1 of 5 trials left out")


def test_a_sqlite_file_and_its_address(tmp_path: Path) -> None:
    path = sqlite(tmp_path / "study.db")
    before = hashlib.sha256(path.read_bytes()).digest()
    check(str(path), path)
    check(f"sqlite:///{path}", path)
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert [file.name for file in tmp_path.iterdir()] == ["study.db"]


def test_a_journal(tmp_path: Path) -> None:
    path = journal(tmp_path / "study.log")
    check(str(path), path)
    assert [file.name for file in tmp_path.iterdir()] == ["study.log"]


def test_a_journal_whose_last_line_is_being_written(tmp_path: Path) -> None:
    path = journal(tmp_path / "study.log")
    with path.open("a") as file:
        file.write('{"op_code":4,')
    check(str(path), path)


def test_every_study_is_a_source_of_its_own(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "studies.log")))
    fill(storage, "first")
    fill(storage, "second")
    assert [source.label for source in read_optuna_storage(str(tmp_path / "studies.log"))] == ["first", "second"]


def test_a_study_without_a_name_is_called_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "nameless.log"
    optuna.create_study(storage=JournalStorage(JournalFileBackend(str(path))))
    (source,) = read_optuna_storage(str(path))
    assert (source.label, source.runs, source.notices) == ("nameless", (), ())


def test_values_have_the_names_that_the_study_gives_them(tmp_path: Path) -> None:
    path = tmp_path / "two.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    for name in ("plain", "named"):
        study = optuna.create_study(storage=storage, study_name=name, directions=["minimize", "maximize"])
        if name == "named":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # naming values is experimental
                study.set_metric_names(["loss", "speed"])
        trial = study.ask()
        study.tell(trial, [1.5, 20.0])
    plain, named = read_optuna_storage(str(path))
    assert (plain.runs[0].metrics["value_0"], plain.runs[0].metrics["value_1"]) == (1.5, 20.0)
    assert (named.runs[0].metrics["loss"], named.runs[0].metrics["speed"]) == (1.5, 20.0)
    assert named.runs[0].facts["directions"] == {"loss": "minimize", "speed": "maximize"}


def test_what_may_be_a_storage(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text('{"id": "a", "lr": 0.1}\n')
    (tmp_path / "empty").write_text("")
    assert is_optuna_storage("postgresql://host/db")
    assert is_optuna_storage("sqlite:///gone.db") and is_optuna_storage("mysql+pymysql://host/db")
    assert not is_optuna_storage("https://wandb.ai/me/proj")
    assert is_optuna_storage(str(journal(tmp_path / "study.log")))
    assert is_optuna_storage(str(sqlite(tmp_path / "study.db")))
    for name in ("runs.jsonl", "empty", "gone", ""):
        assert not is_optuna_storage(str(tmp_path / name))


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only SQLite is read here; copy the study"):
        read_optuna_storage("postgresql://host/db")
    with pytest.raises(DataError, match=r"gone\.db: no such file"):
        read_optuna_storage(f"sqlite:///{tmp_path}/gone.db")
    other = tmp_path / "other.db"
    other.write_bytes(b"SQLite format 3\0" + b"no database" * 100)
    with pytest.raises(DataError, match=r"other\.db: cannot be read as an Optuna storage"):
        read_optuna_storage(str(other))
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(DataError, match=r"empty\.db: there is no study of Optuna's in it"):
        read_optuna_storage(str(empty))
    assert empty.stat().st_size == 0


def test_a_damaged_journal_is_told_with_its_line(tmp_path: Path) -> None:
    path = journal(tmp_path / "study.log")
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = lines[2][:9] + "\n"
    path.write_text("".join(lines))
    with pytest.raises(DataError, match=r"study\.log:3: not a line of an Optuna journal"):
        read_optuna_storage(str(path))
    path.write_text(json.dumps({"op_code": 4, "study_id": 7}) + "\n")
    with pytest.raises(DataError, match=r"study\.log: not a whole Optuna journal"):
        read_optuna_storage(str(path))
