"""Containers are killed by the ids that a run's folder holds."""

import stat
from pathlib import Path

import pytest

from hotlap.core.containers import container_ids, stop_containers


def test_the_running_containers_of_a_run_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    folder = tmp_path / "containers"
    stop_containers(folder)
    folder.mkdir()
    (folder / "a").write_text("0a1b\n")
    (folder / "b").write_text("")
    (folder / "c").write_text("no id; rm -rf")
    assert container_ids(folder) == ("0a1b",)
    stop_containers(folder)
    assert (tmp_path / "called").read_text() == "kill 0a1b\n"
