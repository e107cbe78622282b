"""The index: always what the files say, and never needed."""

import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotlap.core.errors import ConfigError, StorageError
from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs import migrations, rows, store
from hotlap.runs.notes import append_note
from hotlap.runs.rows import StoredRun
from hotlap.runs.store import RunStore

MakeRun = Callable[..., RunFolder]


def stored(project: ProjectFolder) -> list[StoredRun]:
    with RunStore(project) as index:
        index.refresh()
        return index.runs()


def test_the_index_can_be_deleted_and_comes_back_equal(project: ProjectFolder, make_run: MakeRun) -> None:
    make_run(20.0, role="baseline", candidate=0)
    make_run(12.0, patch={"training.learning_rate": 1e-3})
    make_run(None)
    make_run(3.0, "crashed")
    study = project.study("s").create()
    study.append("run", {"run": "r0002", "role": "audit", "phase": "ended", "contaminated": "a browser"})
    append_note(project, "r0001", "look here", ("odd",))
    before = stored(project)
    assert [run.outcome for run in before] == ["reached", "reached", "lost", "crashed"]
    assert (before[1].role, before[1].contaminated) == ("audit", "a browser")
    assert before[0].tags == ("odd",)
    assert before[1].config["training"]["learning_rate"] == 1e-3
    assert (before[0].target_train_seconds, before[0].target_wall_seconds) == (20.0, 25.0)
    project.index_path.unlink()
    assert stored(project) == before
    with RunStore(project) as index:
        index.reindex()
        assert index.runs() == before


def test_ended_runs_are_read_once(project: ProjectFolder, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(12.0)
    lost = make_run(None)
    stored(project)
    read: list[str] = []

    def row_of(folder: RunFolder) -> dict[str, object]:
        read.append(folder.run_id)
        return rows.row_of(folder)

    monkeypatch.setattr(store, "row_of", row_of)
    stored(project)
    assert read == [lost.run_id]
    make_run(5.0)
    stored(project)
    assert read == [lost.run_id, lost.run_id, "r0003"]


def test_changed_and_removed_folders_are_noticed(project: ProjectFolder, make_run: MakeRun) -> None:
    changed, removed = make_run(12.0, "missed"), make_run(12.0)
    stored(project)
    changed.write("stop", {"outcome": "invalid", "reason": "the data had changed"})
    shutil.rmtree(removed.path)
    assert [(run.run_id, run.outcome) for run in stored(project)] == [("r0001", "invalid")]


def test_a_run_is_followed_until_it_ends(project: ProjectFolder, make_run: MakeRun) -> None:
    folder = make_run(None)
    folder.write("worker", process_identity())
    (running,) = stored(project)
    assert (running.outcome, running.steps, running.metrics["eval_loss"]) == ("running", 200, 2.0)
    folder.append_point({"step": 300, "train_seconds": 6.0, "wall_seconds": 9.0, "tokens": 150, "eval_loss": 1.5})
    (running,) = stored(project)
    assert (running.steps, running.metrics["eval_loss"]) == (300, 1.5)
    folder.write("result", {"outcome": "missed", "step": 400})
    (ended,) = stored(project)
    assert (ended.outcome, ended.steps) == ("missed", 400)


def test_a_folder_that_cannot_be_read_is_told_and_hides_nothing(project: ProjectFolder, make_run: MakeRun) -> None:
    make_run(12.0)
    for text in ("not json", "[]", '{"outcome": "missed", "step": "many"}'):
        (make_run(None).path / "result.json").write_text(text)
    good, *broken = stored(project)
    assert good.outcome == "reached"
    assert {run.outcome for run in broken} == {"invalid"}
    assert all("cannot be read" in run.reason for run in broken)


def test_a_project_that_cannot_be_written_is_read_from_memory(
    project: ProjectFolder, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(12.0)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert len(stored(project)) == 1
    assert not project.index_path.exists()


def test_looking_at_a_folder_without_runs_leaves_no_trace(tmp_path: Path) -> None:
    assert stored(ProjectFolder(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"this is no database" * 100, b""])
def test_a_damaged_index_is_built_again(project: ProjectFolder, make_run: MakeRun, content: bytes) -> None:
    make_run(12.0)
    project.index_path.write_bytes(content)
    assert len(stored(project)) == 1


def test_an_index_from_the_future_is_built_again(project: ProjectFolder, make_run: MakeRun) -> None:
    make_run(12.0)
    before = stored(project)
    db = sqlite3.connect(project.index_path)
    db.execute("insert into migrations values ('rename_everything')")
    db.execute("drop table notes")
    db.commit()
    db.close()
    assert stored(project) == before


@pytest.mark.parametrize("applied", range(len(migrations.MIGRATIONS) + 1))
def test_every_old_shape_is_brought_forward(
    project: ProjectFolder, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, applied: int
) -> None:
    make_run(12.0)
    with monkeypatch.context() as older:
        older.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:applied])
        RunStore(project).close()
    assert len(stored(project)) == 1


