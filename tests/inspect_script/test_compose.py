"""The written file: it is a config, and says what was found."""

from pathlib import Path

import pytest

from hotlap.config.load import config_from_text
from hotlap.inspect_script.compose import Metric, Plan, best_metric, hotlap_yaml, reached_target, study_name
from hotlap.inspect_script.settings import Found, Knob, find_settings

ROOT = Path(__file__).parents[2] / "examples" / "own_script"


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("argparse_yaml", "python train.py --lr 0.5"),
        ("constants", "python train.py"),
        ("shell_loop", "sh train.sh"),
        ("trainer", "python train.py config.yaml"),
        ("trainer", "python train.py --output_dir 'my out' --bf16 && echo \"it's done: {really}\" # yes"),
        ("shell_loop", "for i in 1 2; do\n  sh train.sh\ndone"),
    ],
)
def test_what_is_written_is_the_command_with_its_knobs(folder: str, command: str) -> None:
    found = find_settings(command, ROOT / folder)
    text = hotlap_yaml(Plan(name="mine", written_by=f"hotlap init -- {command}", found=found))
    config = config_from_text(text, ROOT / folder / "hotlap.yaml")
    assert config.command is not None
    assert config.command.run == found.run
    assert config.params == {knob.name: knob.value for knob in found.knobs}
    assert (config.command.files, config.command.constants) == (found.files, found.constants)
    assert config.clock == "wall" and config.targets == ()
    assert all(len(line) <= 160 for line in text.splitlines() if line.startswith("#"))


def test_targets_metrics_and_notes() -> None:
    found = Found(run="train {lr}", knobs=[Knob(name="lr", value=1e-05, place="--lr", help="rate: #1")])
    metric = Metric(name="val_loss", first=4.0, last=2.0, count=9, source="json")
    plan = Plan(
        name="mine",
        written_by="hotlap init -- train",
        found=found,
        suggested_target="val_loss < 2.1",
        metrics=(metric,),
        expressions={"acc": r"it's (\d+)"},
        run_seconds=100.0,
        notes=("set X",),
    )
    text = hotlap_yaml(plan)
    config = config_from_text(text, Path("hotlap.yaml"))
    assert config.targets == ("val_loss < 2.1",) and config.params == {"lr": 1e-05}
    assert config.command is not None and config.command.metrics == {"acc": r"it's (\d+)"}
    assert (config.budget.run, config.budget.total) == (300.0, 4020.0)
    assert "val_loss (json, 9 values, last 2)" in text and text.endswith("# Note: set X\n")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["loss", "eval_loss"], "eval_loss"),
        (["lr", "val_loss", "train_loss"], "val_loss"),
        (["train_loss", "lr"], "train_loss"),
        (["val_acc", "lr"], "val_acc"),
        (["lr"], None),
    ],
)
def test_the_metric_that_a_target_is_about(names: list[str], expected: str | None) -> None:
    assert best_metric([Metric(name=name, first=1, last=1, count=1, source="x") for name in names]) == expected


@pytest.mark.parametrize(
    ("name", "first", "last", "expected"),
    [
        ("val_loss", 4.0, 2.0, "val_loss < 2.10"),
        ("val_acc", 0.1, 0.9, "val_acc > 0.860"),
        ("loss", 0.02, 0.0012345, "loss < 0.00218"),
        ("val_loss", 2.0, 2.0, "val_loss < 2.01"),
    ],
)
def test_a_suggested_target_leaves_a_little_room(name: str, first: float, last: float, expected: str) -> None:
    assert reached_target(Metric(name=name, first=first, last=last, count=5, source="x")) == expected


@pytest.mark.parametrize(
    ("command", "script", "expected"),
    [
        ("python train.py", Path("/project/my model/train.py"), "my-model"),
        ("python pre_train.py", Path("/project/x/pre_train.py"), "pre_train"),
        ("docker run -it org/welt:latest", None, "welt"),
        ("./go", None, "go"),
    ],
)
def test_names_of_studies(command: str, script: Path | None, expected: str) -> None:
    assert study_name(command, script) == expected


@pytest.mark.parametrize("run", ["true", "null", "./go", "train it", "train: it", "a # b", "it's"])
def test_any_command_is_read_as_it_was_written(run: str) -> None:
    text = hotlap_yaml(Plan(name="mine", written_by="hotlap init", found=Found(run=run)))
    config = config_from_text(text, Path("hotlap.yaml"))
    assert config.command is not None and config.command.run == run
