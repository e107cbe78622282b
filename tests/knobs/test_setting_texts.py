"""Settings in YAML, JSON, TOML, Python and shell text: read, and changed with everything else left as it is."""

from types import ModuleType
from typing import Any

import pytest

from hotlap.knobs import json_text, python_text, shell_text, toml_text, yaml_text

YAML = """\
# top
lr: 6e-4   # YAML 1.1 takes it for text
opt:
  betas: [0.9, 0.95]   # a list
  name: "adamw"
model:
  layers:
    - {size: 64}  # first
    - size: 128   # second
a.b: 1
empty:
include: !include other.yaml
shared: &o {x: 1}
same: *o
"""


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("lr", 0.003, "lr: 6e-4 ", "lr: 0.003 "),
        ("opt.betas.1", 0.99, "[0.9, 0.95]", "[0.9, 0.99]"),
        ("model.layers.0.size", 32, "{size: 64}", "{size: 32}"),
        ("model.layers.1.size", 32, "size: 128 ", "size: 32 "),
        ("a.b", 2, "a.b: 1", "a.b: 2"),
        ("empty", True, "empty:", "empty: true"),
        ("opt.name", "muon", '"adamw"', "muon"),
        ("model.depth", 3, "size: 128   # second\n", "size: 128   # second\n  depth: 3\n"),
    ],
)
def test_yaml_changes_one_value(key: str, value: Any, before: str, after: str) -> None:
    assert yaml_text.with_setting(YAML, key, value) == YAML.replace(before, after, 1)


@pytest.mark.parametrize("key", ["same.x", "shared.x", "opt.betas.7", "include.x"])
def test_yaml_refuses_what_would_change_more(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} cannot be changed safely"):
        yaml_text.with_setting(YAML, key, 5)


def test_yaml_values() -> None:
    found = yaml_text.settings(YAML)
    assert found["lr"] == 6e-4 and found["opt.betas.1"] == 0.95 and found["model.layers.1.size"] == 128
    assert found["empty"] is None and "include" not in found
    assert yaml_text.settings("# nothing\n") == {}
    assert yaml_text.with_setting("# nothing\n", "a.b", 1) == "# nothing\na: {b: 1}\n"


JSON = '{\n  "lr": 1e-3, // rate\n  "opt": {"betas": [0.9, 0.95]}, /* two */\n  "s": "a\\"b",\n  "none": {}\n}\n'


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("lr", 0.003, "1e-3", "0.003"),
        ("opt.betas.1", 0.99, "0.95", "0.99"),
        ("s", 'c"d', '"a\\"b"', '"c\\"d"'),
        ("none.x.y", None, "{}", '{"x": {"y": null}}'),
        ("new", True, '"none": {}', '"none": {},\n  "new": true'),
        ("opt.eps", 1, "0.95]}", '0.95], "eps": 1}'),
    ],
)
def test_json_changes_one_value(key: str, value: Any, before: str, after: str) -> None:
    assert json_text.with_setting(JSON, key, value) == JSON.replace(before, after, 1)


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "[1 2]", '{"a": 1} x', "{a: 1}"])
def test_json_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not valid JSON"):
        json_text.settings(text)


TOML = """\
# top
name = "x # y"  # a name
[opt]
lr = 1e-3  # rate
betas = [
  0.9,  # first
  0.95,
]
[opt.more]
on = true
[[layer]]
size = 1
"""


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("name", "z", '"x # y"', '"z"'),
        ("opt.lr", 0.003, "1e-3", "0.003"),
        ("opt.betas", [1, 2], "[\n  0.9,  # first\n  0.95,\n]", "[1, 2]"),
        ("opt.more.on", False, "true", "false"),
        ("opt.new", 1, "0.95,\n]\n", "0.95,\n]\nnew = 1\n"),
        ("other.x", 1, "size = 1\n", "size = 1\n\n[other]\nx = 1\n"),
    ],
)
def test_toml_changes_one_value(key: str, value: Any, before: str, after: str) -> None:
    assert toml_text.with_setting(TOML, key, value) == TOML.replace(before, after, 1)


