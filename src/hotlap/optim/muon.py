"""Muon: momentum whose updates of hidden matrices are made orthogonal by a Newton-Schulz iteration.

Keller Jordan et al., 2024 (https://kellerjordan.github.io/posts/muon/). Matrices of one shape are stacked, so that
one iteration serves them all. The same steps as torch.optim.Muon's with `adjust_lr_fn="original"`, which takes the
parameters one by one and always iterates in bfloat16; ours takes the type that is faster on the machine, treats
queries, keys and values apart, and has no weight decay unless it is asked for.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalise(stack: Tensor, dtype: torch.dtype) -> Tensor:
    """Return matrices of shape (S, rows, columns) with singular values near 1 and the same singular vectors."""
    a, b, c = _COEFFICIENTS
    x = stack.to(dtype)
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return (x.mT if is_tall else x).to(stack.dtype)


class Muon(Optimizer):
    """Nesterov momentum, then orthogonalisation, then a step of lr · sqrt(max(1, rows / columns)).

    A parameter with an attribute `muon_blocks = n` holds n matrices one above the other (queries, keys, values) that
    are orthogonalised apart; rows and columns are then those of one of them.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            by_shape: dict[tuple[torch.Size, torch.dtype], list[tuple[Tensor, Tensor]]] = {}
            for parameter, update in zip(parameters, self._updates(parameters, group["momentum"]), strict=True):
                blocks = getattr(parameter, "muon_blocks", 1)
                for weight, part in zip(parameter.chunk(blocks), update.chunk(blocks), strict=True):
                    by_shape.setdefault((weight.shape, weight.dtype), []).append((weight, part))
            for ((rows, columns), _), pairs in by_shape.items():
                updates = orthogonalise(torch.stack([part for _, part in pairs]), self._dtype).unbind(0)
                weights = [weight for weight, _ in pairs]
                if group["weight_decay"]:
                    torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, list(updates), alpha=-group["lr"] * max(1, rows / columns) ** 0.5)

    def _updates(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """Take the gradients into the momentum and return the updates before they are made orthogonal."""
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers: list[Tensor] = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        return list(torch._foreach_lerp(grads, buffers, momentum))
