"""Causal attention on a CPU, forward and backward: hotlap's blocks of queries against torch's own.

    python benchmarks/attention.py            # 20 repeats after 3 that do not count, about two minutes

Rows of 16 with 6 heads of 64 dimensions, as in a GPT of 10M parameters, at each length and precision; both sides in
one process, in turn.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from measuring import Spread, hardware, in_turn, table, write_results

ROWS, HEADS, SIZE = 16, 6, 64
LENGTHS = (32, 64, 128, 256, 512, 1024)
UNCOUNTED = 3


def measure(length: int, precision: str, repeats: int) -> dict[str, list[float]]:
    """Return seconds of one forward and backward pass of each side."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from hotlap.models.attention import causal_attention

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    combined = torch.randn(ROWS, length, 3, HEADS, SIZE, dtype=dtype, requires_grad=True)
    gradient = torch.randn(ROWS, HEADS, length, SIZE, dtype=dtype)
    sides: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "hotlap": causal_attention,
        "torch": lambda query, key, value: F.scaled_dot_product_attention(query, key, value, is_causal=True),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for repeat, side in in_turn(tuple(sides), UNCOUNTED + repeats):
        query, key, value = (part.transpose(1, 2) for part in combined.unbind(2))
        start = time.perf_counter()
        torch.autograd.grad(sides[side](query, key, value), combined, gradient)
        if repeat >= UNCOUNTED:
            seconds[side].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure every length and precision, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats

    import torch

    from hotlap.core.processes import processor_name, usable_cores
    from hotlap.train.memory import keep_freed_memory

    torch.set_num_threads(usable_cores())
    keep_freed_memory()
    readings: dict[str, Any] = {}
    rows = []
    for precision in ("fp32", "bf16"):
        for length in LENGTHS:
            seconds = readings[f"{precision} {length}"] = measure(length, precision, repeats)
            own, other = (Spread(tuple(1e3 * value for value in seconds[side])) for side in ("hotlap", "torch"))
            rows.append([precision, f"{length:,}", own.text(), other.text(), f"{other.median / own.median:.2f}"])
            print(*rows[-1], flush=True)
    known = {"processor": processor_name(), "device": "cpu", "threads": torch.get_num_threads()}
    facts = hardware(known | {"torch": torch.__version__})
    header = ["precision", "length", "hotlap, ms: median (lowest to highest)", "torch, ms", "times torch's speed"]
    note = f"forward and backward, {ROWS} rows, {HEADS} heads of {SIZE}; at 1,024 in fp32 hotlap calls torch"
    write_results("attention", facts, {"seconds": readings}, [*table(header, rows), "", note])


if __name__ == "__main__":
    main()
