"""bf16 on a CPU with numbers of rows made round (`models/few_sizes.py`), against the same training without.

    python benchmarks/round_batches.py               # two trainings, both ways, 5 repeats, about five minutes
    python benchmarks/round_batches.py --repeats 1

Each reading is 150 steps in a fresh process: their median, how many products had a shape that was not seen before, the
memory at the end and the mean loss of the last steps, which both ways share up to rounding. Trainings: `strings`, a GPT
of 0.46M parameters on string repetition, where every batch asks for another number of tokens; `words`, a word-latent
model on the same task, whose words are bucketed by length.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from measuring import Spread, hardware, in_fresh_process, in_turn, table, write_results

STEPS, UNCOUNTED = 150, 5
SIDES: Final = ("as they come", "round")
COMMON: Final[Mapping[str, Any]] = {
    "task": {"name": "string_repetition", "max_length_bytes": 48, "max_eval_samples": 4},
    "training": {"per_device_train_batch_size": 32, "learning_rate": 6e-4, "max_steps": 1000, "bf16": True},
}
TRAININGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "strings": {"model": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}},
    "words": {"model": {"name": "word_latent", "preset": "micro"}},
}


def measure(training: str, side: str) -> dict[str, Any]:
    """Train for some steps in this process; return their figures."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from hotlap.config.load import config_from_values
    from hotlap.models import chosen, documents, few_sizes
    from hotlap.train.build import build_parts
    from hotlap.train.distributed import join_world
    from hotlap.train.loop import StepTimer
    from hotlap.train.measure import measured_loop
    from hotlap.train.memory import keep_freed_memory, peak_memory_bytes

    if side == SIDES[0]:
        for module in (few_sizes, chosen, documents):
            module.wants_few_sizes = lambda _: False
    config = config_from_values({"name": "round", **COMMON, **TRAININGS[training]}, {})
    keep_freed_memory()
    products = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm)
    shapes: set[Any] = set()

    class Shapes(TorchDispatchMode):
        """Notes the shapes of matrix products."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.overloadpacket in products:
                shapes.add((func, *(tuple(each.shape) for each in args if isinstance(each, torch.Tensor))))
            return func(*args, **kwargs or {})

    with tempfile.TemporaryDirectory() as name:
        parts = build_parts(config, Path(name), Path(name), join_world(config.training))
        parts.source.start()
        try:
            steps, seconds, losses = measured_loop(parts, StepTimer()), [], []
            for number in range(STEPS):
                start = time.perf_counter()
                step = next(steps)
                if number >= UNCOUNTED:
                    seconds.append(time.perf_counter() - start)
                losses.append(float(step.loss))
            memory = peak_memory_bytes(parts.device)
            with Shapes():
                for _ in range(40):
                    next(steps)
        finally:
            parts.source.close()
    return {
        "step_seconds": statistics.median(seconds),
        "mean_step_seconds": statistics.mean(seconds),
        "peak_memory_bytes": memory,
        "shapes_in_40_steps": len(shapes),
        "loss": statistics.mean(losses[-20:]),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Measure both trainings both ways, in turn, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(*options.only)))
        return

    from hotlap.core.processes import processor_name

    readings: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for training in TRAININGS:
        readings[training] = {side: [] for side in SIDES}
        for _, side in in_turn(SIDES, options.repeats):
            found = in_fresh_process(__file__, "--only", training, side)
            readings[training][side].append(found)
            print(training, side, json.dumps(found), file=sys.stderr, flush=True)
    rows = [_row(training, side, found) for training, sides in readings.items() for side, found in sides.items()]
    header = ["training", "numbers of rows", "ms per step, mean", "median", "memory, MB", "shapes in 40 steps", "loss"]
    last = next(iter(readings["words"].values()))[0]
    facts = hardware({"processor": processor_name(), "device": "cpu", **{k: last[k] for k in ("threads", "torch")}})
    write_results("round_batches", facts, {"readings": readings}, [*table(header, rows), "", *_ratios(readings)])


def _row(training: str, side: str, found: list[dict[str, Any]]) -> list[str]:
    def spread(name: str, scale: float) -> str:
        return Spread(tuple(scale * each[name] for each in found)).text()

    return [
        training,
        side,
        spread("mean_step_seconds", 1e3),
        spread("step_seconds", 1e3),
        spread("peak_memory_bytes", 1e-6),
        f"{found[0]['shapes_in_40_steps']:,}",
        f"{found[0]['loss']:.4f}",
    ]


def _ratios(readings: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> list[str]:
    """Return how much less time and memory the round numbers take, by medians."""
    lines = []
    for training, sides in readings.items():
        before, after = (sides[side] for side in SIDES)
        ratios = {
            name: statistics.median(each[name] for each in before) / statistics.median(each[name] for each in after)
            for name in ("mean_step_seconds", "peak_memory_bytes")
        }
        lines.append(
            f"{training}: {ratios['mean_step_seconds']:.2f} times as quick, with {1 / ratios['peak_memory_bytes']:.2f} "
            "times the memory."
        )
    return lines


if __name__ == "__main__":
    main()
