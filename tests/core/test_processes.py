"""Process identities: a pid alone proves nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hotlap.core.processes import boot_id, is_alive, process_identity, separate_cores, usable_cores


def test_this_process_is_alive() -> None:
    identity = process_identity()
    assert identity["pid"] == os.getpid()
    assert identity["boot_id"] == boot_id()
    assert is_alive(identity)


@pytest.mark.parametrize(
    "other",
    [
        {"start_seconds": process_identity()["start_seconds"] - 60},  # the pid was used again
        {"boot_id": "another boot"},
        {"host": "another host"},
    ],
)
def test_another_process_with_the_same_pid_is_not_meant(other: dict[str, object]) -> None:
    assert not is_alive({**process_identity(), **other})


@pytest.mark.parametrize("missing", ["pid", "start_seconds", "boot_id", "host"])
def test_an_incomplete_identity_is_nobodys(missing: str) -> None:
    identity = process_identity()
    del identity[missing]
    assert not is_alive(identity)


def test_a_process_is_alive_until_it_ends_even_before_it_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = process_identity(child.pid)
    assert is_alive(identity)
    assert child.stdin is not None
    child.stdin.close()
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not is_alive(identity)
    child.wait()
    assert not is_alive(identity)


def test_usable_cores_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_of_two_hardware_threads_of_a_core_one_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for core, siblings in enumerate(["0,4", "1,5", "2,6", "3,7"] * 2):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert separate_cores(tmp_path) == [0, 1, 2, 3]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 5}, raising=False)
    assert separate_cores(tmp_path) == [1, 2]
    assert separate_cores(tmp_path / "nowhere") == [1, 2, 5]
