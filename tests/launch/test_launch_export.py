"""Starting the export: what is refused before, and what becomes of the process's words."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotlap.core.errors import (
    ConfigError,
    HotlapError,
    MissingExtraError,
    NotSupportedError,
    RunFailedError,
    StorageError,
)
from hotlap.core.run_folder import RunFolder
from hotlap.launch import export
from hotlap.launch.export import export_run


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of hotlap's own with weights."""
    run = RunFolder.create(tmp_path / ".hotlap" / "runs")
    run.write("command", {"argv": ["python", "-m", "hotlap.worker"], "directory": str(tmp_path)})
    run.weights_path.write_bytes(b"")
    return run


def pretend(monkeypatch: pytest.MonkeyPatch, code: int, out: str = "", err: str = "") -> list[Any]:
    """Let the process end with a code and words; return what it was started with."""
    seen: list[Any] = []

    def run(command: list[str], **settings: Any) -> SimpleNamespace:
        seen.append((command, settings))
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(export, "require_training_side", lambda: None)
    return seen


def test_it_runs_in_the_project_without_a_gpu(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = pretend(monkeypatch, 0, out="loading\nwritten\n")
    assert export_run(folder, tmp_path / "out") == "written"
    ((command, settings),) = seen
    assert command[-3:] == ["hotlap.worker.export", str(folder.path.absolute()), str(tmp_path / "out")]
    assert settings["cwd"] == tmp_path and settings["env"]["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("code", "kind"),
    [(2, ConfigError), (7, NotSupportedError), (125, StorageError), (1, RunFailedError), (-9, RunFailedError)],
)
def test_its_errors_are_ours(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[HotlapError]
) -> None:
    pretend(monkeypatch, code, err="what is wrong\n")
    with pytest.raises(kind, match="what is wrong"):
        export_run(folder, tmp_path / "out")
    pretend(monkeypatch, code)
    with pytest.raises(kind, match=f"exporting failed with exit code {code}"):
        export_run(folder, tmp_path / "out")


def test_a_run_of_another_program_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    folder.write("command", {"argv": ["python", "train.py"]})
    with pytest.raises(ConfigError, match=r"there is no model\.safetensors of hotlap's own trainer to export"):
        export_run(folder, tmp_path / "out")


def test_without_torch_it_says_what_to_install(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingExtraError("torch not installed; run: pip install 'hotlap[train]'")

    monkeypatch.setattr(export, "require_training_side", missing)
    with pytest.raises(MissingExtraError):
        export_run(folder, tmp_path / "out")
