"""The number of processes in a launcher's command line."""

from typing import Any

import pytest

from hotlap.bench import launcher_devices
from hotlap.bench.launcher_devices import devices_of, launched_devices, with_devices
from hotlap.config.load import config_from_values
from hotlap.core.errors import ConfigError


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("torchrun --nproc_per_node=1 train.py", "torchrun --nproc_per_node=2 train.py"),
        (
            "torchrun --nproc-per-node 4 --standalone train.py --n 1",
            "torchrun --nproc-per-node 2 --standalone train.py --n 1",
        ),
        ("torchrun train.py", "torchrun --nproc_per_node=2 train.py"),
        ("accelerate launch train.py -n 5", "accelerate launch --num_processes=2 train.py -n 5"),
        ("accelerate launch --num_processes 1 train.py", "accelerate launch --num_processes 2 train.py"),
        ("X=1 venv/bin/accelerate launch -n 1 a.py", "X=1 venv/bin/accelerate launch -n 2 a.py"),
        ("python -m torch.distributed.run a.py", "python -m torch.distributed.run --nproc_per_node=2 a.py"),
        ("deepspeed --num_gpus=8 a.py", "deepspeed --num_gpus=2 a.py"),
        ("cd x && torchrun a.py | tee log", "cd x && torchrun --nproc_per_node=2 a.py | tee log"),
    ],
)
def test_launchers_get_the_number(command: str, expected: str) -> None:
    assert with_devices(command, 2) == expected


@pytest.mark.parametrize("command", ["python train.py", "accelerate config", "python train.py torchrun", "echo"])
def test_without_a_launcher_it_is_said_what_to_write(command: str) -> None:
    with pytest.raises(ConfigError, match=r"--devices: no launcher in the command .*write \{devices\}"):
        with_devices(command, 2)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("torchrun --nproc_per_node=4 train.py", 4),
        ("accelerate launch --num_processes 4 train.py --num_processes 9", 4),
        ("cd x && deepspeed --num_gpus={gpus} a.py", 8),
        ("accelerate launch -n {gpus} a.py", 8),
        ("torchrun --nproc-per-node=gpu train.py", 2),
        ("torchrun --nproc_per_node=$N train.py", None),
        ("torchrun train.py", None),
        ("python train.py --nproc_per_node=4", None),
    ],
)
def test_launchers_say_how_many(command: str, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_devices, "visible_gpus", lambda: 2)
    assert launched_devices(command, {"gpus": 8}) == expected


@pytest.mark.parametrize(
    ("run", "params", "expected"),
    [
        ("torchrun --nproc_per_node=4 train.py --gpus {gpus}", {"gpus": 2}, 4),
        ("python train.py --gpus {gpus}", {"gpus": 2}, 2),
        ("python train.py --world {world_size}", {"world_size": 3}, 3),
        ("python train.py --n {num_devices}", {"num_devices": -1}, 1),
        ("python train.py --n {num_devices}", {"num_devices": "auto"}, 1),
        ("python train.py", {}, 1),
    ],
)
def test_a_command_uses_the_devices_of_its_launcher_else_of_a_knob(
    run: str, params: dict[str, Any], expected: int
) -> None:
    assert devices_of(config_from_values({"command": {"run": run}, "params": params})) == expected
