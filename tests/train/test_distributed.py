"""Two real processes that share gradients, sums and decisions; and what one process alone does."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_program import exchange, gradients
from torch import nn

import hotlap
from hotlap.config.schema import TrainingConfig
from hotlap.core.errors import ConfigError, NotSupportedError
from hotlap.train import distributed
from hotlap.train.distributed import (
    World,
    join_world,
    leave_world,
    pick_device,
    syncing,
    threads_per_rank,
    wrap,
)

PROGRAM = Path(__file__).with_name("rank_program.py")
ALONE = World(0, 1, 0, torch.device("cpu"))
RANK_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RANK_NAMES:
        monkeypatch.delenv(name, raising=False)


def run_ranks(scenario: str, path: Path, size: int = 2) -> list[int]:
    """Run a scenario in processes of its own, every warning an error; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(size):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
        variables = {name: str(value) for name, value in own.items()}
        source = str(Path(hotlap.__file__).parents[1])
        environment = {**os.environ, **variables, "MASTER_ADDR": "127.0.0.1", "PYTHONPATH": source}
        command = [sys.executable, "-W", "error", str(PROGRAM), scenario, str(path)]
        processes.append(subprocess.Popen(command, env=environment))
    try:
        return [process.wait(90) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found, by rank."""
    path = tmp_path_factory.mktemp("ranks") / "found"
    assert run_ranks("all", path) == [0, 0]
    return [torch.load(f"{path}.{rank}") for rank in range(2)]


def test_each_process_knows_its_place(pair: list[dict[str, Any]]) -> None:
    worlds = [found["exchange"]["world"] for found in pair]
    assert worlds == [(0, 2, 0, 2, True, "cpu"), (1, 2, 1, 2, False, "cpu")]
    assert [found["exchange"]["threads"] for found in pair] == [2, 2]


def test_sums_are_the_same_everywhere(pair: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(pair):
        assert found["exchange"]["sum"] == [2.0, 1.0]
        assert found["exchange"]["own"] == [1.0, rank], "what was summed stays as it was"
        assert found["exchange"]["counts"] == [6, 2**41]


def test_the_first_process_is_believed(pair: list[dict[str, Any]]) -> None:
    assert [found["exchange"]["broadcast"] for found in pair] == [[0.1, 7.0]] * 2


def test_a_flag_of_one_is_seen_by_all(pair: list[dict[str, Any]]) -> None:
    assert [found["exchange"]["any"] for found in pair] == [[False, True, True]] * 2


def test_objects_come_by_rank(pair: list[dict[str, Any]]) -> None:
    expected = [{"rank": 0, "text": "é"}, {"rank": 1, "text": "éé"}]
    assert [found["exchange"]["gathered"] for found in pair] == [expected] * 2


def test_a_step_is_shared_at_once(pair: list[dict[str, Any]]) -> None:
    """Losses and counts add up, the clocks are the first process's, one request to end is enough."""
    expected = {
        "loss": 1.5,
        "num_tokens": 21,
        "num_slots": 40,
        "train_seconds": 1.5,
        "wall_seconds": 2.5,
        "is_interrupted": True,
    }
    assert [found["exchange"]["step"] for found in pair] == [expected] * 2


def test_a_loss_that_is_not_finite_is_so_everywhere(pair: list[dict[str, Any]]) -> None:
    for found in pair:
        broken = found["exchange"]["broken"]
        assert broken["loss"] != broken["loss"]
        assert (broken["train_seconds"], broken["wall_seconds"], broken["is_interrupted"]) == (0.1, 0.3, False)


@pytest.mark.parametrize(("name", "accumulation"), [("one", 1), ("accumulated", 4), ("unused", 2)])
def test_two_processes_have_the_gradients_of_one(pair: list[dict[str, Any]], name: str, accumulation: int) -> None:
    alone = gradients(ALONE, accumulation)
    whole = gradients(ALONE, 1)
    for found in pair:
        shared = found["train"][name]
        assert len(shared) == len(alone) == 4
        for ours, theirs, at_once in zip(shared, alone, whole, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
            torch.testing.assert_close(ours, at_once, atol=1e-6, rtol=0)


def test_gradients_are_shared_with_the_last_micro_batch_only(pair: list[dict[str, Any]]) -> None:
    assert [found["synced"] for found in pair] == [[False, False, True]] * 2


def test_a_process_that_dies_leaves_no_other_waiting(tmp_path: Path) -> None:
    codes = run_ranks("lost", tmp_path / "found")
    assert codes[1] == 9
    assert codes[0] == 0
    found = torch.load(tmp_path / "found.0")
    assert found["error"]
    assert found["seconds"] < 30


def test_one_process_shares_with_nobody() -> None:
    world = join_world(TrainingConfig(use_cpu=True))
    assert world == ALONE
    found = exchange(world)
    assert (found["sum"], found["broadcast"]) == ([1.0, 0.0], [0.1, 7.0])
    assert found["any"] == [False, False, True]
    assert found["gathered"] == [{"rank": 0, "text": "é"}]
    assert found["step"]["loss"] == 0.25
    assert found["step"]["is_interrupted"] is False
    leave_world(world)


def test_one_process_computes_with_the_module_itself() -> None:
    module = nn.Linear(2, 2)
    assert wrap(ALONE, module, TrainingConfig()) is module
    with syncing(module, is_last=False):
        pass


def test_cores_are_shared_between_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "usable_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    device = torch.device("cpu")
    assert threads_per_rank(ALONE) == 7
    assert threads_per_rank(World(1, 4, 1, device, 2)) == 3
    assert threads_per_rank(World(1, 16, 1, device, 16)) == 1


@pytest.mark.parametrize(("given", "alone"), [("3", 3), ("0", 7), ("", 7), ("many", 7)])
def test_the_number_of_threads_that_was_asked_for_counts_for_a_process_alone(
    monkeypatch: pytest.MonkeyPatch, given: str, alone: int
) -> None:
    monkeypatch.setattr(distributed, "usable_cores", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads_per_rank(ALONE) == alone
    assert threads_per_rank(World(1, 2, 1, torch.device("cpu"), 2)) == 3


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "2"}, "RANK, MASTER_ADDR, MASTER_PORT not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x"}, "MASTER_PORT not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', expected a whole number"),
    ],
)
def test_incomplete_variables_are_named(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=words):
        join_world(TrainingConfig(use_cpu=True))


def test_nccl_needs_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="nccl needs GPUs"):
        join_world(TrainingConfig(use_cpu=True, ddp_backend="nccl"))


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    training = TrainingConfig()
    assert [pick_device(training, rank) for rank in range(2)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert pick_device(TrainingConfig(use_cpu=True), 5) == torch.device("cpu")
    with pytest.raises(NotSupportedError, match="process 2 of this machine has no GPU: 2 visible"):
        pick_device(training, 2)
