"""Optimizers by name, with parameters grouped by their role in the model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from hotlap.config.schema import TrainingConfig
from hotlap.core.schedules import learning_rate_factor
from hotlap.optim.muon import Muon


@dataclass(slots=True)
class Optimizers:
    """One or two optimizers that step together under one schedule."""

    members: list[Optimizer]
    config: TrainingConfig

    def __post_init__(self) -> None:
        for member in self.members:
            for group in member.param_groups:
                group["peak_lr"] = group["lr"]

    def set_learning_rate(self, step: int) -> float:
        """Set the learning rates for update `step` (from 0); return AdamW's."""
        training = self.config
        factor = learning_rate_factor(
            training.lr_scheduler_type,
            step,
            training.num_warmup_steps,
            training.max_steps,
            training.lr_scheduler_kwargs,
        )
        for member in self.members:
            for group in member.param_groups:
                group["lr"] = group["peak_lr"] * factor
        return training.learning_rate * factor

    def step(self) -> None:
        """Update the weights."""
        for member in self.members:
            member.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for member in self.members:
            member.zero_grad(set_to_none=True)


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Say whether a parameter is a matrix inside a block (not an embedding, head, bias or norm)."""
    return parameter.ndim == 2 and name.startswith("blocks.")


def build_optimizers(model: nn.Module, training: TrainingConfig, *, bf16_is_fast: bool) -> Optimizers:
    """Build the optimizer that `training.optim` names.

    Weight decay goes to matrices and embeddings, never to biases and norms, as in the Trainer.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    members: list[Optimizer] = []
    if training.optim == "muon":
        matrices = [p for name, p in named if is_hidden_matrix(name, p)]
        for name, parameter in named:
            if name.endswith("qkv.weight"):
                parameter.muon_blocks = 3  # type: ignore[attr-defined]
        dtype = torch.bfloat16 if bf16_is_fast else torch.float32
        members.append(
            Muon(matrices, training.muon_learning_rate, training.muon_momentum, training.weight_decay, dtype)
        )
        named = [(name, p) for name, p in named if not is_hidden_matrix(name, p)]
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    members.append(
        AdamW(
            [group for group in groups if group["params"]],
            lr=training.learning_rate,
            betas=(training.adam_beta1, training.adam_beta2),
            eps=training.adam_epsilon,
            fused=training.optim != "adamw_torch",
        )
    )
    return Optimizers(members, training)
