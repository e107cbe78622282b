"""What policies read about gradients and updates: norms, the relative size of a step, the noise of the gradient.

Nothing here waits for the device before its `result` is asked for.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from hotlap.optim.build import Optimizers

_EPSILON = 1e-6  # as in torch, whose factor is max_norm / (norm + 1e-6) where that is below 1


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the 2-norm over all gradients together, a scalar on their device; 0 where there are none."""
    return get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])


def clip_gradients(parameters: Sequence[Tensor], norm: Tensor, max_norm: float) -> None:
    """Scale the gradients in place so that their norm, which is `norm` now, is at most `max_norm`."""
    if norm.device.type == "cpu" and (max_norm / (norm + _EPSILON)).item() >= 1:
        return  # the factor is 1; a GPU multiplies by it, since finding that out would mean waiting for it
    clip_grads_with_norm_(parameters, max_norm, norm)


@final
class UpdateNorm:
    """How far one step moves the weights of each role: RMS of the change over RMS of the weights after it.

    Built right before the step and asked right after it; holds a copy of the weights in between.
    """

    def __init__(self, optimizers: Optimizers) -> None:
        self._parameters = optimizers.parameters
        self._before = {
            role: [parameter.detach().clone() for parameter in parameters]
            for role, parameters in self._parameters.items()
        }

    @torch.no_grad()
    def result(self) -> dict[str, float]:
        """Return the ratios as `update_norm_<role>`; a later call measures up to that moment."""
        found: dict[str, float] = {}
        for role, before in self._before.items():
            after: list[Tensor] = list(self._parameters[role])
            change = get_total_norm(torch._foreach_sub(after, before)).item()
            size = get_total_norm(after).item()
            found[f"update_norm_{role}"] = change / size if size else math.nan
        return found


@final
class NoiseScale:
    """The batch size at which gradient noise and gradient are equally large: tr(Σ) / |G|².

    McCandlish et al. 2018 (arXiv 1812.06162), appendix A.1: the squared norms of the gradients of a small and of a big
    batch give unbiased estimates of both; their moving averages are divided. Far below it a bigger batch saves steps,
    far above it a smaller one saves time. Here the small batch is a step's first micro-batch on this device and the
    big one the whole step, so a step of a single micro-batch tells nothing.
    """

    def __init__(self, world_size: int = 1, decay: float = 0.99) -> None:
        self._world_size = world_size
        self._decay = decay
        self._num_seen = 0
        self._small: Tensor | None = None
        self._noise: Tensor | float = 0.0
        self._signal: Tensor | float = 0.0

    def add_micro_batch(self, parameters: Sequence[nn.Parameter], count: int, size: float | None = None) -> None:
        """Look at the gradients after one of a step's `count` micro-batches has been added to them.

        The gradients are those of the mean over the whole step, shared between the devices with the last micro-batch.
        `size` is that of the whole step, in the unit that the result shall have (tokens, examples); absent: micro-
        batches.
        """
        self._num_seen += 1
        if self._num_seen == 1 and count > 1:
            self._small = (gradient_norm(parameters) * count).square()  # of the micro-batch's own mean
        if self._num_seen < count:
            return
        if self._small is not None:
            num_parts = count * self._world_size
            big = float(num_parts) if size is None else size
            self._add(self._small, gradient_norm(parameters).square(), big / num_parts, big)
        self._num_seen, self._small = 0, None

    def _add(self, small_square: Tensor, big_square: Tensor, small: float, big: float) -> None:
        """Take the squared gradient norms of a small and a big batch into the averages."""
        signal = (big * big_square - small * small_square) / (big - small)
        noise = (small_square - big_square) / (1 / small - 1 / big)
        # Both averages start at 0, which their ratio does not show.
        self._signal = self._decay * self._signal + (1 - self._decay) * signal
        self._noise = self._decay * self._noise + (1 - self._decay) * noise

    def state_dict(self) -> dict[str, float]:
        """Return the averages between two steps."""
        return {"signal": float(self._signal), "noise": float(self._noise)}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from averages that `state_dict` gave."""
        self._signal, self._noise = torch.tensor(state["signal"]), torch.tensor(state["noise"])

    def result(self) -> dict[str, float]:
        """Return `gradient_noise_scale` in the unit of `size`; nothing while the averages make no sense."""
        signal, noise = float(self._signal), float(self._noise)
        return {"gradient_noise_scale": noise / signal} if signal > 0 and noise >= 0 else {}
