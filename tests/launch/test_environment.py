"""What a worker is given, and what is written down of it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.core.processes import usable_cores
from hotlap.launch.environment import recorded_environment, worker_environment, worker_threads


def test_threads_are_set_unless_the_user_did() -> None:
    assert worker_environment({})["OMP_NUM_THREADS"] == str(worker_threads())
    assert worker_environment({"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"
    assert 1 <= worker_threads() <= usable_cores()


def test_relative_python_paths_survive_the_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entries = worker_environment({"PYTHONPATH": f"lib{os.pathsep}/abs{os.pathsep}"})["PYTHONPATH"].split(os.pathsep)
    assert entries[:2] == [str(tmp_path / "lib"), "/abs"]
    assert "" not in entries


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_only_listed_names_are_recorded(environment: dict[str, str]) -> None:
    kept = recorded_environment({**environment, "OMP_NUM_THREADS": "2", "HOME": "/home/me"})
    assert kept["OMP_NUM_THREADS"] == "2"
    assert "HOME" not in kept


@given(
    st.sampled_from(["HOTLAP_", "CUDA_", "TORCH_"]),
    st.text("ABCxyz_", max_size=5),
    st.sampled_from(["KEY", "token", "Secret", "PASSWORD"]),
    st.text("ABCxyz_", max_size=5),
)
def test_no_secret_is_recorded(prefix: str, before: str, word: str, after: str) -> None:
    name = f"{prefix}{before}{word}{after}"
    assert recorded_environment({name: "hush"}) == {name: "***"}


def test_the_processes_of_several_devices_share_the_cores() -> None:
    shared = worker_environment({}, devices=2)
    assert shared["OMP_NUM_THREADS"] == str(max(1, worker_threads() // 2))
    assert worker_environment({}, devices=1000)["OMP_NUM_THREADS"] == "1"
    assert worker_environment({"OMP_NUM_THREADS": "7"}, devices=2)["OMP_NUM_THREADS"] == "7"


def test_torchrun_hands_on_the_signal_of_batch_systems() -> None:
    assert "SIGUSR1" in worker_environment({}, devices=2)["PET_SIGNALS_TO_HANDLE"].split(",")
    assert "PET_SIGNALS_TO_HANDLE" not in worker_environment({})


def test_the_ranks_of_a_job_around_the_driver_are_not_the_workers() -> None:
    outside = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3", "MASTER_ADDR": "node1", "MASTER_PORT": "1234"}
    assert not outside.keys() & worker_environment(outside).keys()
