"""Kept values of knobs in the user's own files."""

import stat
from pathlib import Path

import pytest

from hotlap.config.command import CommandConfig
from hotlap.core.errors import ConfigError
from hotlap.study.apply_knobs import plan_knobs

COMMAND = CommandConfig(
    run="python train.py --config conf.yaml --wd {wd}",
    files={"conf.yaml": {"opt.lr": "lr", "depth": "depth"}},
    constants={"train.py": {"BATCH": "batch"}},
)
BASE = {"lr": 0.1, "depth": 2, "batch": 8, "wd": 0.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The user's files."""
    (tmp_path / "conf.yaml").write_text("opt:\n  lr: 0.1  # rate\ndepth: 2\n")
    (tmp_path / "train.py").write_text("BATCH = 8  # rows\n")
    (tmp_path / "train.py").chmod(0o755)
    return tmp_path


def test_values_go_to_where_they_came_from(folder: Path) -> None:
    found = plan_knobs(COMMAND, {"params.lr": 0.3, "params.batch": 16, "params.wd": 0.1}, folder, BASE)
    assert [file.name for file in found.files] == ["conf.yaml", "train.py"]
    assert found.notes == ()
    assert "-  lr: 0.1  # rate\n+  lr: 0.3  # rate\n" in found.patch and "+BATCH = 16  # rows\n" in found.patch
    assert (folder / "train.py").read_text() == "BATCH = 8  # rows\n", "a plan writes nothing"
    found.write()
    assert (folder / "conf.yaml").read_text() == "opt:\n  lr: 0.3  # rate\ndepth: 2\n"
    assert (folder / "train.py").read_text() == "BATCH = 16  # rows\n"
    assert stat.S_IMODE((folder / "train.py").stat().st_mode) == 0o755


def test_what_is_there_already_is_no_change(folder: Path) -> None:
    found = plan_knobs(COMMAND, {"params.lr": 0.1}, folder, BASE)
    assert found.files == () and found.patch == ""
    assert plan_knobs(COMMAND, {"params.wd": 0.1}, folder, BASE).files == ()
    assert plan_knobs(None, {"training.learning_rate": 0.1}, folder, {}).files == ()


def test_a_file_that_was_changed_meanwhile_is_told(folder: Path) -> None:
    (folder / "conf.yaml").write_text("opt:\n  lr: 0.2\n")
    (note,) = plan_knobs(COMMAND, {"params.lr": 0.3}, folder, BASE).notes
    assert note == "conf.yaml: opt.lr is 0.2, but the study began with 0.1"


def test_a_file_that_is_gone(folder: Path) -> None:
    (folder / "conf.yaml").unlink()
    with pytest.raises(ConfigError, match=r"conf\.yaml: no such file"):
        plan_knobs(COMMAND, {"params.lr": 0.3}, folder, BASE)