def test_two_may_refresh_at_once(project: ProjectFolder, make_run: MakeRun) -> None:
    for _ in range(3):
        make_run(12.0)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(stored(project)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [3, 3, 3, 3]


def test_runs_are_selected_and_sorted(project: ProjectFolder, make_run: MakeRun) -> None:
    make_run(20.0)
    make_run(12.0, "missed")
    make_run(10.0, study="other")
    make_run(15.0, patch={"clock": "wall"})  # 20 seconds on its clock
    with RunStore(project) as index:
        index.refresh()
        assert [run.run_id for run in index.runs(sort="time")] == ["r0003", "r0001", "r0004", "r0002"]
        assert [run.run_id for run in index.runs(sort="time", limit=1)] == ["r0003"]
        assert [run.run_id for run in index.runs(limit=2)] == ["r0003", "r0004"]
        assert [run.run_id for run in index.runs(study="other")] == ["r0003"]
        assert index.runs(study="none") == []


@pytest.mark.parametrize(
    ("name", "run_id"),
    [
        ("r0002", "r0002"),
        ("r2", "r0002"),
        ("2", "r0002"),
        ("R02", "r0002"),
        ("@last", "r0006"),
        ("@baseline", "r0003"),
        ("@best", "r0004"),
    ],
)
def test_names_of_runs(project: ProjectFolder, make_run: MakeRun, name: str, run_id: str) -> None:
    make_run(1.0, study="old", role="baseline")
    make_run(30.0, "missed", role="baseline")
    make_run(25.0, role="baseline")
    make_run(12.0)
    make_run(5.0)
    make_run(2.0, study="", role="manual")
    project.study("s").create().append("run", {"run": "r0005", "phase": "ended", "contaminated": "a browser"})
    with RunStore(project) as index:
        index.refresh()
        assert index.get(name).run_id == run_id


@pytest.mark.parametrize("name", ["r0009", "@best", "@bset", "", "nonsense", "r-1"])
def test_unknown_names_say_what_there_is(project: ProjectFolder, make_run: MakeRun, name: str) -> None:
    make_run(12.0, "missed")
    with RunStore(project) as index:
        index.refresh()
        with pytest.raises(ConfigError, match=r"r0001 to r0001|no such run|Did you mean"):
            index.get(name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(name=st.text(max_size=12))
def test_any_name_is_a_run_or_an_error(project: ProjectFolder, make_run: MakeRun, name: str) -> None:
    if not project.runs_path.exists():
        make_run(12.0)
    with RunStore(project) as index:
        index.refresh()
        try:
            assert index.get(name).run_id == "r0001"
        except ConfigError as error:
            assert str(error)


def test_an_index_that_cannot_be_written_is_one_message(project: ProjectFolder, make_run: MakeRun) -> None:
    make_run(12.0)
    with RunStore(project) as store:
        store._db.execute("pragma max_page_count = 1")  # as large as it is: what a full disk means, too
        text = "name: s\nnotes: " + "x" * 10**6
        RunFolder(project.runs_path / "r0001").write_config(text)
        with pytest.raises(StorageError, match="database or disk is full; free space"):
            store.refresh()
    with RunStore(project) as store:
        store.refresh()
        assert [run.run_id for run in store.runs()] == ["r0001"]
