"""The run folder: ids, the files of the contract, and what is believed of a run."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hotlap.core.errors import StorageError
from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder

ALIVE = process_identity()
GONE = {**ALIVE, "start_seconds": 1.0}
CONTRACT = Path(__file__).parents[2] / "docs" / "run-folder.md"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs")


def test_ids_count_from_one(tmp_path: Path) -> None:
    assert [RunFolder.create(tmp_path / "runs").run_id for _ in range(3)] == ["r0001", "r0002", "r0003"]


def test_an_id_between_others_is_never_used_again(tmp_path: Path) -> None:
    for name in ("r0003", "r0041", "notes", "r41", "r0042.tmp", "old-r0099"):
        (tmp_path / name).mkdir()
    assert RunFolder.create(tmp_path).run_id == "r0042"
    (tmp_path / "r0041").rmdir()
    assert RunFolder.create(tmp_path).run_id == "r0043"


def test_ids_grow_beyond_four_digits(tmp_path: Path) -> None:
    (tmp_path / "r9999").mkdir()
    assert [RunFolder.create(tmp_path).run_id for _ in range(2)] == ["r10000", "r10001"]


def test_folders_made_at_the_same_time_get_different_ids(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: RunFolder.create(tmp_path / "runs").run_id, range(64)))
    assert sorted(ids) == [f"r{number:04}" for number in range(1, 65)]


def test_a_place_that_cannot_hold_runs_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match="choose another project folder with -p"):
        RunFolder.create(tmp_path / "runs")


def test_every_file_has_the_name_of_the_contract(folder: RunFolder) -> None:
    folder.write_config("name: run\n")
    folder.write_diff("")
    for name in ("command", "proposal", "environment", "worker", "stop", "result"):
        folder.write(name, {"name": name})
        assert folder.read(name) == {"name": name}
    folder.append_point({"step": 1})
    folder.append_sample({"step": 1})
    for path in (folder.system_path, folder.stdout_path, folder.weights_path):
        path.touch()
    table = {name for row in CONTRACT.read_text().splitlines() if row.startswith("| `") for name in first_cell(row)}
    assert {path.name for path in folder.path.iterdir()} == table


def first_cell(row: str) -> list[str]:
    return re.findall(r"`([^`]+)`", row.split("|")[1])


def test_a_json_file_that_is_not_in_the_contract_is_our_own_bug(folder: RunFolder) -> None:
    with pytest.raises(AssertionError):
        folder.write("notes", {})
    with pytest.raises(AssertionError):
        folder.read("notes")


def test_points_can_be_followed_while_they_come(folder: RunFolder) -> None:
    reader = folder.point_reader()
    assert folder.points() == []
    folder.append_point({"step": 1, "eval_loss": 2.5})
    assert list(reader.read_new()) == [{"step": 1, "eval_loss": 2.5}]
    folder.append_point({"step": 2})
    assert list(reader.read_new()) == [{"step": 2}]
    assert [point["step"] for point in folder.points()] == [1, 2]


def test_the_log_tail_is_short_and_survives_broken_bytes(folder: RunFolder) -> None:
    assert folder.log_tail() == ""
    folder.stdout_path.write_bytes(b"first\n" + b"x\n" * 20 + b"\xff last\n")
    assert folder.log_tail(2) == "x\n\N{REPLACEMENT CHARACTER} last"
    assert "first" not in folder.log_tail()


@pytest.mark.parametrize(
    ("result", "stop", "worker", "expected"),
    [
        ("reached", None, GONE, "reached"),
        ("reached", "raced", GONE, "reached"),
        ("reached", "raced", ALIVE, "reached"),
        ("missed", None, GONE, "missed"),
        ("missed", None, ALIVE, "missed"),
        ("missed", "raced", GONE, "raced"),
        ("interrupted", "raced", GONE, "raced"),
        ("interrupted", "raced", ALIVE, None),
        (None, "raced", GONE, "raced"),
        (None, "raced", ALIVE, None),
        (None, "raced", None, "raced"),
        (None, None, ALIVE, None),
        (None, None, GONE, "lost"),
        (None, None, None, "lost"),
    ],
)
def test_what_is_believed_of_a_run(
    folder: RunFolder, result: str | None, stop: str | None, worker: dict[str, Any] | None, expected: str | None
) -> None:
    if result:
        folder.write("result", {"outcome": result, "reason": f"it {result}"})
    if stop:
        folder.write("stop", {"outcome": stop, "reason": f"it {stop}", "at_seconds": 1.0})
    if worker:
        folder.write("worker", worker)
    ending = folder.ending()
    assert (ending and ending[0]) == expected
    if ending and expected != "lost":
        assert ending[1] == f"it {expected}"


def test_a_result_written_in_the_moment_of_looking_is_seen(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_just_now(_: RunFolder) -> bool:
        folder.write("result", {"outcome": "missed", "reason": "the schedule ended"})
        return False

    monkeypatch.setattr(RunFolder, "is_running", ends_just_now)
    assert folder.ending() == ("missed", "the schedule ended")
