"""Run folders of wandb: the log, the files beside it, and what is told where one of them is missing."""

import json
from pathlib import Path
from typing import Any

import pytest
import wandb_files as wandb

from hotlap.core.errors import ConfigError, DataError
from hotlap.runs.import_wandb import read_wandb_folders, run_folders


def make_folder(
    root: Path, run_id: str = "3k2l9x1a", records: list[bytes] | None = None, name: str = "offline-run-20261121_101112-"
) -> Path:
    folder = root / f"{name}{run_id}"
    (folder / "files").mkdir(parents=True)
    if records is not None:
        (folder / f"run-{run_id}.wandb").write_bytes(wandb.framed(records))
    return folder


def logged(run_id: str = "3k2l9x1a", exit_code: int | None = 0, **settings: Any) -> list[bytes]:
    lines = [wandb.history(step, {"loss": 3.0 - step / 10, "_runtime": 2.0 * step}) for step in (0, 10, 20)]
    return [wandb.run(run_id, settings), *lines, *([] if exit_code is None else [wandb.ended(exit_code)])]


def test_an_offline_run_needs_nothing_but_its_log(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, records=logged(lr=3e-4, _wandb={"cli": "0.19"}))
    source = read_wandb_folders(folder)
    (run,) = source.runs
    assert (source.kind, source.label, source.notices) == ("run folders of wandb", "tiny", ())
    assert (run.own_id, run.identity, run.name) == ("3k2l9x1a", "wandb:3k2l9x1a", "glad-sun-7")
    assert run.config == {"lr": 3e-4}
    assert run.metrics == {"loss": 1.0, "source_seconds": 40.0}
    assert run.points[1] == {"step": 10, "loss": 2.0, "source_seconds": 20.0}
    assert (run.outcome, run.reason) == ("missed", "imported: it finished")
    assert run.facts == {"project": "tiny", "sweep": "sweep1", "tags": ["first"]}


@pytest.mark.parametrize(("code", "outcome"), [(1, "crashed"), (None, "interrupted")])
def test_how_it_ended(tmp_path: Path, code: int | None, outcome: str) -> None:
    (run,) = read_wandb_folders(make_folder(tmp_path, records=logged(exit_code=code))).runs
    assert run.outcome == outcome


def test_the_files_are_believed_first(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, records=logged(lr=3e-4))
    (folder / "files" / "config.yaml").write_text(
        "wandb_version: 1\n\n_wandb:\n  desc: null\n  value: {cli_version: 0.16.0}\nlr:\n  desc: null\n  value: 0.001\n"
    )
    summary = {"loss": 0.5, "eval": {"loss": 0.75}, "worst": "NaN", "note": "x", "_runtime": 99.5, "_step": 20}
    (folder / "files" / "wandb-summary.json").write_text(json.dumps(summary))
    (run,) = read_wandb_folders(folder).runs
    assert run.config == {"lr": 0.001}
    assert {key: run.metrics[key] for key in ("loss", "eval.loss", "source_seconds")} == {
        "loss": 0.5,
        "eval.loss": 0.75,
        "source_seconds": 99.5,
    }
    assert run.metrics["worst"] != run.metrics["worst"]
    assert set(run.metrics) == {"loss", "eval.loss", "worst", "source_seconds"}


def test_a_folder_without_its_log_says_what_is_missing(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    (folder / "files" / "wandb-summary.json").write_text('{"loss": 0.5}')
    source = read_wandb_folders(folder)
    assert [(run.own_id, run.metrics, run.points) for run in source.runs] == [("3k2l9x1a", {"loss": 0.5}, ())]
    (notice,) = source.notices
    assert str(folder) in notice and "run-*.wandb" in notice and "copy the whole folder" in notice


def test_a_damaged_log_is_told_and_read_up_to_there(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, records=logged())
    log = folder / "run-3k2l9x1a.wandb"
    log.write_bytes(log.read_bytes()[:-1] + b"\xff")
    source = read_wandb_folders(folder)
    assert len(source.runs[0].points) == 3
    assert source.runs[0].outcome == "interrupted"
    assert "damaged at byte" in source.notices[0]


def test_names_of_the_trainer_are_translated_where_it_has_logged(tmp_path: Path) -> None:
    lines = [
        wandb.history(0, {"train/loss": 2.5, "train/grad_norm": 0.5, "train/global_step": 10, "train/epoch": 0.1}),
        wandb.history(1, {"eval/loss": 2.0, "train/global_step": 10}),
        wandb.history(2, {"train/train_loss": 2.2, "train/train_runtime": 9.5, "train/global_step": 20}),
    ]
    folder = make_folder(tmp_path, records=[wandb.run("3k2l9x1a", {}), *lines, wandb.ended()])
    (run,) = read_wandb_folders(folder).runs
    assert run.points == (
        {"step": 10, "train_loss": 2.5, "grad_norm": 0.5, "epoch": 0.1},
        {"step": 10, "eval_loss": 2.0},
        {"step": 20, "train_loss_mean": 2.2, "train_runtime": 9.5},
    )
    assert run.metrics["train_loss"] == 2.5
    assert "train/global_step" not in run.metrics


def test_names_of_others_stay(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, records=[wandb.history(5, {"train/loss": 2.5}), wandb.ended()])
    assert read_wandb_folders(folder).runs[0].points == ({"step": 5, "train/loss": 2.5},)


def test_all_folders_of_a_wandb_folder_are_found_and_links_are_not(tmp_path: Path) -> None:
    first = make_folder(tmp_path / "wandb", "aaaa1111", logged("aaaa1111"))
    second = make_folder(tmp_path / "wandb", "bbbb2222", logged("bbbb2222"), name="run-20261121_101113-")
    (tmp_path / "wandb" / "latest-run").symlink_to(second)
    (tmp_path / "wandb" / "run-20261121_101114-empty").mkdir()
    assert run_folders(tmp_path / "wandb") == run_folders(tmp_path) == [first, second]
    assert run_folders(first) == [first]
    assert [run.own_id for run in read_wandb_folders(tmp_path).runs] == ["aaaa1111", "bbbb2222"]


def test_of_a_resumed_run_the_last_folder_counts(tmp_path: Path) -> None:
    make_folder(tmp_path, records=logged(exit_code=None))
    last = make_folder(tmp_path, records=logged(), name="offline-run-20261121_121112-")
    source = read_wandb_folders(tmp_path)
    assert [run.outcome for run in source.runs] == ["missed"]
    assert last.name in source.notices[0]


def test_broken_files_are_told_with_their_line(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, records=logged())
    (folder / "files" / "wandb-summary.json").write_text('{"loss":\n')
    with pytest.raises(DataError, match=r"wandb-summary\.json:\d: not valid JSON"):
        read_wandb_folders(folder)
    (folder / "files" / "config.yaml").write_text("lr: [1\nb: 2\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:\d: not valid YAML"):
        read_wandb_folders(folder)