@pytest.mark.parametrize(("key", "value"), [("layer.0.size", 2), ("opt.lr", None)])
def test_toml_refuses_what_it_cannot_do(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        toml_text.with_setting(TOML, key, value)


PYTHON = """\
import os
lr = 6e-4  # rate
n, m = 1, 2
batch: int = 8 * 4
name = "é"; tail = 5
class H:
    depth = 3
config = dict(wd=0.1, x=os.name)
CFG = {"dropout": 0.1, "steps": 2**10}
def main():
    lr = 5
    args = TrainingArguments(output_dir="o", learning_rate=1e-4)
lr = 7e-4
"""


@pytest.mark.parametrize(
    ("name", "value", "before", "after"),
    [
        ("lr", 1e-05, "7e-4", "1e-05"),
        ("m", 3, "1, 2", "1, 3"),
        ("batch", 16, "8 * 4", "16"),
        ("tail", None, "tail = 5", "tail = None"),
        ("H.depth", -1, "depth = 3", "depth = -1"),
        ("config.wd", 0.0, "wd=0.1", "wd=0.0"),
        ("CFG.steps", 5, "2**10", "5"),
        ("TrainingArguments.learning_rate", 0.1, "1e-4", "0.1"),
    ],
)
def test_python_changes_one_constant(name: str, value: Any, before: str, after: str) -> None:
    assert python_text.with_constant(PYTHON, name, value) == PYTHON.replace(before, after, 1)


def test_python_values() -> None:
    found = {name: constant.value for name, constant in python_text.constants(PYTHON).items()}
    assert found["lr"] == 7e-4 and found["batch"] == 32 and found["CFG.steps"] == 1024 and found["H.depth"] == 3
    assert "config.x" not in found and "main" not in found
    assert python_text.constants(PYTHON)["batch"].line == 4
    with pytest.raises(ValueError, match="line 1: not valid Python"):
        python_text.constants("a = (")


SHELL = """\
#!/bin/bash
LR=0.1  # rate
export STEPS=${STEPS:-100}
NAME="a b"
: "${WD:=0.01}"
OUT=$HOME/out
run --lr $LR
"""


@pytest.mark.parametrize(
    ("name", "value", "before", "after"),
    [
        ("LR", 0.5, "LR=0.1 ", "LR=0.5 "),
        ("STEPS", 5, ":-100", ":-5"),
        ("NAME", "c d", '"a b"', "'c d'"),
        ("WD", 0.0, ":=0.01", ":=0.0"),
    ],
)
def test_shell_changes_one_variable(name: str, value: Any, before: str, after: str) -> None:
    assert shell_text.with_constant(SHELL, name, value) == SHELL.replace(before, after, 1)


def test_shell_values() -> None:
    assert {name: constant.value for name, constant in shell_text.constants(SHELL).items()} == {
        "LR": 0.1,
        "STEPS": 100,
        "NAME": "a b",
        "WD": 0.01,
    }
    with pytest.raises(ValueError, match="OUT is neither a variable nor a flag that has a plain value there"):
        shell_text.with_constant(SHELL, "OUT", "x")


@pytest.mark.parametrize("module", [yaml_text, json_text, toml_text])
def test_line_ends_and_a_missing_last_one_stay(module: ModuleType) -> None:
    text = {yaml_text: "a: 1\r\nb: 2", json_text: '{"a": 1,\r\n"b": 2}', toml_text: "a = 1\r\nb = 2"}[module]
    assert module.with_setting(text, "a", 5) == text.replace("1", "5", 1)


FLAGS = "python train.py --lr 0.1 --name=a.b \\\n  --steps=5 --fast --a 1\npython eval.py --a 2 --end $END\n"


def test_shell_changes_the_value_of_a_flag_that_stands_there_once() -> None:
    values = {name: constant.value for name, constant in shell_text.constants(FLAGS).items()}
    assert values == {"--lr": 0.1, "--name": "a.b", "--steps": 5}
    assert shell_text.with_constant(FLAGS, "--lr", 0.3) == FLAGS.replace("--lr 0.1", "--lr 0.3")
    assert shell_text.with_constant(FLAGS, "--steps", 50) == FLAGS.replace("--steps=5", "--steps=50")
    assert shell_text.with_constant(FLAGS, "--name", "it's") == FLAGS.replace("a.b", "'it'\"'\"'s'")
    with pytest.raises(ValueError, match="--a is neither a variable nor a flag"):
        shell_text.with_constant(FLAGS, "--a", 3)
