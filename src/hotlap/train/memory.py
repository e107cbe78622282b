"""What a training needs of a device's memory, by arithmetic: before anything is put there.

Weights, gradients and optimizer state follow from the number of parameters; activations and logits are estimates
(34 bytes per token, layer and unit of width for a block in bf16: Korthikanti et al. 2022, arXiv 2205.05198).
"""

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import torch
from torch import nn

from hotlap.config.schema import TrainingConfig
from hotlap.core.errors import ConfigError

_WEIGHT_BYTES: Final = 4
"""Weights and gradients are fp32; bf16 is autocast."""
_MOMENT_BYTES: Final = {"adamw_torch": 8, "adamw_torch_fused": 8, "muon": 4, "sgd": 0, "adafactor": 0}
"""Bytes of optimizer state per parameter; 0 for one of the user's own, of which nothing is known."""
_BLOCK_BYTES: Final = 34
_BLOCK_INPUT_BYTES: Final = 2
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_LARGEST_INT: Final = 2**31 - 1
_LARGEST_MMAP_THRESHOLD: Final = 2**25


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Bytes on one device, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """Kept between forward and backward pass of one micro-batch."""
    logits: int
    """An upper bound where the loss is computed in pieces."""

    @property
    def state(self) -> int:
        """What stays for the whole training: it has to fit, whatever the batch size."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """Everything together."""
        return self.state + self.activations + self.logits

    def describe(self) -> str:
        """Return the parts in words; those of a micro-batch only where they are known."""
        parts = [
            f"weights {_show(self.weights)}",
            f"gradients {_show(self.gradients)}",
            f"optimizer state {_show(self.optimizer)}",
        ]
        for name, size in (("activations (attention weights apart)", self.activations), ("logits", self.logits)):
            if size:
                parts.append(f"{name} about {_show(size)}")
        return ", ".join(parts)


def memory_estimate(
    num_parameters: int,
    training: TrainingConfig,
    tokens_per_microbatch: int,
    hidden_size: int,
    num_layers: int,
    vocab_size: int,
) -> MemoryEstimate:
    """Return what one process needs for a transformer; `tokens_per_microbatch` counts padding, too."""
    width = 1 if training.bf16 else 2  # an fp32 activation takes twice the bytes
    per_block = tokens_per_microbatch * hidden_size * width
    if training.gradient_checkpointing:  # the inputs of all blocks, and one block that is computed again
        activations = (_BLOCK_INPUT_BYTES * num_layers + _BLOCK_BYTES) * per_block
    else:
        activations = _BLOCK_BYTES * num_layers * per_block
    return MemoryEstimate(
        weights=_WEIGHT_BYTES * num_parameters,
        gradients=_WEIGHT_BYTES * num_parameters,
        optimizer=_optimizer_bytes(num_parameters, training, hidden_size, vocab_size),
        activations=activations,
        logits=tokens_per_microbatch * vocab_size * (2 + 4 if training.bf16 else 4 + 4),
    )


def _optimizer_bytes(num_parameters: int, training: TrainingConfig, hidden_size: int, vocab_size: int) -> int:
    state = _MOMENT_BYTES.get(training.optim, 0) * num_parameters
    if training.optim == "muon":  # the embedding is AdamW's, with a second moment
        return state + 4 * min(num_parameters, vocab_size * hidden_size)
    if training.optim == "adafactor":  # a number per row and column of each matrix
        return state + 2 * 4 * num_parameters // max(1, hidden_size)
    if training.optim == "sgd" and "momentum" in (training.optim_args or ""):
        return state + 4 * num_parameters
    return state


def refuse_if_too_big(estimate: MemoryEstimate, device_bytes: int, device_name: str) -> None:
    """Raise ConfigError with the parts of the estimate when what stays in memory alone exceeds the device."""
    if estimate.state <= device_bytes:
        return
    raise ConfigError(
        f"the model does not fit: weights, gradients and optimizer state need {_show(estimate.state)}, {device_name} "
        f"has {_show(device_bytes)} ({estimate.describe()}); make the model smaller, or choose an optim with less "
        "state (adamw 8, muon 4, sgd and adafactor about 0 bytes a parameter). More devices do not help: each holds "
        "the whole model"
    )


def model_estimate(model: nn.Module, training: TrainingConfig, tokens_per_microbatch: int) -> MemoryEstimate:
    """Return what one process needs for a model: the largest table is its embedding, and blocks are in module lists."""
    tables = [module.weight.shape for module in model.modules() if isinstance(module, nn.Embedding)]
    vocab_size, hidden_size = max(tables, key=lambda shape: shape.numel(), default=(0, 1))
    num_layers = max((len(module) for module in model.modules() if isinstance(module, nn.ModuleList)), default=0)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return memory_estimate(num_parameters, training, tokens_per_microbatch, hidden_size, num_layers, vocab_size)


def refuse_model_too_big(
    model: nn.Module, training: TrainingConfig, device: torch.device, processes_on_cpu: int = 1
) -> None:
    """Raise ConfigError when a model and what belongs to it cannot be held, whatever the batch size.

    Call it before the model is moved to the device. Processes on a CPU share its memory.
    """
    estimate = model_estimate(model, training, 0)
    if device.type == "cuda":
        name = f"{device} ({torch.cuda.get_device_name(device)})"
    else:
        name = "this machine" if processes_on_cpu == 1 else f"each of {processes_on_cpu} processes on this machine"
    refuse_if_too_big(estimate, device_memory_bytes(device, processes_on_cpu), name)


def device_memory_bytes(device: torch.device, processes_on_cpu: int = 1) -> int:
    """Return what one process may fill: its GPU, or its share of the machine's or container's memory."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    whole = int(psutil.virtual_memory().total)
    limit = _container_bytes()
    return (whole if limit is None else min(whole, limit)) // processes_on_cpu


def _container_bytes() -> int | None:
    """Return the memory limit of the container (cgroup v2), None without one."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return None if text == "max" else int(text)
    except (OSError, ValueError):
        return None


def _show(num_bytes: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"


def keep_freed_memory() -> bool:
    """Let glibc keep the memory that tensors gave back, and say whether it does.

    It would return blocks of some megabytes to the system at once, and the next step would wait for the same pages to
    be handed out and zeroed again. Other C libraries are left alone, and so is who has set glibc's variables.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Before glibc 2.35 the first value is refused. Setting either ends glibc's own adapting, so the order matters.
    if not any(mallopt(_M_MMAP_THRESHOLD, size) for size in (_LARGEST_INT, _LARGEST_MMAP_THRESHOLD)):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT))
