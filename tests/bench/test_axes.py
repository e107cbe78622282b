"""Axes from options: what they stand for, and every way to write them wrong."""

from typing import Any

import pytest

from hotlap.bench.axes import Axis, axes_of, combinations, read_values
from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError

OWN = config_from_values({})
COMMAND = config_from_values(
    {
        "command": {"run": "python train.py --batch-size {batch_size} --len {max_seq_length} --bf16 {bf16}"},
        "params": {"batch_size": 8, "max_seq_length": 64, "bf16": False},
    }
)


def config_of(**task: Any) -> RunConfig:
    return config_from_values({"task": task})


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("batch", "1,2,4", Axis("training.per_device_train_batch_size", (1, 2, 4))),
        ("batch", "auto", Axis("training.per_device_train_batch_size", ())),
        ("devices", "1, 2", Axis("devices", (1, 2))),
        ("precision", "fp32,bf16", Axis("training.bf16", (False, True))),
        ("compile", "on,off", Axis("training.torch_compile", (True, False))),
        ("optim", "muon,adamw_torch", Axis("training.optim", ("muon", "adamw_torch"))),
        ("attention", "auto,sdpa", Axis("model.attn_implementation", (None, "sdpa"))),
        ("workers", "0,2", Axis("training.dataloader_num_workers", (0, 2))),
        ("seq", "16,32", Axis("task.max_length_bytes", (16, 32))),
    ],
)
def test_short_names_stand_for_settings(option: str, text: str, expected: Axis) -> None:
    assert axes_of(OWN, {option: text}, ()) == (expected,)


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ({"name": "language_model"}, "task.block_size"),
        ({"name": "prompt_completion", "file": "a.jsonl"}, "task.max_length"),
        ({"name": "generator", "function": "mine:numbers"}, "task.max_length"),
        ({"name": "mine:task", "seq_length": 8}, "task.seq_length"),
    ],
)
def test_the_length_is_what_the_task_calls_it(task: dict[str, Any], key: str) -> None:
    (axis,) = axes_of(config_of(**task), {"seq": "32,64"}, ())
    assert axis.key == key


def test_a_task_without_a_length_is_told() -> None:
    with pytest.raises(ConfigError, match=r"--seq: the task mine:task has no length of its own .*--axis task\.KEY"):
        axes_of(config_of(name="mine:task"), {"seq": "32"}, ())


def test_any_key_is_an_axis_and_lists_hold_lists() -> None:
    axes = axes_of(OWN, {}, ["model.hidden_size=16,32", "task.text=[[a.txt, b.txt], c.txt]"])
    assert axes == (Axis("model.hidden_size", (16, 32)), Axis("task.text", (["a.txt", "b.txt"], "c.txt")))


def test_short_names_are_knobs_of_a_command_whatever_they_are_called() -> None:
    axes = axes_of(COMMAND, {"batch": "1,2", "seq": "32", "precision": "fp32,bf16", "devices": "1,2"}, ())
    assert [axis.key for axis in axes] == ["params.batch_size", "params.max_seq_length", "params.bf16", "devices"]


@pytest.mark.parametrize(
    ("short", "others", "message"),
    [
        ({"batch": "1,x"}, [], "--batch '1,x': expected whole numbers above 0 .or auto alone., got 'x'"),
        ({"batch": "0"}, [], "expected whole numbers above 0"),
        ({"batch": "1,auto"}, [], "got 'auto'"),
        ({"batch": "true"}, [], "got True"),
        ({"seq": "1.5"}, [], "--seq '1.5': expected whole numbers above 0, got 1.5"),
        ({"workers": "-1"}, [], "from 0 on, got -1"),
        ({"precision": "fp16"}, [], "--precision: expected fp32, bf16, got 'fp16'"),
        ({"compile": "maybe"}, [], "--compile: expected on, off, got 'maybe'"),
        ({"batch": ""}, [], "expected values with commas between them"),
        ({"batch": "1,,2"}, [], "expected values with commas between them"),
        ({"batch": "1,1"}, [], "1 is there twice"),
        ({"batch": "[1"}, [], "cannot be read"),
        ({}, ["model.hidden_size"], "write KEY=VALUE,VALUE"),
        ({}, ["=1,2"], "write KEY=VALUE,VALUE"),
        ({"batch": "1"}, ["training.per_device_train_batch_size=2"], "is an axis twice"),
    ],
)
def test_what_cannot_be_an_axis_is_told(short: dict[str, str], others: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        axes_of(OWN, short, others)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"--batch(.|\n)*--precision(.|\n)*--axis"):
        axes_of(OWN, {"batch": "x", "precision": "x"}, ["nothing"])


def test_a_command_without_such_a_knob_says_what_it_has() -> None:
    with pytest.raises(ConfigError, match=r"--compile: the command has no knob .*batch_size, max_seq_length, bf16"):
        axes_of(COMMAND, {"compile": "on,off"}, ())


def test_true_and_one_are_two_values() -> None:
    assert read_values("--axis x", "[true, 1]") == (True, 1)


def test_combinations_leave_out_what_is_found() -> None:
    axes = (Axis("a", (1, 2)), Axis("b", ()), Axis("c", ("x", "y")))
    assert list(combinations(axes)) == [
        {"a": 1, "c": "x"},
        {"a": 1, "c": "y"},
        {"a": 2, "c": "x"},
        {"a": 2, "c": "y"},
    ]
