"""One of several processes that work together: `rank_program.py SCENARIO FILE`, started by test_distributed.

Each scenario is a function of the world; what it returns is stored in `FILE.RANK` for the test to read.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hotlap.config.schema import TrainingConfig
from hotlap.train.distributed import (
    World,
    any_rank,
    broadcast_floats,
    gather_objects,
    join_world,
    leave_world,
    share_step,
    sum_over_ranks,
    syncing,
    threads_per_rank,
    wrap,
)

ROWS, WIDTH = 16, 8


def build_model() -> nn.Module:
    """Return a small model; the same weights for the same seed."""
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, WIDTH))


def global_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs (ROWS, WIDTH), classes (ROWS,) and how many targets of each row count (ROWS,)."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(ROWS, WIDTH, generator=generator)
    classes = torch.randint(WIDTH, (ROWS,), generator=generator)
    return inputs, classes, torch.arange(ROWS) % 3 + 1


def gradients(world: World, accumulation: int, **settings: Any) -> list[Tensor]:
    """Return the gradients of the weighted mean loss over the global batch, in so many micro-batches."""
    torch.manual_seed(world.rank)  # every process takes over the first one's weights
    training = TrainingConfig(gradient_accumulation_steps=accumulation, **settings)
    model = build_model()
    shared = wrap(world, model, training)
    inputs, classes, weights = global_batch()
    for _ in range(2):  # the second time the buckets are laid out anew
        model.zero_grad()
        for number, rows in enumerate(torch.arange(ROWS).chunk(accumulation)):
            own = rows[world.rank :: world.size]
            with syncing(shared, is_last=number == accumulation - 1):
                losses = nn.functional.cross_entropy(shared(inputs[own]), classes[own], reduction="none")
                loss = (losses * weights[own]).sum() / weights.sum()
                (loss * world.size).backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def exchange(world: World) -> dict[str, Any]:
    """Try every way of sharing."""
    rank = world.rank
    own = torch.tensor([1.0, rank], dtype=torch.float64)
    step = share_step(
        world,
        loss=torch.tensor(0.25 + rank),
        num_tokens=10 + rank,
        num_slots=20,
        train_seconds=1.5 + 100 * rank,
        wall_seconds=2.5 + 100 * rank,
        is_interrupted=rank == 1,
    )
    broken = share_step(
        world,
        loss=torch.tensor(float("nan") if rank else 1.0),
        num_tokens=1,
        num_slots=1,
        train_seconds=0.1,
        wall_seconds=0.3,
        is_interrupted=False,
    )
    return {
        "world": (world.rank, world.size, world.local_rank, world.local_size, world.is_main, world.device.type),
        "threads": threads_per_rank(world, 5),
        "sum": sum_over_ranks(world, own).tolist(),
        "own": own.tolist(),
        "counts": sum_over_ranks(world, torch.tensor([3, 2**40])).tolist(),
        "broadcast": broadcast_floats(world, [0.1 + rank, 7.0]),
        "any": [any_rank(world, flag) for flag in (False, rank == 1, True)],
        "gathered": gather_objects(world, {"rank": rank, "text": "é" * (rank + 1)}),
        "step": asdict(step),
        "broken": asdict(broken),
    }


def train(world: World) -> dict[str, Any]:
    """Compute gradients in every way that is offered."""
    # Here all parameters are used, and torch says that it looked in vain.
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    return {
        "one": gradients(world, 1),
        "accumulated": gradients(world, 4),
        "unused": gradients(world, 2, ddp_find_unused_parameters=True, ddp_bucket_cap_mb=1),
    }


def synced(world: World) -> list[bool]:
    """Say after each of three micro-batches whether the gradients are the same everywhere."""
    model = build_model()
    shared = wrap(world, model, TrainingConfig(gradient_accumulation_steps=3))
    same = []
    for number in range(3):
        with syncing(shared, is_last=number == 2):
            shared(torch.full((2, WIDTH), float(world.rank + number))).sum().backward()
        found = gather_objects(world, [p.grad.clone() for p in model.parameters() if p.grad is not None])
        same.append(all(torch.equal(a, b) for a, b in zip(*found, strict=True)))
    return same


def lost(world: World) -> dict[str, Any]:
    """Lose the second process in the middle of the work."""
    if world.rank == 1:
        os._exit(9)
    start = time.monotonic()
    try:
        sum_over_ranks(world, torch.zeros(1))
    except RuntimeError as error:
        return {"error": str(error), "seconds": time.monotonic() - start}
    return {}


SCENARIOS: dict[str, Callable[[World], Any]] = {
    "all": lambda world: {"exchange": exchange(world), "train": train(world), "synced": synced(world)},
    "lost": lost,
}


def main() -> None:
    """Run the scenario of the command line."""
    scenario, path = sys.argv[1:]
    torch.set_num_threads(1)
    world = join_world(TrainingConfig(use_cpu=True, ddp_timeout=60))
    found = SCENARIOS[scenario](world)
    torch.save(found, Path(f"{path}.{world.rank}"))
    if scenario != "lost":
        leave_world(world)


if __name__ == "__main__":
    main()
