"""Folders that are counted: ids that only one process gets, on the disk before anybody uses them."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hotlap.core.bench_folder import BenchFolder
from hotlap.core.errors import StorageError
from hotlap.core.numbered_folders import id_pattern, numbered_folders, take_folder
from hotlap.core.profile_folder import ProfileFolder
from hotlap.core.run_folder import RunFolder

TAKE_MANY = """
import sys, time
from pathlib import Path
from hotlap.core.numbered_folders import take_folder
place, own, other = map(Path, sys.argv[1:])
own.touch()
while not other.exists():
    time.sleep(0.001)
print(*(take_folder(place, "r", "a run folder").name for _ in range(100)))
"""


def taken(place: Path, count: int = 1) -> list[str]:
    return [take_folder(place, "r", "a run folder").name for _ in range(count)]


def test_ids_count_from_one(tmp_path: Path) -> None:
    assert taken(tmp_path / "runs", 3) == ["r0001", "r0002", "r0003"]


def test_an_id_that_was_taken_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr("hotlap.core.files.os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    taken(tmp_path)
    assert synced == [tmp_path.stat().st_ino]


def test_an_id_between_others_is_never_used_again(tmp_path: Path) -> None:
    for name in ("r0003", "r0041", "notes", "r41", "r0042.tmp", "old-r0099", "b0050"):
        (tmp_path / name).mkdir()
    assert taken(tmp_path) == ["r0042"]
    (tmp_path / "r0041").rmdir()
    assert taken(tmp_path) == ["r0043"]
    assert [number for number, _ in numbered_folders(tmp_path, "r")] == [3, 42, 43]


def test_ids_grow_beyond_four_digits_and_are_listed_by_number(tmp_path: Path) -> None:
    (tmp_path / "r9999").mkdir()
    assert taken(tmp_path, 2) == ["r10000", "r10001"]
    assert [path.name for _, path in numbered_folders(tmp_path, "r")] == ["r9999", "r10000", "r10001"]
    assert id_pattern("r").fullmatch("r10000")


def test_an_absent_folder_has_none(tmp_path: Path) -> None:
    assert numbered_folders(tmp_path / "runs", "r") == []


def test_threads_get_different_ids(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = [name for found in pool.map(lambda _: taken(tmp_path / "runs"), range(64)) for name in found]
    assert sorted(ids) == [f"r{number:04}" for number in range(1, 65)]


def test_processes_get_different_ids(tmp_path: Path) -> None:
    signs = [tmp_path / "one", tmp_path / "other"]
    started = [
        subprocess.Popen([sys.executable, "-c", TAKE_MANY, str(tmp_path / "runs"), *order], stdout=subprocess.PIPE)
        for order in (signs, signs[::-1])
    ]
    ids = [name for process in started for name in process.communicate(timeout=60)[0].decode().split()]
    assert sorted(ids) == [f"r{number:04}" for number in range(1, 201)]


@pytest.mark.parametrize(
    ("create", "what"),
    [
        (RunFolder.create, "a run folder"),
        (BenchFolder.create, "a bench folder"),
        (ProfileFolder.create, "a profile's folder"),
    ],
)
def test_a_place_that_cannot_hold_them_is_a_storage_error(
    tmp_path: Path, create: Callable[[Path], object], what: str
) -> None:
    (tmp_path / "place").write_text("a file")
    with pytest.raises(StorageError, match=f"cannot make {what} in .*place: .*; choose another project folder with -p"):
        create(tmp_path / "place")
