"""Files that survive a crash: full disks, killed writers, readers that look at the wrong moment."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.core.errors import StorageError
from hotlap.core.files import (
    LineReader,
    append_json_line,
    is_disk_full,
    move_lines,
    read_json,
    read_json_lines,
    remove_tree,
    sync,
    write_atomic,
    write_json,
)


def disk_is_full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotlap.core.files.os.fsync", disk_is_full)


def test_an_atomic_write_replaces_the_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "a long first text\n")
    write_atomic(path, "zwölf\n")
    assert path.read_text(encoding="utf-8") == "zwölf\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_writers_left_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "file"
    living = tmp_path / f"file.{os.getppid()}.tmp"
    others = [tmp_path / name for name in ("file.old.tmp", "other.4194305.tmp", "file.4194305", "file.x.4194305.tmp")]
    for left in (living, *others, tmp_path / "file.4194305.tmp"):  # no process has a number above 2^22
        left.touch()
    write_atomic(path, "text")
    assert sorted(tmp_path.iterdir()) == sorted([path, living, *others])


def test_the_name_of_a_file_reaches_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr("hotlap.core.files.os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    write_atomic(tmp_path / "file", "text")
    assert synced == [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]
    synced.clear()
    append_json_line(tmp_path / "lines", {"a": 1}, durable=True)
    append_json_line(tmp_path / "lines", {"a": 2}, durable=True)
    lines = (tmp_path / "lines").stat().st_ino
    assert synced == [lines, tmp_path.stat().st_ino, lines]


def test_a_file_system_that_cannot_sync_a_folder_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(_: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("hotlap.core.files.sync", cannot)
    write_atomic(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_known_by_its_error(number: int) -> None:
    assert is_disk_full(OSError(number, os.strerror(number)))
    assert not is_disk_full(PermissionError(errno.EACCES, "no"))
    assert not is_disk_full(ValueError("No space left on device"))


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_content_and_no_debris(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(StorageError, match=r"cannot write .*file: No space left on device; free space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        write_atomic(tmp_path / "missing" / "file", "text")
    with pytest.raises(StorageError, match="cannot append"):
        append_json_line(tmp_path / "missing" / "file", {})


def test_a_reader_sees_the_old_or_the_new_text_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = ["a" * 100_000, "b" * 50_000]
    write_atomic(path, texts[0])
    stop = threading.Event()

    def write() -> None:
        for number in range(40):
            write_atomic(path, texts[number % 2])
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not stop.is_set():
        seen.add(path.read_text())
    writer.join()
    assert seen <= set(texts)


def test_json_is_stored_readable_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"reason": "größer", "seconds": 1.5, "none": None})
    assert read_json(path) == {"reason": "größer", "seconds": 1.5, "none": None}
    assert "größer" in path.read_text(encoding="utf-8")
    assert read_json(tmp_path / "absent.json") is None


@pytest.mark.usefixtures("full_disk")
def test_a_durable_line_that_does_not_reach_the_disk_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with pytest.raises(StorageError, match="No space left on device"):
        append_json_line(path, {"a": 1}, durable=True)
    append_json_line(path, {"a": 2})  # a line that does not wait for the disk never asks it


def test_a_partial_last_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"a": 1}\n{"a": ')
    reader = LineReader(path)
    assert list(reader.read_new()) == [{"a": 1}]
    assert list(reader.read_new()) == []
    with path.open("a") as file:
        file.write("2}\n")
    assert list(reader.read_new()) == [{"a": 2}]
    assert list(reader.read_new()) == []


def test_the_fragment_of_a_killed_writer_is_closed_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"a": 1}\n{"a": 2')
    reader = LineReader(path)
    assert list(reader.read_new()) == [{"a": 1}]
    append_json_line(path, {"a": 3})
    assert path.read_text() == '{"a": 1}\n{"a": 2 ... cut off\n{"a": 3}\n'
    assert list(reader.read_new()) == [{"a": 3}]
    assert read_json_lines(path) == [{"a": 1}, {"a": 3}]


VALUES = st.dictionaries(
    st.text(max_size=5),
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"), max_size=8),
    max_size=3,
)


@given(value=VALUES, data=st.data())
@settings(deadline=None)
def test_a_line_that_was_not_finished_never_counts_wherever_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any], data: st.DataObject
) -> None:
    """Also where nothing but its line break is missing: whoever wrote it was told that it had failed, or died."""
    path = tmp_path_factory.mktemp("lines") / "lines"
    append_json_line(path, value)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    assert read_json_lines(path) == []
    append_json_line(path, {"a": 3})
    assert read_json_lines(path) == [{"a": 3}]


def test_lines_that_are_no_mapping_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'12\n[1]\n\n\xff\xfe\n{"a": 1}\n')
    assert read_json_lines(path) == [{"a": 1}]


def test_an_absent_file_has_no_lines_until_it_comes(tmp_path: Path) -> None:
    reader = LineReader(tmp_path / "lines")
    assert list(reader.read_new()) == []
    append_json_line(tmp_path / "lines", {"a": 1})
    assert list(reader.read_new()) == [{"a": 1}]


@given(values=st.lists(VALUES, max_size=8), cuts=st.lists(st.integers(0, 400), max_size=8).map(sorted))
@settings(deadline=None)
def test_a_file_that_grows_in_any_pieces_is_read_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    whole = folder / "whole"
    whole.touch()
    for value in values:
        append_json_line(whole, value)
    data = whole.read_bytes()
    reader = LineReader(folder / "growing")
    read: list[dict[str, Any]] = []
    for cut in [*cuts, len(data)]:
        (folder / "growing").write_bytes(data[:cut])
        read.extend(reader.read_new())
    assert read == values


def test_a_line_break_inside_a_value_does_not_break_the_line(tmp_path: Path) -> None:
    value = {"text": "a\nb\r\nc\u2028d\x85e\x0b"}
    append_json_line(tmp_path / "lines", value)
    assert (tmp_path / "lines").read_bytes().count(b"\n") == 1
    assert read_json_lines(tmp_path / "lines") == [value]


def test_two_writers_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"

    def write(writer: int) -> None:
        for number in range(100):
            append_json_line(path, {"writer": writer, "number": number, "filler": "x" * 200})

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = read_json_lines(path)
    assert sorted((line["writer"], line["number"]) for line in lines) == [(w, n) for w in range(4) for n in range(100)]


def test_a_file_that_was_replaced_or_cut_is_read_again_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    reader = LineReader(path)
    for number in range(3):
        append_json_line(path, {"a": number})
    assert len(list(reader.read_new())) == 3
    write_atomic(path, '{"a": 0}\n{"a": 1}\n{"a": "a longer one than what stood here before"}\n{"a": 3}\n')
    assert [line["a"] for line in reader.read_new()][-1] == 3
    path.write_text('{"a": 9}\n')
    assert list(reader.read_new()) == [{"a": 9}]
    assert list(reader.read_new()) == []


def test_lines_are_moved_to_the_end_of_another_file(tmp_path: Path) -> None:
    path, aside = tmp_path / "lines", tmp_path / "aside"
    append_json_line(aside, {"step": 99})
    for step in range(6):
        append_json_line(path, {"step": step, "loss": 1 / 3 + step})
    before = read_json_lines(path)
    assert move_lines(path, aside, lambda line: line["step"] > 3) == 2
    assert read_json_lines(path) == before[:4]
    assert read_json_lines(aside) == [{"step": 99}, *before[4:]]


def test_where_there_is_nothing_to_move_nothing_is_touched(tmp_path: Path) -> None:
    path, aside = tmp_path / "lines", tmp_path / "aside"
    assert move_lines(path, aside, lambda line: True) == 0
    path.write_text('{"step": 1}\n{"step": 2')
    assert move_lines(path, aside, lambda line: line["step"] > 1) == 0
    assert path.read_text() == '{"step": 1}\n{"step": 2'
    assert not aside.exists()


@pytest.mark.usefixtures("full_disk")
def test_lines_stay_where_they_are_until_they_are_safe_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    with pytest.raises(StorageError, match="No space left on device"):
        move_lines(path, tmp_path / "aside", lambda line: line["step"] > 1)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_syncing_asks_the_disk_for_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    synced = []
    monkeypatch.setattr("hotlap.core.files.os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    sync(path)
    sync(tmp_path)
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_a_folder_is_taken_away_and_what_it_links_to_stays(tmp_path: Path) -> None:
    data, worktree = tmp_path / "data", tmp_path / "worktree"
    data.mkdir()
    (data / "a.txt").write_text("mine")
    data.chmod(0o755)
    (worktree / "closed" / "inner").mkdir(parents=True)
    (worktree / "link").symlink_to(data)
    (worktree / "closed").chmod(0)
    remove_tree(worktree)
    assert not worktree.exists()
    assert (data / "a.txt").read_text() == "mine"
    assert data.stat().st_mode & 0o777 == 0o755
