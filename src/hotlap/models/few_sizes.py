"""Numbers of rows made round, where each new shape of a matrix product costs time and memory.

For bf16 on a CPU oneDNN makes code for every shape and keeps it: a fraction of a millisecond and a megabyte for each.
With another number of targets in each step, a dozen products were new in each, and a process grew to three times its
size. Rounded up by a sixteenth, small ones to a multiple of 8, a few shapes come again and again.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

UNIT: Final = 8
"""Numbers of rows that a matrix product takes together are rounded to a multiple of it at least."""
_BITS: Final = 5  # a number of more bits is rounded up by a sixteenth at most


def wants_few_sizes(x: Tensor) -> bool:
    """Say whether shapes are to be rounded for computing on the device of x as things stand."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()


def rounded(count: int, unit: int = UNIT) -> int:
    """Return the number from `count` on that is a multiple of `unit` and has few digits in binary."""
    step = max(unit, 1 << max(0, count.bit_length() - _BITS))
    return count + -count % step


def filled(x: Tensor, unit: int = UNIT) -> Tensor:
    """Return x (N, …) with zeros behind it where N is to be rounded, else x itself.

    Indices (N,) are filled with places 0: what comes of them is for the caller to cut off.
    """
    missing = rounded(len(x), unit) - len(x) if wants_few_sizes(x) else 0
    return F.pad(x, (*[0] * (2 * x.ndim - 1), missing)) if missing else x
