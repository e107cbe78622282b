"""The run folder: ids, the files of the contract, and what is believed of a run."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from hotlap.core.errors import StorageError
from hotlap.core.files import read_json_lines
from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder, checkpoint_state, checkpoints_in, runs_in

ALIVE = process_identity()
GONE = {**ALIVE, "start_seconds": 1.0}
CONTRACT = Path(__file__).parents[2] / "docs" / "run-folder.md"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs")


def test_ids_count_from_one(tmp_path: Path) -> None:
    assert [RunFolder.create(tmp_path / "runs").run_id for _ in range(3)] == ["r0001", "r0002", "r0003"]


def test_runs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    assert runs_in(tmp_path / "runs") == []
    for name in ("r10000", "r9999", "r0001", "notes", "r12"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert [folder.run_id for folder in runs_in(tmp_path / "runs")] == ["r0001", "r9999", "r10000"]


def test_every_file_has_the_name_of_the_contract(folder: RunFolder) -> None:
    folder.write_config("name: run\n", {"name": "run"})
    folder.write_diff("")
    written = ("command", "proposal", "environment", "worker", "stop", "result", "evaluation", "guards", "import")
    for name in (*written, "trackers"):
        folder.write(name, {"name": name})
        assert folder.read(name) == {"name": name}
    folder.append_point({"step": 1})
    folder.append_sample({"step": 1})
    for path in (folder.system_path, folder.stdout_path, folder.weights_path, folder.trackers_log_path):
        path.touch()
    for path in (folder.path / "tensorboard", folder.shared_path, folder.scratch_path, folder.containers_path):
        path.mkdir()
    for path in (folder.lost_metrics_path, folder.lost_samples_path):
        path.touch()
    folder.checkpoint_path(20).mkdir()
    folder.begin_attempt("name: changed\n")
    for name in ("worker", "stop", "result"):
        folder.write(name, {})
    table = {name for row in CONTRACT.read_text().splitlines() if row.startswith("| `") for name in first_cell(row)}
    assert {path.name for path in folder.path.iterdir()} == {name.rstrip("/") for name in table}


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


def test_points_are_on_the_disk_before_the_result(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.append_point({"step": 1})
    folder.append_sample({"step": 1})
    synced: list[str] = []
    monkeypatch.setattr("hotlap.core.run_folder.sync", lambda path: synced.append(path.name))
    monkeypatch.setattr("hotlap.core.run_folder.write_json", lambda path, value: synced.append(path.name))
    for name in ("environment", "result"):
        folder.write(name, {})
    assert synced == ["environment.json", "metrics.jsonl", "samples.jsonl", "result.json"]


def test_points_that_cannot_reach_the_disk_are_a_storage_error(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_is_full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folder.append_point({"step": 1})
    monkeypatch.setattr("hotlap.core.run_folder.sync", disk_is_full)
    with pytest.raises(StorageError, match="No space left on device"):
        folder.write("result", {"outcome": "reached"})
    assert folder.read("result") is None


def test_a_result_written_in_the_moment_of_looking_is_seen(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_just_now(_: RunFolder) -> bool:
        folder.write("result", {"outcome": "missed", "reason": "the schedule ended"})
        return False

    monkeypatch.setattr(RunFolder, "is_running", ends_just_now)
    assert folder.ending() == ("missed", "the schedule ended")


def make_checkpoint(folder: RunFolder, step: int, **state: Any) -> Path:
    path = folder.checkpoint_path(step)
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "optimizer.pt").write_bytes(b"moments")
    sizes = {"model.safetensors": 7, "optimizer.pt": 7}
    (path / "state.json").write_text(json.dumps({"step": step, "files": sizes, **state}))
    return path


def test_checkpoints_are_listed_by_step(folder: RunFolder) -> None:
    assert folder.checkpoints() == []
    for step in (9, 100, 20):
        make_checkpoint(folder, step)
    for name in ("checkpoint-30.tmp", "checkpoint-x", "checkpoint-", "checkpoint-40.old.tmp"):
        (folder.path / name).mkdir()
    assert folder.checkpoints() == [(step, folder.checkpoint_path(step)) for step in (9, 20, 100)]
    assert [step for step, _ in checkpoints_in(folder.path)] == [9, 20, 100]
    assert checkpoints_in(folder.path / "nowhere") == []


@pytest.mark.parametrize("damage", ["cut", "longer", "missing", "no state", "half a state", "a list", "no sizes"])
def test_a_checkpoint_that_is_not_whole_is_none(folder: RunFolder, damage: str) -> None:
    make_checkpoint(folder, 10)
    path = make_checkpoint(folder, 20)
    weights, state = path / "model.safetensors", path / "state.json"
    match damage:
        case "cut":
            weights.write_bytes(b"weigh")
        case "longer":
            weights.write_bytes(b"weights and more")
        case "missing":
            (path / "optimizer.pt").unlink()
        case "no state":
            state.unlink()
        case "half a state":
            state.write_text(state.read_text()[:-5])
        case "a list":
            state.write_text("[1]")
        case "no sizes":
            state.write_text('{"step": 20}')
    assert checkpoint_state(path) is None
    assert [step for step, _ in folder.checkpoints()] == [10]


def test_the_state_of_a_whole_checkpoint_is_told(folder: RunFolder) -> None:
    state = checkpoint_state(make_checkpoint(folder, 20, tokens=5))
    assert state is not None
    assert (state["step"], state["tokens"]) == (20, 5)


def test_a_new_attempt_puts_aside_what_ended_the_run(folder: RunFolder) -> None:
    folder.write_config("name: run\n")
    for attempt in (1, 2):
        folder.write("worker", GONE)
        folder.write("stop", {"outcome": "interrupted", "reason": f"stop {attempt}"})
        folder.write("result", {"outcome": "interrupted", "reason": f"result {attempt}"})
        assert folder.ending() == ("interrupted", f"stop {attempt}")
        assert folder.begin_attempt("name: run\n") == attempt
        assert (folder.read("result"), folder.read("stop"), folder.read("worker")) == (None, None, None)
    folder.write("worker", ALIVE)
    assert folder.ending() is None, "it counts as running again"
    for attempt in (1, 2):
        for name in ("result", "stop"):
            assert json.loads((folder.path / f"{name}.{attempt}.json").read_text())["reason"] == f"{name} {attempt}"
    assert not list(folder.path.glob("config.*.yaml")), "a config that did not change is not kept twice"


def test_a_killed_run_left_nothing_to_put_aside_but_who_ran_it(folder: RunFolder) -> None:
    folder.write("worker", GONE)
    assert folder.begin_attempt() == 1
    assert [path.name for path in folder.path.iterdir()] == ["worker.1.json"]


def test_a_changed_config_replaces_the_old_one_which_is_kept(folder: RunFolder) -> None:
    folder.write_config("max_steps: 40\n")
    assert folder.begin_attempt("max_steps: 60\n") == 1
    assert folder.begin_attempt("max_steps: 80\n") == 2
    assert folder.config_path.read_text() == "max_steps: 80\n"
    kept = [(folder.path / f"config.{number}.yaml").read_text() for number in (1, 2)]
    assert kept == ["max_steps: 40\n", "max_steps: 60\n"]


def test_points_of_lost_steps_are_taken_away_and_kept_aside(folder: RunFolder) -> None:
    for step in (10, 20, 20, 30):
        folder.append_point({"step": step, "wall_seconds": step / 3})
        folder.append_sample({"step": step, "generated": "a"})
    points = folder.points()
    assert folder.drop_points_after(20) == 1
    assert folder.points() == points[:3]
    assert folder.drop_points_after(20) == 0
    assert folder.drop_points_after(5) == 3
    assert folder.points() == []
    assert read_json_lines(folder.lost_metrics_path) == [points[3], *points[:3]]
    assert [sample["step"] for sample in read_json_lines(folder.lost_samples_path)] == [30, 10, 20, 20]


def test_a_run_without_points_has_none_to_lose(folder: RunFolder) -> None:
    assert folder.drop_points_after(0) == 0
    assert list(folder.path.iterdir()) == []


def test_values_of_the_config_count_while_its_text_is_the_same(folder: RunFolder) -> None:
    assert folder.config_text() is None
    folder.write_config("name: run\n", {"name": "run"})
    assert folder.config_values("name: run\n") == {"name": "run"}
    folder.write_config("name: other\n")
    assert folder.config_text() == "name: other\n"
    assert folder.config_values("name: other\n") is None
