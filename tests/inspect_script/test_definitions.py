"""Options of scripts by their source alone, for each library that defines them."""

import pytest

from hotlap.inspect_script.definitions import has_subcommands, options_in, trainer_arguments_of, variables_in
from hotlap.inspect_script.syntax import Option

ARGPARSE = """
import argparse
raise SystemExit("never imported")
parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("-l", "--learning-rate", type=float, default=3e-4, help="peak\\n rate")
parser.add_argument("--optim", choices=["adamw", "muon"], default="adamw")
group = parser.add_argument_group("more")
group.add_argument("--bf16", action="store_true")
group.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
group.add_argument("--version", action="version")
group.add_argument("--steps", type=int, default=compute())
"""
DATACLASS = """
from dataclasses import dataclass, field
from transformers import HfArgumentParser
@dataclass
class ModelArguments:
    n_layer: int = field(default=2, metadata={"help": "number of layers"})
    dropout: float = 0.1
@dataclass
class Other:
    unused: int = 1
parser = HfArgumentParser((ModelArguments,))
"""
TYRO = """
import tyro
from dataclasses import dataclass
from typing import Literal
@dataclass
class Args:
    learning_rate: float = 1e-3
    optim: Literal["adamw", "muon"] = "muon"
    compile: bool = False
args = tyro.cli(Args)
"""
NESTED = """
import tyro
from dataclasses import dataclass, field
@dataclass
class Optim:
    lr: float = 1e-3
@dataclass
class Args:
    optim: Optim = field(default_factory=Optim)
    steps: int = 10
args = tyro.cli(Args)
"""
FUNCTION = """
import tyro
def main(lr: float = 0.1, fast: bool = False): ...
tyro.cli(main)
"""
FIRE = """
import fire
def main(lr=0.1, fast=False): ...
fire.Fire(main)
"""
TYPER = """
import typer
from typing import Annotated
app = typer.Typer()
@app.command()
def main(data: str, lr: float = 0.1, steps: Annotated[int, typer.Option("--max-steps", help="how many")] = 50,
         fast: bool = typer.Option(False, help="be quick")):
    pass
"""
CLICK = """
import click
@click.command()
@click.option("--lr", default=0.1, help="rate")
@click.option("--optim", type=click.Choice(["sgd", "adam"]), default="sgd")
@click.option("--amp/--no-amp", default=True)
@click.option("--fast", is_flag=True)
def main(lr, optim, amp, fast): ...
"""
ABSL = """
from absl import flags
flags.DEFINE_float("learning_rate", 0.1, "the rate")
flags.DEFINE_integer("batch_size", 32, "rows")
flags.DEFINE_enum("optim", "sgd", ["sgd", "adam"], "which")
"""
CONFIGURATOR = """
learning_rate = 6e-4
compile = True
out_dir = "out"
device_ids = [0]
exec(open("configurator.py").read())
"""


def found(text: str) -> dict[str, Option]:
    return {option.name: option for option in options_in(text)}


