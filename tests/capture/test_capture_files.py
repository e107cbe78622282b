"""Files that a command writes metrics to."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hotlap.capture.capture import Capture
from hotlap.capture.files import Folder, JsonFile, LineFile, LogFile, StateFiles, changed_states, open_source
from hotlap.capture.reading import Found


def values(found: list[Found]) -> list[tuple[int | None, dict[str, float]]]:
    return [(each.step, {name: number.value for name, number in each.numbers.items()}) for each in found]


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def state(path: Path, *entries: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"global_step": 1, "log_history": list(entries)}), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("out/trainer_state.json", StateFiles),
        ("log.jsonl", LineFile),
        ("log.csv", LineFile),
        ("train.log", LogFile),
        ("all_results.json", JsonFile),
        ("runs", Folder),
    ],
)
def test_the_name_says_how_a_file_is_read(tmp_path: Path, name: str, kind: type) -> None:
    source = open_source(tmp_path / name)
    assert isinstance(source, kind)
    assert source.read() == []
    assert source.problems == []


def test_json_lines_are_read_as_they_come_and_half_ones_later(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append(path, '{"step": 1, "loss": 9.0}\n')  # of an earlier run
    source = open_source(path)
    append(path, '{"step": 2, "loss": 3.0}\n{"step": 3, "lo')
    assert values(source.read()) == [(2, {"loss": 3.0})]
    append(path, 'ss": 2.5}\nnoise\n')
    assert values(source.read()) == [(3, {"loss": 2.5})]
    assert source.read() == []


def test_a_file_that_is_written_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append(path, '{"step": 1, "loss": 9.0}\n{"step": 2, "loss": 8.0}\n')
    source = open_source(path)
    path.write_text('{"step": 1, "loss": 3.0}\n', encoding="utf-8")
    assert values(source.read()) == [(1, {"loss": 3.0})]
    path.unlink()
    assert source.read() == []
    append(path, '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    assert values(source.read()) == [(1, {"loss": 2.0}), (2, {"loss": 1.0})]


def test_a_table_keeps_the_names_that_an_earlier_run_wrote(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    append(path, "iteration,train/loss,note\n1,9.0,a\n")
    source = open_source(path)
    append(path, "2,3.50,b\n3,,c\n4,nan,d\n")
    (first, second) = source.read()
    assert (first.step, first.numbers["train/loss"].value, first.numbers["train/loss"].decimals) == (2, 3.5, 2)
    assert second.step == 4 and math.isnan(second.numbers["train/loss"].value)


def test_a_table_of_any_names_and_tabs(tmp_path: Path) -> None:
    source = open_source(tmp_path / "log.tsv")
    append(tmp_path / "log.tsv", "Step\tquality\n10\t0.5\n")
    assert values(source.read()) == [(10, {"quality": 0.5})]


def test_a_log_file_is_read_like_the_output(tmp_path: Path) -> None:
    source = open_source(tmp_path / "train.log")
    append(tmp_path / "train.log", "step 10: train loss 2.1000, val loss 2.2000\nval_acc: 0.5\n")
    assert values(source.read()) == [(10, {"train_loss": 2.1, "val_loss": 2.2}), (None, {"val_acc": 0.5})]


def test_a_whole_json_file(tmp_path: Path) -> None:
    path = tmp_path / "all_results.json"
    path.write_text('{"eval_loss": 9.0}', encoding="utf-8")
    source = open_source(path)
    assert source.read() == []
    path.write_text('{"eval_loss": 0.', encoding="utf-8")
    assert source.read() == []
    path.write_text('{\n  "eval_loss": 0.5,\n  "epoch": 1.0\n}', encoding="utf-8")
    assert values(source.read()) == [(None, {"eval_loss": 0.5, "epoch": 1.0})]
    assert source.read() == []


def test_states_of_checkpoints_tell_each_entry_once(tmp_path: Path) -> None:
    first = {"step": 10, "epoch": 0.1, "loss": 2.5, "eval_loss": 2.25}
    second = {"step": 20, "epoch": 0.2, "loss": 2.3841234, "note": "text"}
    source = open_source(tmp_path / "out")
    state(tmp_path / "out" / "checkpoint-10" / "trainer_state.json", first)
    (found,) = source.read()
    assert found.step == 10
    assert {name: number.decimals for name, number in found.numbers.items()} == {
        "epoch": None,
        "train_loss": 4,  # transformers 4 has rounded it
        "eval_loss": None,
    }
    state(tmp_path / "out" / "checkpoint-20" / "trainer_state.json", first, second)
    (found,) = source.read()
    assert (found.step, found.numbers["train_loss"].decimals) == (20, None)
    state(tmp_path / "out" / "trainer_state.json", first, second)
    assert source.read() == []


def test_a_state_that_is_none_is_named_and_a_half_one_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    source = open_source(path)
    path.write_text('{"log_hist', encoding="utf-8")
    assert source.read() == [] and source.problems == []
    path.write_text("[1]", encoding="utf-8")
    assert source.read() == []
    assert source.problems == [f"{path}: no state of the Trainer: expected an object with a list log_history"]


def test_states_are_found_in_folders_that_are_not_too_deep(tmp_path: Path) -> None:
    state(tmp_path / "old" / "trainer_state.json", {"step": 1, "loss": 1.0})
    changed = changed_states(tmp_path)
    state(tmp_path / "new" / "run" / "checkpoint-2" / "trainer_state.json", {"step": 2, "loss": 2.0})
    state(tmp_path / "new" / "run" / "trainer_state.json", {"step": 2, "loss": 2.0})
    state(tmp_path / "a" / "b" / "c" / "d" / "e" / "f" / "trainer_state.json", {"step": 3, "loss": 3.0})
    state(tmp_path / ".hidden" / "trainer_state.json", {"step": 4, "loss": 4.0})
    assert [values(source.read()) for source in changed()] == [[(2, {"train_loss": 2.0})]]


def test_the_files_of_a_config_are_polled(tmp_path: Path) -> None:
    capture = Capture({"read": ["log.jsonl"]}, tmp_path)
    append(tmp_path / "log.jsonl", '{"step": 1, "loss": 3.0}\n')
    (reading,) = capture.poll(0.0)
    assert (reading.step, reading.source, reading.at_seconds) == (1, "log.jsonl", None)
    append(tmp_path / "log.jsonl", '{"step": 2, "loss": 2.0}\n')
    assert capture.poll(0.1) == []  # they are looked at a few times a second
    assert len(capture.poll(0.3)) == 1
    append(tmp_path / "log.jsonl", '{"step": 3, "loss": 1.0}\n')
    assert [each.step for each in capture.end(0.31)] == [3]
    assert capture.problems == []


def test_lines_of_the_logged_file_that_are_none_are_passed_over(tmp_path: Path) -> None:
    capture = Capture({"metrics_file": "logged.jsonl"}, tmp_path)
    lines = ["[1]", "{", '{"step": 1}', '{"step": 1, "unix_seconds": 5.0, "a": {"b": 2}, "text": "x", "c": NaN}']
    append(tmp_path / "logged.jsonl", "\n".join(lines) + "\n")
    (reading,) = capture.poll(0.0)
    assert reading.step == 1
    assert reading.metrics == pytest.approx({"a.b": 2.0, "c": math.nan}, nan_ok=True)
    assert reading.unix_seconds == 5.0
