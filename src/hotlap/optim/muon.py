"""Muon: momentum whose updates of hidden matrices are made orthogonal by a Newton-Schulz iteration.

Keller Jordan et al., 2024 (https://kellerjordan.github.io/posts/muon/). Matrices of one shape are stacked, so that
one iteration serves them all.
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
    are orthogonalised apart.
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
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._momentum_update(parameter, group["momentum"])
                blocks = getattr(parameter, "muon_blocks", 1)
                for weight, part in zip(parameter.chunk(blocks), update.chunk(blocks), strict=True):
                    by_shape.setdefault(weight.shape, []).append((weight, part))
            for (rows, columns), pairs in by_shape.items():
                updates = orthogonalise(torch.stack([part for _, part in pairs]), self._dtype).unbind(0)
                weights = [weight for weight, _ in pairs]
                if group["weight_decay"]:
                    torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, list(updates), alpha=-group["lr"] * max(1, rows / columns) ** 0.5)

    def _momentum_update(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(parameter.grad, 1 - momentum)  # type: ignore[arg-type]
        return parameter.grad.lerp(buffer, momentum)  # type: ignore[union-attr]
