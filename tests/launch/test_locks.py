"""Locks across real processes."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from hotlap.core.bench_folder import BenchFolder
from hotlap.core.errors import StorageError, StudyError
from hotlap.core.study_folder import ProjectFolder, StudyFolder
from hotlap.launch.locks import bench_lock, device_lock, study_lock

HOLD_STUDY = """
import sys
from pathlib import Path
from hotlap.core.study_folder import StudyFolder
from hotlap.launch.locks import study_lock
with study_lock(StudyFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""
HOLD_DEVICE = """
import sys
from pathlib import Path
from hotlap.launch.locks import device_lock
with device_lock("cpu", directory=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(script: str, path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def study(project: ProjectFolder) -> StudyFolder:
    return project.study("s").create()


def test_a_second_driver_is_told_who_drives(study: StudyFolder) -> None:
    with holder(HOLD_STUDY, study.path) as other, pytest.raises(StudyError, match=f"'s' .* process {other.pid} "):
        try:
            with study_lock(study):
                pass
        finally:
            other.kill()
    with study_lock(study):  # the system lets go of what a killed process held
        pass


def test_a_study_lock_can_be_taken_again(study: StudyFolder) -> None:
    for _ in range(2):
        with study_lock(study):
            pass


def test_who_measures_a_bench_is_named(tmp_path: Path) -> None:
    bench = BenchFolder(tmp_path / "b0001")
    bench.path.mkdir()
    told = rf"the bench b0001 is already being measured by process {os.getpid()} on .*; wait for it, or stop"
    for _ in range(2):
        with bench_lock(bench), pytest.raises(StudyError, match=told), bench_lock(bench):
            pass


def test_runs_wait_for_their_device(tmp_path: Path) -> None:
    told: list[str] = []
    with holder(HOLD_DEVICE, tmp_path) as other:

        def on_wait(message: str) -> None:
            told.append(message)
            other.kill()

        with device_lock("cpu", on_wait, directory=tmp_path):
            pass
    assert told == [message for message in told if f"waiting for cpu: process {other.pid} " in message]
    assert len(told) == 1


def test_devices_do_not_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with ExitStack() as held:
        for device in ("cpu", "cuda:0", "cuda:1"):
            held.enter_context(device_lock(device, directory=tmp_path))
        names = sorted(path.name for path in tmp_path.glob("*.lock"))
    assert names == ["device-cpu.lock", "device-cuda-0.lock", "device-cuda-1.lock"]


def test_a_gpu_is_named_by_what_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8a/1")
    with device_lock("cuda", directory=tmp_path), device_lock("cuda:1", directory=tmp_path):
        assert sorted(p.name for p in tmp_path.glob("*.lock")) == ["device-cuda-3.lock", "device-cuda-GPU-8a-1.lock"]


def test_the_default_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with device_lock("cpu"):
        assert (tmp_path / "hotlap").stat().st_mode & 0o777 == 0o700


def test_an_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot lock"), device_lock("cpu", directory=tmp_path / "file"):
        pass


def test_a_run_on_several_devices_holds_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with device_lock(("cuda:1", "cuda:0", "cuda:1"), directory=tmp_path):
        held = sorted(path.name for path in tmp_path.glob("*.lock"))
        assert held == ["device-cuda-0.lock", "device-cuda-1.lock"]
        for name in held:
            with pytest.raises(Timeout):
                FileLock(tmp_path / name).acquire(timeout=0)
    for name in held:
        with FileLock(tmp_path / name).acquire(timeout=0):
            pass


def test_several_devices_wait_for_each_of_their_holders(tmp_path: Path) -> None:
    told: list[str] = []
    with holder(HOLD_DEVICE, tmp_path) as other:

        def on_wait(message: str) -> None:
            told.append(message)
            other.kill()

        with device_lock(("cuda:0", "cpu"), on_wait, directory=tmp_path):
            pass
    assert [message.partition(":")[0] for message in told] == ["waiting for cpu"]
