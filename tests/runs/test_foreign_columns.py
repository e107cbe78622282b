"""What a column holds: what the user says, its prefix, its block, its name, and never against its cells."""

from pathlib import Path

import pytest

from hotlap.core.errors import ConfigError, DataError
from hotlap.runs.foreign_columns import Chosen, Columns, assign_columns, is_wandb_export, looks_like_a_metric
from hotlap.runs.foreign_table import load_table


def columns(folder: Path, header: str, *rows: str, chosen: Chosen | None = None, is_points: bool = False) -> Columns:
    path = folder / "runs.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return assign_columns(load_table(path), chosen or Chosen(), is_points=is_points)


@pytest.mark.parametrize(
    "name",
    [
        "eval_loss",
        "final_eval_loss",
        "val/acc",
        "train/learning_rate",
        "accuracy",
        "tokens_per_second",
        "grad_norm",
        "epoch",
        "value",
        "bits_per_byte",
        "train_runtime",
    ],
)
def test_names_of_metrics(name: str) -> None:
    assert looks_like_a_metric(name)


@pytest.mark.parametrize(
    "name",
    [
        "learning_rate",
        "eval_steps",
        "max_grad_norm",
        "metric_for_best_model",
        "hidden_size",
        "batch_size",
        "epochs",
        "lr",
        "clip_value",
        "per_device_train_batch_size",
    ],
)
def test_names_of_settings(name: str) -> None:
    assert not looks_like_a_metric(name)


def test_a_plain_table(tmp_path: Path) -> None:
    found = columns(tmp_path, "id,state,lr,optim,eval_loss,Runtime,notes", "a,finished,0.1,muon,3.5,60,hot")
    assert (found.own_id, found.name, found.state, found.step, found.seconds) == ("id", None, "state", None, "Runtime")
    assert found.config == {"lr": "lr", "optim": "optim"}
    assert found.metrics == {"eval_loss": "eval_loss"}
    assert found.facts == ("notes",)
    assert "settings: lr, optim; metrics: eval_loss" in found.told()


def test_prefixes_say_it_and_are_taken_off(tmp_path: Path) -> None:
    found = columns(tmp_path, "params_lr,config.eval_loss,metrics.lr_now,summary._step,seconds.setup", "1,2,3,4,5")
    assert found.config == {"params_lr": "lr", "config.eval_loss": "eval_loss"}
    assert found.metrics == {"metrics.lr_now": "lr_now"}
    assert found.facts == ("summary._step", "seconds.setup")


def test_two_columns_of_one_name_keep_their_prefixes(tmp_path: Path) -> None:
    found = columns(tmp_path, "config.lr,params.lr,lr", "1,2,3")
    assert found.config == {"config.lr": "config.lr", "params.lr": "params.lr", "lr": "lr"}


def test_what_the_user_says_goes_first(tmp_path: Path) -> None:
    chosen = Chosen(config=("eval_loss", "group"), metrics=("lr",))
    found = columns(tmp_path, "lr,eval_loss,group", "1,2,x", chosen=chosen)
    assert set(found.config) == {"eval_loss", "group"}
    assert set(found.metrics) == {"lr"}
    with pytest.raises(ConfigError, match=r"unknown column of .*'los'\. Did you mean 'loss'\?"):
        columns(tmp_path, "loss", "1", chosen=Chosen(metrics=("los",)))


def test_text_under_the_name_of_a_metric_is_a_setting(tmp_path: Path) -> None:
    assert columns(tmp_path, "loss_fn,loss", "mse,1").config == {"loss_fn": "loss_fn"}


@pytest.mark.parametrize(
    ("header", "rows", "chosen"),
    [
        ("eval_loss", ["1.5", "n/a"], Chosen()),
        ("metrics.x", ["1", "n/a"], Chosen()),
        ("x", ["1", "n/a"], Chosen(metrics=("x",))),
    ],
)
def test_a_metric_that_is_no_number_is_told(tmp_path: Path, header: str, rows: list[str], chosen: Chosen) -> None:
    with pytest.raises(DataError, match=r"runs\.csv:3: column .*: expected a number, as a metric has, got 'n/a'"):
        columns(tmp_path, header, *rows, chosen=chosen)


WANDB = "Name,State,Created,Runtime,Sweep"


def test_the_blocks_of_a_wandb_export_tell_settings_from_summary(tmp_path: Path) -> None:
    settings = ["batch_size", "bf16", "eval_batch_size", "lr", "optim", "warmup_steps"]
    summary = ["best_at", "forward_ms", "learning_rate", "log/info", "val_loss"]
    found = columns(
        tmp_path,
        ",".join([WANDB, *settings, *summary]),
        "a,finished,2026-11-13T09:48:11.000Z,9910,1wfhjnkh,8,true,16,1e-4,muon,50,7,3.5,1e-5,done,2.5",
        "b,failed,2026-11-13T09:49:11.000Z,12,1wfhjnkh,8,true,16,1e-4,muon,50,,,,,",
    )
    assert is_wandb_export(WANDB.split(","))
    assert list(found.config) == settings
    assert list(found.metrics) == ["best_at", "forward_ms", "learning_rate", "val_loss"]
    assert found.left_out == ("log/info",)
    assert (found.name, found.state, found.started, found.seconds) == ("Name", "State", "Created", "Runtime")


def test_a_small_or_rearranged_export_goes_by_names(tmp_path: Path) -> None:
    row = "a,finished,2026-11-13T09:48:11.000Z,9,s"
    assert list(columns(tmp_path, f"{WANDB},lr,batch_size,eval_loss", f"{row},1,2,3").metrics) == ["eval_loss"]
    names = ["zeta", "alpha", "val_loss", "beta", "gamma", "delta", "train_loss", "omega"]
    found = columns(tmp_path, ",".join([WANDB, *names]), ",".join([row, *"12345678"]))
    assert list(found.metrics) == ["val_loss", "train_loss"]
    blocks = ["eval_loss", "test_loss", "train_loss", "val_loss", "batch_size", "learning_rate", "optim", "seed"]
    found = columns(tmp_path, ",".join([WANDB, *blocks]), ",".join([row, *"12345678"]))
    assert list(found.metrics) == blocks[:4], "two blocks, but the other way round"


def test_a_chart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an export of a chart, whose points are thinned out"):
        columns(tmp_path, '"Step","a - loss","a - loss__MIN","a - loss__MAX"', "1,2,2,2")


def test_in_a_table_of_points_every_column_of_numbers_is_a_metric(tmp_path: Path) -> None:
    found = columns(tmp_path, "run,step,lr,config.width,optim", "a,1,0.5,64,muon", is_points=True)
    assert (found.own_id, found.step) == ("run", "step")
    assert found.metrics == {"lr": "lr"}
    assert found.config == {"config.width": "width", "optim": "optim"}
