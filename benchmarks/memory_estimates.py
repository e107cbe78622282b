"""The memory that a training is expected to need, against what its process held: both as its run folder tells them.

    python benchmarks/memory_estimates.py             # nine configs, one run each, about five minutes on two cores
    python benchmarks/memory_estimates.py --cases short long --steps 6

Expected is `memory_estimate` of environment.json, known before the first step; measured is the peak of result.json over
what the process held before the model was built. A ratio between 0.8 and 1.2 is the aim for every config.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from measuring import FinishedRun, hardware, table, train, wide_tokenizer, write_config, write_results

PARTS: Final = ("weights", "gradients", "optimizer", "activations", "logits", "overhead")
LOW, HIGH = 0.8, 1.2
SMALL: Final[Mapping[str, Any]] = {
    "task": {"name": "string_repetition", "max_length_bytes": 48, "max_eval_samples": 4},
    "model": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256},
}
BIG: Final[Mapping[str, Any]] = {
    "task": {"name": "language_model", "block_size": 256, "max_eval_samples": 4},
    "model": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "max_position_embeddings": 1024},
}
MODERN: Final = tuple(
    f"model.{setting}" for setting in ("norm=rms_norm", "qk_norm=true", "positions=rope", "hidden_act=relu_squared")
)
VOCABULARY: Final = 16_384


def _batch(rows: int, length: int) -> tuple[str, str]:
    return f"training.per_device_train_batch_size={rows}", f"task.block_size={length}"


CASES: Final[Mapping[str, tuple[str, Mapping[str, Any], tuple[str, ...]]]] = {
    "small": ("0.46M, 32 strings, fp32", SMALL, ("training.per_device_train_batch_size=32",)),
    "short": ("10.6M, 16 x 256, bf16", BIG, (*_batch(16, 256), "training.bf16=true")),
    "full": ("10.6M, 8 x 256, fp32", BIG, _batch(8, 256)),
    "long": ("10.6M, 4 x 1024, fp32", BIG, _batch(4, 1024)),
    "long_bf16": ("10.6M, 4 x 1024, bf16", BIG, (*_batch(4, 1024), "training.bf16=true")),
    "few": ("10.6M, 1 x 256, fp32", BIG, _batch(1, 256)),
    "checkpointing": (
        "10.6M, 16 x 512, bf16, gradient checkpointing",
        BIG,
        (*_batch(16, 512), "training.bf16=true", "training.gradient_checkpointing=true"),
    ),
    "vocabulary": (f"16.8M, 8 x 256, bf16, {VOCABULARY:,} tokens", BIG, (*_batch(8, 256), "training.bf16=true")),
    "modern": (
        "10.6M, 16 x 256, bf16, RMSNorm, RoPE, Muon",
        BIG,
        (*_batch(16, 256), "training.bf16=true", "training.optim=muon", *MODERN),
    ),
}


def measure(name: str, folder: Path, steps: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Train one case for a few steps; return both sides in bytes, and the run's environment."""
    _, base, settings = CASES[name]
    training = {"max_steps": steps, "learning_rate": 6e-4, "save_model": False, "logging_steps": 1}
    config = {"name": "memory", **base, "training": training, "budget": {"run": "10m"}}
    if name == "vocabulary":
        config["tokenizer"] = {"name": "pretrained", "path": str(wide_tokenizer(folder, VOCABULARY))}
    run = train(write_config(folder / f"{name}.yaml", config), folder, settings)
    return _sides(run), run.environment


def _sides(run: FinishedRun) -> dict[str, Any]:
    expected = run.environment["memory_estimate"]
    held = run.result["peak_memory_bytes"] - run.result["base_memory_bytes"]
    total = sum(expected[part] for part in PARTS)
    return {"expected": expected, "expected_bytes": total, "measured_bytes": held, "ratio": total / held}


def main() -> None:
    """Measure the cases and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    readings: dict[str, dict[str, Any]] = {}
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for case in options.cases:
            readings[case], environment = measure(case, Path(name), options.steps)
            facts = facts or hardware(environment)
            print(case, json.dumps(readings[case]), flush=True)
    rows = [_row(case, readings[case]) for case in readings]
    header = ["training", *PARTS, "expected", "measured", "expected / measured"]
    inside = sum(LOW <= reading["ratio"] <= HIGH for reading in readings.values())
    note = f"Sizes in MB; {options.steps} steps each; {inside} of {len(readings)} estimates within 20 % of the peak."
    write_results("memory_estimates", facts, {"readings": readings}, [*table(header, rows), "", note])


def _row(case: str, reading: Mapping[str, Any]) -> list[str]:
    sizes = [*(reading["expected"][part] for part in PARTS), reading["expected_bytes"], reading["measured_bytes"]]
    return [CASES[case][0], *(f"{size / 1e6:,.0f}" for size in sizes), f"{reading['ratio']:.2f}"]


if __name__ == "__main__":
    main()
