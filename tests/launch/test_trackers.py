"""Which trackers a config asks for, what is said before a run starts, and under which names figures go out."""

import math
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import config_from_values
from hotlap.core.errors import ConfigError, MissingExtraError
from hotlap.core.masking import secret_values
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import trackers
from hotlap.launch.mirror import Position
from hotlap.launch.tracked import masked, tracked_point, tracked_summary, without_secrets
from hotlap.launch.trackers import (
    require_trackers,
    settled_lines,
    tracker_environment,
    tracker_notices,
    wandb_mode,
    wanted_trackers,
)


def config(report_to: Any) -> Any:
    return config_from_values({"training": {"report_to": report_to}})


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (None, ()),
        ("none", ()),
        ([], ()),
        (["none"], ()),
        ("wandb", ("wandb",)),
        (["tensorboard", "wandb", "wandb"], ("tensorboard", "wandb")),
        ("all", ("all",)),
    ],
)
def test_report_to_is_read_as_the_trainer_reads_it(written: Any, names: tuple[str, ...]) -> None:
    assert config(written).training.report_to == names


def test_an_unknown_tracker_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown tracker 'tensorbord'\. Did you mean 'tensorboard'"):
        config("tensorbord")
    with pytest.raises(ConfigError, match=r"unknown tracker 'mlflow'.*Known: all, tensorboard, trackio, wandb"):
        config(["wandb", "mlflow"])


def test_a_tracker_that_is_not_installed_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_is_installed", lambda name: name == "wandb")
    require_trackers(config(["wandb"]))
    require_trackers(config("all"))
    with pytest.raises(MissingExtraError) as raised:
        require_trackers(config(["wandb", "trackio"]))
    assert str(raised.value) == "report_to: trackio is not installed; run: pip install 'hotlap[trackio]'"
    assert wanted_trackers(config("all").model_dump(mode="json")) == ("wandb",)
    assert wanted_trackers(config(["trackio", "wandb"]).model_dump(mode="json")) == ("wandb", "trackio")


def test_a_folder_that_a_tracker_left_behind_is_no_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_behind").mkdir()
    (tmp_path / "installed.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert [trackers._is_installed(name) for name in ("left_behind", "installed", "neither")] == [False, True, False]


def test_wandb_is_used_offline_unless_somebody_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = {"HOME": str(tmp_path)}
    assert wandb_mode(nobody) == "offline"
    assert wandb_mode({**nobody, "WANDB_MODE": "disabled"}) == "disabled"
    assert wandb_mode({**nobody, "WANDB_API_KEY": "x"}) == "online"
    assert wandb_mode({**nobody, "WANDB_MODE": "offline", "WANDB_API_KEY": "x"}) == "offline"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password abc\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_mode(nobody) == "online"
    assert wandb_mode({**nobody, "WANDB_BASE_URL": "https://wandb.example.org"}) == "offline"
    (tmp_path / ".netrc").write_text("garbage {{{\n")
    assert wandb_mode(nobody) == "offline"


def test_that_wandb_stays_offline_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (notice,) = tracker_notices(config("wandb"))
    assert "nobody is logged in" in notice and "wandb sync" in notice
    assert tracker_notices(config("tensorboard")) == []
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracker_notices(config("wandb")) == [], "who asked for it knows"


def test_figures_go_out_under_the_trainers_names() -> None:
    position = {"step": 7, "train_seconds": 1.5, "wall_seconds": 2.5, "tokens": 70}
    step, metrics = tracked_point({**position, "eval_loss": 0.5, "perplexity": 1.6, "eval_letters_loss": 0.4})
    assert step == 7
    assert {key: metrics[key] for key in metrics if "/" in key and key.startswith("eval")} == {
        "eval/loss": 0.5,
        "eval/perplexity": 1.6,
        "eval/letters_loss": 0.4,
    }
    _, metrics = tracked_point({**position, "train_loss": 0.6, "tokens_per_second": 9.0, "note": "text", "odd": True})
    assert sorted(metrics) == [
        "clock/train_seconds",
        "clock/wall_seconds",
        "train/loss",
        "train/num_input_tokens_seen",
        "train/tokens_per_second",
    ]


def test_the_summary_holds_the_end_of_a_run() -> None:
    result = {"step": 9, "time_to_target": None, "metrics": {"eval_loss": 0.5, "grad_norm": math.nan}}
    found = tracked_summary(("crashed", "RuntimeError: no\nTraceback"), result)
    assert found == {"outcome": "crashed", "reason": "RuntimeError: no", "step": 9, "final/eval_loss": 0.5}
    assert tracked_summary(None, {}) == {"outcome": "", "reason": ""}


def test_secrets_are_known_by_the_names_of_their_variables() -> None:
    environment = {"A_TOKEN": "short", "GITHUB_TOKEN": "ghp_12345678", "MY_SECRET": "long-enough", "HOME": "/home/ana"}
    secrets = secret_values(environment)
    assert set(secrets) == {"ghp_12345678", "long-enough"}
    assert without_secrets("clone https://ghp_12345678@host", secrets) == "clone https://***@host"
    assert masked({"hub_token": ["x"], "max_tokens": 3, "pad_token": "y", "in": {"key": "z"}}, ()) == {
        "hub_token": ["***"],
        "max_tokens": 3,
        "pad_token": "y",
        "in": {"key": "***"},
    }


def test_the_environment_of_trackers_carries_no_mark_of_a_run() -> None:
    found = tracker_environment({"HOTLAP_RUN_FOLDER": "/x", "PATH": "/bin", "RANK": "1"})
    assert "HOTLAP_RUN_FOLDER" not in found and "RANK" not in found
    assert (found["OMP_NUM_THREADS"], found["PATH"]) == ("1", "/bin")


def test_a_point_is_new_once() -> None:
    position = Position()
    train, evaluation = {"step": 3, "train_loss": 1.0}, {"step": 3, "eval_loss": 1.0}
    assert [position.is_new(point) for point in (train, evaluation, train, evaluation)] == [True, True, False, False]
    assert not position.is_new({"step": 2, "train_loss": 1.0})
    again = Position(3, ("train",))
    assert [again.is_new(point) for point in (train, evaluation)] == [False, True]


def test_one_problem_of_many_runs_is_one_line(project: ProjectFolder) -> None:
    folders = []
    for _ in range(3):
        folder = RunFolder.create(project.runs_path)
        facts = {"state": "failed", "problem": "TimeoutError: no answer"}
        folder.write("trackers", {"supervisor": {}, "trackers": {"wandb": facts}})
        folders.append(folder)
    assert settled_lines(folders) == [
        "wandb did not mirror 3 runs from r0001 to r0003 to the end: TimeoutError: no answer; the figures are in the "
        "run folder"
    ]
