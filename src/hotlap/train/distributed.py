"""Several processes that train one model: who they are, what they share, how they stay in step.

world = join_world(config.training)     # torchrun's and accelerate's variables; one process without them
objective = wrap(world, objective, config.training)
...
leave_world(world)

Each process computes the gradients of its own rows; they are averaged over the processes while the backward pass still
runs. An average is not the mean over all target tokens of a step: divide a process's summed loss by the targets of
all processes and multiply it by `world.size`, then the averaged gradients are those of one process with all rows.
"""

import inspect
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hotlap.config.schema import TrainingConfig
from hotlap.core.errors import ConfigError, NotSupportedError
from hotlap.core.processes import usable_cores

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The processes of one training, seen from one of them."""

    rank: int
    size: int
    local_rank: int
    """Place among the processes of this machine: the number of the GPU."""
    device: torch.device
    local_size: int = 1
    """Processes on this machine."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0


@dataclass(frozen=True, slots=True)
class SharedStep:
    """What every process knows of a step that has been taken; the same on all of them."""

    loss: float
    num_tokens: int
    num_slots: int
    """Sums over the processes."""
    train_seconds: float
    wall_seconds: float
    """The first process's clocks."""
    is_interrupted: bool
    """Whether any process was asked to end."""


def join_world(training: TrainingConfig) -> World:
    """Read who this process is and meet the others.

    Raises ConfigError for incomplete variables, NotSupportedError when there is no GPU for this process.
    """
    size = _variable("WORLD_SIZE", 1)
    if size == 1:
        return World(0, 1, 0, pick_device(training))
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} not set: start the processes with torchrun, or unset "
            "WORLD_SIZE for a single one"
        )
    rank = _variable("RANK", 0)
    local_rank = _variable("LOCAL_RANK", rank)
    device = pick_device(training, local_rank)
    backend = training.ddp_backend or ("nccl" if device.type == "cuda" else "gloo")
    if backend == "nccl" and device.type != "cuda":
        raise ConfigError("training.ddp_backend nccl needs GPUs; leave it out, or set it to gloo")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=float(training.ddp_timeout)),
        device_id=device if backend == "nccl" else None,
    )
    return World(rank, size, local_rank, device, _variable("LOCAL_WORLD_SIZE", size))


def leave_world(world: World) -> None:
    """Part from the other processes at an ordinary end; after an error just exit, since nobody may answer any more."""
    if world.size > 1 and dist.is_initialized():
        dist.destroy_process_group()


def pick_device(training: TrainingConfig, local_rank: int = 0) -> torch.device:
    """Return the process's own GPU, or the CPU where there is none or `use_cpu` says so.

    Raises NotSupportedError when there are GPUs, but none for this process.
    """
    if training.use_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise NotSupportedError(
            f"process {local_rank} of this machine has no GPU: {count} visible; start {count} process(es), make more "
            "GPUs visible with CUDA_VISIBLE_DEVICES, or set training.use_cpu: true"
        )
    return torch.device("cuda", local_rank)


def threads_per_rank(world: World, cores: int | None = None) -> int:
    """Return how many threads this process computes with: its share of the cores (default: the usable ones).

    OMP_NUM_THREADS counts for a process alone, where the launcher or the user has set it. Of several processes it is
    not heard, since torchrun sets it to 1 by itself.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if world.local_size == 1 and given.isdigit() and int(given):
        return int(given)
    return max(1, (usable_cores() if cores is None else cores) // world.local_size)


def wrap(world: World, module: nn.Module, training: TrainingConfig) -> nn.Module:
    """Return the module with its gradients shared in its backward pass; for one process the module itself.

    All processes start from the first one's weights and buffers. Buffers are not shared again, so statistics that a
    model of your own keeps in them stay those of each process.
    """
    if world.size == 1:
        return module
    finds_unused = bool(training.ddp_find_unused_parameters)
    options: dict[str, Any] = {
        "device_ids": [world.device.index] if world.device.type == "cuda" else None,
        "find_unused_parameters": finds_unused,
        "gradient_as_bucket_view": True,
        "static_graph": not finds_unused and _has_one_micro_batch(training),
    }
    if training.ddp_bucket_cap_mb is not None:
        options["bucket_cap_mb"] = training.ddp_bucket_cap_mb
    # torch 2.13 renamed the option and warns of the old name.
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    options["forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"] = False
    return DistributedDataParallel(module, **options)


def syncing(module: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
    """Return the context for forward and backward of one micro-batch: gradients are shared with the last one only."""
    no_sync = getattr(module, "no_sync", None)
    context: AbstractContextManager[Any] = nullcontext() if is_last or no_sync is None else no_sync()
    return context


def share_step(
    world: World,
    *,
    loss: Tensor,
    num_tokens: int,
    num_slots: int,
    train_seconds: float,
    wall_seconds: float,
    is_interrupted: bool,
) -> SharedStep:
    """Share what the processes have to agree on at a step's end, in one all-reduce of six numbers.

    `loss` is this process's part of the step's mean. A part that is not finite makes the loss so everywhere, hence
    all processes end at the same step.
    """
    if world.size == 1:
        return SharedStep(loss.item(), num_tokens, num_slots, train_seconds, wall_seconds, is_interrupted)
    clocks = (train_seconds, wall_seconds) if world.is_main else (0.0, 0.0)
    numbers = [0.0, num_tokens, num_slots, *clocks, float(is_interrupted)]
    shared = torch.tensor(numbers, dtype=torch.float64, device=world.device)
    shared[0] = loss.detach()
    dist.all_reduce(shared)
    mean, tokens, slots, train, wall, asked = shared.tolist()
    return SharedStep(mean, int(tokens), int(slots), train, wall, asked > 0)


def broadcast_floats(world: World, values: list[float]) -> list[float]:
    """Return the first process's numbers; all processes pass a list of the same length."""
    if world.size == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64, device=world.device)
    dist.broadcast(shared, src=0)
    numbers: list[float] = shared.tolist()
    return numbers


def sum_over_ranks(world: World, tensor: Tensor) -> Tensor:
    """Return the sum of the processes' tensors, where and as this process's is; its own stays as it was."""
    if world.size == 1:
        return tensor
    total = tensor.detach().to(world.device, copy=True)
    dist.all_reduce(total)
    return total.to(tensor.device)


def any_rank(world: World, flag: bool) -> bool:
    """Say whether the flag is set on any process."""
    if world.size == 1:
        return flag
    return bool(sum_over_ranks(world, torch.tensor(float(flag), device=world.device)).item())


def gather_objects(world: World, obj: T) -> list[T]:
    """Return every process's object (pickled on the way), by rank, on all of them."""
    if world.size == 1:
        return [obj]
    found: list[Any] = [None] * world.size
    dist.all_gather_object(found, obj)
    return found


def _has_one_micro_batch(training: TrainingConfig) -> bool:
    # A static graph shares the gradients of the very first backward pass, whatever `no_sync` says.
    is_searched = training.per_device_train_batch_size == "auto" or training.auto_find_batch_size
    return training.gradient_accumulation_steps == 1 and not is_searched


def _variable(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdigit():
        raise ConfigError(f"the variable {name} is {text!r}, expected a whole number; it is set by torchrun")
    return int(text)
