"""The checks behind `hotlap doctor`."""

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from hotlap.launch import checks


def test_an_old_python_is_not_enough() -> None:
    assert checks.check_python((3, 11, 0)).state == "ok"
    old = checks.check_python((3, 10, 9))
    assert (old.state, old.is_essential) == ("missing", True)


def test_missing_packages_come_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert checks.check_torch().state == "missing"
    assert "pip install 'hotlap[train]'" in checks.check_torch().text
    extra = checks.check_extra("report", ("plotly", "scipy"))
    assert (extra.state, extra.is_essential) == ("warning", False)
    assert extra.text == "without plotly, scipy; run: pip install 'hotlap[report]'"


def test_a_folder_that_cannot_be_written_is_essential(tmp_path: Path) -> None:
    assert checks.check_writable(tmp_path).state == "ok"
    absent = checks.check_writable(tmp_path / "absent")
    assert (absent.state, absent.is_essential) == ("missing", True)
    assert checks.check_disk(tmp_path / "absent").state == "missing"


def test_git_tells_of_uncommitted_files(tmp_path: Path) -> None:
    assert checks.check_git(tmp_path).state == "warning"
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "new").touch()
    assert "1 uncommitted" in checks.check_git(tmp_path).text


def test_noise_is_a_number() -> None:
    assert checks.clock_noise_percent(0.01) >= 0


def test_bf16_comes_from_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_cpu_flags", lambda: frozenset({"avx2", "amx_bf16"}))
    assert checks.check_bf16().state == "ok"
    monkeypatch.setattr(checks, "_cpu_flags", lambda: frozenset({"avx2"}))
    assert checks.check_bf16().state == "warning"
