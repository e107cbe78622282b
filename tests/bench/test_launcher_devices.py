"""The number of processes in a launcher's command line."""

import pytest

from hotlap.bench.launcher_devices import with_devices
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
