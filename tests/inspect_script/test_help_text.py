"""Options from help texts of argparse, typer and click."""

import sys
from pathlib import Path

from hotlap.inspect_script.help_text import ask_for_help, options_of_help

ARGPARSE = """\
usage: train.py [-h] [--lr LR] [--optim {sgd,adam}] [--bf16]

options:
  -h, --help            show this help message and exit
  -l LR, --lr LR        learning rate at its
                        peak (default: 0.0003)
  --optim {sgd,adam}    which one (default: sgd)
  --bf16                half the bytes (default: False)
  --compile, --no-compile
                        compile the model (default: True)
"""
TYPER = """\
╭─ Options ────────────────────────────────────────────────────────╮
│ --lr           FLOAT    The rate. [default: 0.1]                  │
│ --fast   --no-fast      Be quick. [default: no-fast]              │
│ --help                  Show this message and exit.               │
╰───────────────────────────────────────────────────────────────────╯
"""
CLICK = """\
Options:
  --lr FLOAT      rate  [default: 0.1]
  --steps INTEGER
  --help          Show this message and exit.
"""


def test_argparse() -> None:
    options = {option.name: option for option in options_of_help(ARGPARSE)}
    assert list(options) == ["lr", "optim", "bf16", "compile"]
    assert (options["lr"].default, options["lr"].kind, options["lr"].help) == (
        3e-4,
        "value",
        "learning rate at its peak",
    )
    assert (options["optim"].default, options["optim"].choices) == ("sgd", ("sgd", "adam"))
    assert (options["bf16"].default, options["bf16"].kind) == (False, "switch")
    assert (options["compile"].default, options["compile"].kind) == (True, "pair")


def test_typer_and_click() -> None:
    typer = {option.name: option for option in options_of_help(TYPER)}
    assert (typer["lr"].default, typer["lr"].kind) == (0.1, "value")
    assert (typer["fast"].default, typer["fast"].kind) == (False, "pair")
    click = {option.name: option for option in options_of_help(CLICK)}
    assert {name: (one.default, one.kind) for name, one in click.items()} == {
        "lr": (0.1, "value"),
        "steps": (None, "value"),
    }


def test_a_program_is_asked_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import argparse\nmake = argparse.ArgumentParser\np = make()\n"
        "getattr(p, 'add_' + 'argument')('--lr', type=float, default=0.5, help='rate (default: %(default)s)')\n"
        "p.parse_args()\n"
    )
    (option,) = options_of_help(ask_for_help(f"{sys.executable} train.py", tmp_path))
    assert (option.name, option.default) == ("lr", 0.5)
    assert ask_for_help("exit 3; false", tmp_path) == ""
