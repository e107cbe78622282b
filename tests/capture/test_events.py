"""TensorBoard's event files, made byte by byte."""

import struct
from pathlib import Path

import pytest

from hotlap.capture.events import EventFiles
from hotlap.capture.precision import verdict
from hotlap.core.targets import parse_target


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def simple(tag: str, value: float) -> bytes:
    """Return a summary's value as older writers have it."""
    return message(1, message(1, tag.encode()) + varint(2 << 3 | 5) + struct.pack("<f", value))


def tensor(tag: str, value: float, *, kind: int = 1, sizes: tuple[int, ...] = ()) -> bytes:
    """Return a summary's value as newer writers have it."""
    shape = b"".join(message(2, varint(1 << 3) + varint(size)) for size in sizes)
    content = message(5, struct.pack("<f", value)) if kind == 1 else message(6, struct.pack("<d", value))
    return message(
        1, message(1, tag.encode()) + message(8, varint(1 << 3) + varint(kind) + message(2, shape) + content)
    )


def event(step: int, *values: bytes, seconds: float = 1.7e9) -> bytes:
    body = (
        varint(1 << 3 | 1) + struct.pack("<d", seconds) + varint(2 << 3) + varint(step) + message(5, b"".join(values))
    )
    return struct.pack("<Q", len(body)) + b"\0" * 4 + body + b"\0" * 4


def append(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


def test_scalars_of_a_step_are_one_reading(tmp_path: Path) -> None:
    events = EventFiles(tmp_path)
    path = tmp_path / "runs" / "a" / "events.out.tfevents.1.host"
    append(path, event(0, message(1, message(1, b"text") + message(8, b""))))
    append(path, event(20, simple("eval/loss", 2.5), seconds=1.7e9 + 5) + event(10, tensor("train/loss", 0.76)))
    append(path, event(20, tensor("Loss/val", 1.5, kind=2), seconds=1.7e9 + 6))
    first, second = events.read()
    assert (first.step, first.unix_seconds) == (10, 1.7e9)
    assert first.numbers["train_loss"].value == pytest.approx(0.76, abs=1e-7)
    assert {name: number.value for name, number in second.numbers.items()} == {"eval_loss": 2.5, "Loss/val": 1.5}
    assert second.unix_seconds == 1.7e9 + 6
    assert events.read() == []


def test_a_number_of_float32_does_not_decide_a_target_that_it_was_rounded_onto(tmp_path: Path) -> None:
    events = EventFiles(tmp_path)
    append(tmp_path / "events.out.tfevents.1", event(1, simple("eval/loss", 0.76)))
    (found,) = events.read()
    number = found.numbers["eval_loss"]
    assert number.value != 0.76
    assert verdict(parse_target("eval_loss < 0.76"), number.value, number.decimals) is None
    assert verdict(parse_target("eval_loss < 0.7601"), number.value, number.decimals) is True


def test_files_of_earlier_runs_are_left_alone_and_half_records_waited_for(tmp_path: Path) -> None:
    old, new = tmp_path / "events.out.tfevents.1", tmp_path / "events.out.tfevents.2"
    append(old, event(1, simple("loss", 9.0)))
    events = EventFiles(tmp_path)
    whole = event(1, simple("loss", 3.0)) + event(2, simple("loss", 2.0))
    append(new, whole[:-7])
    assert [found.step for found in events.read()] == [1]
    append(new, whole[-7:])
    assert [found.step for found in events.read()] == [2]
    append(old, event(2, simple("loss", 8.0)))
    assert [found.numbers["loss"].value for found in events.read()] == [8.0]


def test_pictures_and_tensors_of_several_numbers_are_passed_over(tmp_path: Path) -> None:
    events = EventFiles(tmp_path)
    append(
        tmp_path / "events.out.tfevents.1", event(1, tensor("hist", 1.0, sizes=(3,)), message(1, message(4, b"png")))
    )
    assert events.read() == []


@pytest.mark.parametrize("data", [b"\xff" * 40, struct.pack("<Q", 3) + b"\0" * 4 + b"\x0b\x0b\x0b" + b"\0" * 4])
def test_what_is_no_event_file_is_named_once(tmp_path: Path, data: bytes) -> None:
    events = EventFiles(tmp_path / "events.out.tfevents.1")
    append(tmp_path / "events.out.tfevents.1", data)
    assert events.read() == []
    assert len(events.problems) == 1 and "no event file, or a broken one" in events.problems[0]
    append(tmp_path / "events.out.tfevents.1", data)
    assert events.read() == []
    assert len(events.problems) == 1


def test_the_tensorboard_package_writes_what_is_read(tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    summary = pytest.importorskip("tensorboard.compat.proto.summary_pb2")
    protocol = pytest.importorskip("tensorboard.compat.proto.event_pb2")
    events = EventFiles(tmp_path)
    file = writer.EventFileWriter(str(tmp_path))
    value = summary.Summary(value=[summary.Summary.Value(tag="val/loss", simple_value=1.25)])
    file.add_event(protocol.Event(wall_time=5.0, step=3, summary=value))
    file.close()
    (found,) = events.read()
    assert (found.step, found.unix_seconds, found.numbers["val/loss"].value) == (3, 5.0, 1.25)
