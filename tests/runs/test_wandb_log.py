"""The log of wandb: every record of a whole one, and as much as is sound of a broken one."""

import struct
from pathlib import Path

import pytest
import wandb_files as wandb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotlap.core.errors import DataError
from hotlap.core.protobuf import fields
from hotlap.runs.wandb_log import read_log, records

RECORDS = [
    wandb.run("3k2l9x1a", {"lr": 3e-4, ("model", "layers"): 2, "_wandb": {"cli": "0.19"}}),
    wandb.history(0, {"loss": 4.5, ("eval", "loss"): 4.25}),
    wandb.config({"batch": 8, ("model", "width"): 64}),
    wandb.history(10, {"loss": 0.1 + 0.2, "_runtime": 12.5}),
    wandb.summary({"best": 0.25, "picture": {"_type": "image-file"}}, removed=["eval.loss"]),
    wandb.ended(3),
]


def write(folder: Path, data: bytes) -> Path:
    path = folder / "run-3k2l9x1a.wandb"
    path.write_bytes(data)
    return path


def test_a_whole_log(tmp_path: Path) -> None:
    log = read_log(write(tmp_path, wandb.framed(RECORDS)))
    assert (log.run_id, log.name, log.project, log.sweep) == ("3k2l9x1a", "glad-sun-7", "tiny", "sweep1")
    assert log.tags == ["first"]
    assert log.started_at == "2026-09-21T14:13:20+00:00"
    assert log.config == {"lr": 3e-4, "model": {"layers": 2, "width": 64}, "_wandb": {"cli": "0.19"}, "batch": 8}
    assert log.history == [
        {"loss": 4.5, "eval.loss": 4.25, "_step": 0},
        {"loss": 0.1 + 0.2, "_runtime": 12.5, "_step": 10},
    ]
    assert log.summary == {
        "loss": 0.1 + 0.2,
        "_step": 10,
        "_runtime": 12.5,
        "best": 0.25,
        "picture": {"_type": "image-file"},
    }
    assert log.exit_code == 3
    assert log.damage == ""


def test_the_end_tells_how_the_run_ended(tmp_path: Path) -> None:
    assert read_log(write(tmp_path, wandb.framed([wandb.ended(0)]))).exit_code == 0
    assert read_log(write(tmp_path, wandb.framed([wandb.ended(2**64 - 9)]))).exit_code == -9
    assert read_log(write(tmp_path, wandb.framed([]))).exit_code is None


def test_a_step_that_stands_beside_the_items(tmp_path: Path) -> None:
    record = wandb.field(2, wandb.field(1, wandb.item("loss", 1.5)) + wandb.field(2, wandb.field(1, 30)))
    assert read_log(write(tmp_path, wandb.framed([record]))).history == [{"loss": 1.5, "_step": 30}]


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_records_come_back_as_they_were_written(written: list[bytes]) -> None:
    assert list(records(wandb.framed(written))) == written


@pytest.mark.parametrize("size", [wandb.BLOCK - 21, wandb.BLOCK - 20, wandb.BLOCK - 15, wandb.BLOCK, 3 * wandb.BLOCK])
def test_records_at_the_edges_of_blocks(size: int) -> None:
    written = [b"a" * size, b"b" * 10, b"c" * size]
    assert list(records(wandb.framed(written))) == written


numbers = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(st.integers(1, 200), numbers | st.binary(max_size=300)), max_size=10))
def test_fields_of_a_message(written: list[tuple[int, int | bytes]]) -> None:
    message = b"".join(wandb.field(number, value) for number, value in written)
    assert list(fields(message)) == written


def test_fields_of_fixed_width_are_passed_over() -> None:
    fixed = bytes([1 << 3 | 1]) + bytes(8) + bytes([2 << 3 | 5]) + bytes(4)
    assert list(fields(fixed + wandb.field(3, "x"))) == [(3, b"x")]


@pytest.mark.parametrize("message", [b"\x80", bytes([1 << 3 | 2, 9, 0]), bytes([1 << 3 | 3])])
def test_a_broken_message_is_an_error(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|longer than|wire type"):
        list(fields(message))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(7, len(wandb.framed(RECORDS))))
def test_a_log_that_was_cut_off_is_read_up_to_there(tmp_path: Path, cut: int) -> None:
    whole = wandb.framed(RECORDS)
    log, full = read_log(write(tmp_path, whole[:cut])), read_log(write(tmp_path, whole))
    assert log.history == full.history[: len(log.history)]
    assert log.damage == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(7, len(wandb.framed(RECORDS)) - 1), change=st.integers(1, 255))
def test_nothing_behind_a_damaged_place_is_believed(tmp_path: Path, at: int, change: int) -> None:
    whole = wandb.framed(RECORDS)
    damaged = bytearray(whole)
    damaged[at] ^= change
    log, full = read_log(write(tmp_path, bytes(damaged))), read_log(write(tmp_path, whole))
    assert log.history == full.history[: len(log.history)]
    assert log.exit_code is None, "the end lies behind every damage, or is damaged itself"


def test_where_a_log_is_damaged_is_told(tmp_path: Path) -> None:
    data = bytearray(wandb.framed(RECORDS))
    data[-1] ^= 1
    log = read_log(write(tmp_path, bytes(data)))
    assert "damaged at byte" in log.damage
    assert len(log.history) == 2


@pytest.mark.parametrize("data", [b"", b":W&B", b"SQLite format 3", struct.pack("<4sHB", b":W&B", 0xBEE1, 1)])
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match="no log of wandb's"):
        read_log(write(tmp_path, data))
