"""Bits per byte after the same seconds of training: hotlap's recommended recipe against two that people start from.

    python benchmarks/time_to_quality.py                      # 60 s, 3 seeds, 3 recipes: about 12 minutes
    python benchmarks/time_to_quality.py --seconds 20 --seeds 1

Byte-level language modelling of the source of Python's standard library, a transformer 4 layers deep and 128 wide. The
recipes stand in `benchmarks/recipes/`; all three are trained by hotlap, so this compares recipes and not loops, and
all decay their learning rate over exactly the given seconds of the training clock, so that none suffers from a wrong
guess of its number of steps. Seeds in turn, one process at a time. Evaluated once, at the end, on text that no recipe
has seen.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from measuring import FinishedRun, Spread, hardware, in_turn, table, train, write_results

RECIPES = Path(__file__).parent / "recipes"
NAMES = ("hotlap", "nanogpt_like", "trainer_like")


def settings_for(name: str, seconds: float, seed: int, *, bf16: bool) -> list[str]:
    """Return the overrides of one run; bf16 is part of hotlap's recipe where the hardware has it."""
    settings = [f"budget.run={seconds}", f"training.seed={seed}", "training.logging_steps=50"]
    return [*settings, f"training.bf16={str(bf16).lower()}"] if name == "hotlap" else settings


def has_bf16() -> bool:
    """Say whether bfloat16 is multiplied in hardware here."""
    import torch

    from hotlap.train.parts import bf16_is_fast

    return bf16_is_fast(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def reading(run: FinishedRun) -> dict[str, Any]:
    """Return what counts of one run."""
    result = run.result
    found = {name: result[name] for name in ("step", "tokens", "train_seconds", "wall_seconds")}
    return {**found, "bits_per_byte": result["metrics"]["bits_per_byte"]}


def report(readings: dict[str, list[dict[str, Any]]], seconds: float) -> list[str]:
    """Return the table and the differences to hotlap's recipe."""
    bits = {name: Spread(tuple(found["bits_per_byte"] for found in runs)) for name, runs in readings.items()}
    first = next(iter(bits))
    rows = []
    for name, runs in readings.items():
        steps = Spread(tuple(float(found["step"]) for found in runs))
        tokens = Spread(tuple(found["tokens"] / found["train_seconds"] for found in runs))
        behind = bits[name].median - bits[first].median
        rows.append([name, bits[name].text(4), f"{behind:+.3f}", f"{steps.median:,.0f}", f"{tokens.median:,.0f}"])
    header = ["recipe", "bits per byte: median (lowest to highest)", f"against {first}", "steps", "tokens/s"]
    seeds = len(readings[first])
    return [*table(header, rows), "", f"{seconds:g} s of training clock, {seeds} seed(s) each; lower is better"]


def main() -> None:
    """Train the recipes in turn and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(NAMES), help="names of files in benchmarks/recipes")
    parser.add_argument("--seconds", type=float, default=60.0, help="training clock of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe")
    parser.add_argument("--first-seed", type=int, default=1)
    arguments = parser.parse_args()
    readings: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.recipes}
    environment: dict[str, Any] = {}
    bf16 = has_bf16()
    with tempfile.TemporaryDirectory() as folder:
        for repeat, name in in_turn(arguments.recipes, arguments.seeds):
            seed = arguments.first_seed + repeat
            settings = settings_for(name, arguments.seconds, seed, bf16=bf16)
            run = train(RECIPES / f"{name}.yaml", Path(folder), settings)
            environment = dict(run.environment)
            readings[name].append({"seed": seed, **reading(run)})
            print(f"{name:<13} seed {seed}: {readings[name][-1]['bits_per_byte']:.3f} bits per byte", flush=True)
    values = {"seconds": arguments.seconds, "runs": readings}
    write_results("time_to_quality", hardware(environment), values, report(readings, arguments.seconds))


if __name__ == "__main__":
    main()