def test_argparse() -> None:
    options = found(ARGPARSE)
    assert list(options) == ["learning_rate", "optim", "bf16", "compile", "steps"]
    rate = options["learning_rate"]
    assert (rate.flag, rate.default, rate.kind, rate.help, rate.line) == (
        "--learning-rate",
        3e-4,
        "value",
        "peak rate",
        6,
    )
    assert options["optim"].choices == ("adamw", "muon")
    assert (options["bf16"].kind, options["bf16"].default) == ("switch", False)
    assert (options["compile"].kind, options["compile"].default) == ("pair", True)
    assert options["steps"].default is None, "what has to be computed is not known"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DATACLASS, {"n_layer": ("--n_layer", 2, "value"), "dropout": ("--dropout", 0.1, "value")}),
        (
            TYRO,
            {
                "learning_rate": ("--learning-rate", 1e-3, "value"),
                "optim": ("--optim", "muon", "value"),
                "compile": ("--compile", False, "pair"),
            },
        ),
        (NESTED, {"optim.lr": ("--optim.lr", 1e-3, "value"), "steps": ("--steps", 10, "value")}),
        (FUNCTION, {"lr": ("--lr", 0.1, "value"), "fast": ("--fast", False, "pair")}),
        (FIRE, {"lr": ("--lr", 0.1, "equals"), "fast": ("--fast", False, "equals")}),
        (
            TYPER,
            {
                "lr": ("--lr", 0.1, "value"),
                "steps": ("--max-steps", 50, "value"),
                "fast": ("--fast", False, "pair"),
            },
        ),
        (
            CLICK,
            {
                "lr": ("--lr", 0.1, "value"),
                "optim": ("--optim", "sgd", "value"),
                "amp": ("--amp", True, "pair"),
                "fast": ("--fast", False, "switch"),
            },
        ),
        (
            ABSL,
            {
                "learning_rate": ("--learning_rate", 0.1, "equals"),
                "batch_size": ("--batch_size", 32, "equals"),
                "optim": ("--optim", "sgd", "equals"),
            },
        ),
        (
            CONFIGURATOR,
            {
                "learning_rate": ("--learning_rate", 6e-4, "equals"),
                "compile": ("--compile", True, "equals"),
                "out_dir": ("--out_dir", "out", "equals"),
            },
        ),
        ("this is no Python", {}),
    ],
    ids=["dataclass", "tyro", "nested", "function", "fire", "typer", "click", "absl", "configurator", "nothing"],
)
def test_other_libraries(text: str, expected: dict[str, tuple[str, object, str]]) -> None:
    assert {name: (one.flag, one.default, one.kind) for name, one in found(text).items()} == expected


def test_choices_and_help_come_along() -> None:
    assert found(TYRO)["optim"].choices == ("adamw", "muon")
    assert found(CLICK)["optim"].choices == ("sgd", "adam")
    assert found(ABSL)["optim"].choices == ("sgd", "adam")
    assert found(DATACLASS)["n_layer"].help == "number of layers"
    assert found(TYPER)["steps"].help == "how many"


def test_the_trainers_own_arguments_are_seen_through_subclasses() -> None:
    assert trainer_arguments_of("p = HfArgumentParser((Model, TrainingArguments))") == "TrainingArguments"
    assert trainer_arguments_of("class Mine(SFTConfig): pass\np = TrlParser(Mine)") == "SFTConfig"
    assert trainer_arguments_of("p = HfArgumentParser(Model)") is None
    assert trainer_arguments_of("args = TrainingArguments(output_dir='out')") is None


def test_variables_with_defaults() -> None:
    text = 'import os\nlr = float(os.environ.get("LR", "0.1"))\nn = os.getenv("STEPS", 5)\nkey = os.environ["KEY"]\n'
    assert variables_in(text) == {"LR": 0.1, "STEPS": 5, "KEY": None}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("parser.set_defaults(lr=0.5)", 0.5),
        ("parser.set_defaults(lr=compute())", None),
        ("parser.set_defaults(**settings)", None),
        ("", 0.1),
    ],
)
def test_defaults_that_come_later_count(line: str, expected: object) -> None:
    text = f"parser.add_argument('--lr', type=float, default=0.1)\n{line}\n"
    assert found(text)["lr"].default == expected


def test_switches_that_cannot_be_set_both_ways_are_no_options() -> None:
    text = "p.add_argument('--a', type=bool, default=False)\np.add_argument('--b', action='store_true', default=True)\n"
    assert found(text) == {}


def test_variables_without_a_default() -> None:
    text = "import os\na = os.environ['A']\nb = os.getenv('B')\nc = os.getenv('C', '3')\n"
    assert variables_in(text) == {"A": None, "B": None, "C": 3}


@pytest.mark.parametrize(("count", "expected"), [(1, False), (2, True)])
def test_several_commands_are_subcommands(count: int, expected: bool) -> None:
    assert has_subcommands("@app.command()\ndef run(): ...\n" * count) is expected
