"""A table of batch sizes and lengths in fp32 and bf16, measured twice by `hotlap bench`: is it the same table again?

    python benchmarks/speed_grid.py               # both models, twice, about forty minutes on two cores
    python benchmarks/speed_grid.py --quick       # a small corner of each, about eight minutes
    python benchmarks/speed_grid.py --models big  # one of them

Models: `small`, 0.46M parameters on string repetition; `big`, 10.6M on text. Held against each other: do the cells of
both tables agree within the spread that they state, is what the first suggests within 5 % of the best that was measured
in either, and how far are predictions off when a third of the cells is left out (aim: a median of 10 % at most).
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from measuring import hardware, table, write_config, write_results

NEAR_BEST, MOST_ERROR = 0.95, 0.10
TRAINING: Final[Mapping[str, Any]] = {
    "optim": "adamw_torch_fused",
    "learning_rate": 6e-4,
    "lr_scheduler_type": "constant",
    "max_steps": 100_000,
}
MODELS: Final[Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]]]] = {
    "small": (
        {
            "name": "small",
            "task": {"name": "string_repetition", "max_length_bytes": 48, "max_eval_samples": 4},
            "model": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
            "training": TRAINING,
        },
        {"--batch": "8,16,32,64", "--seq": "24,48,96", "--precision": "fp32,bf16"},
    ),
    "big": (
        {
            "name": "big",
            "task": {"name": "language_model", "block_size": 256, "max_eval_samples": 4},
            "model": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6},
            "training": TRAINING,
        },
        {"--batch": "1,2,4,8", "--seq": "128,256,512", "--precision": "fp32,bf16"},
    ),
}
QUICK: Final[Mapping[str, Mapping[str, str]]] = {
    "small": {"--batch": "8,32", "--seq": "24,48", "--precision": "fp32,bf16"},
    "big": {"--batch": "1,4", "--seq": "128,256", "--precision": "fp32,bf16"},
}


def bench(config: Path, project: Path, axes: Mapping[str, str], repeats: int, seed: int) -> dict[str, Any]:
    """Run `hotlap bench` anew and return its answers; ends the benchmark with its words when it breaks."""
    options = [part for pair in axes.items() for part in pair]
    command = [sys.executable, "-m", "hotlap", "bench", str(config), "-p", str(project), "--json", "--new", *options]
    command += ["--repeats", str(repeats), "--seed", str(seed)]
    start = time.perf_counter()
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {ended.returncode}:\n{ended.stdout}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return {**found, "bench_seconds": time.perf_counter() - start}


def measured(answers: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the measured cells by their settings."""
    cells = (cell for cell in answers["cells"] if cell["outcome"] == "measured")
    return {json.dumps(cell["settings"], sort_keys=True): cell for cell in cells}


def agreement(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return by how much the cells of two tables differ, and how many by no more than both state together.

    A cell states the 95 % interval of its step time; chance alone puts one in twenty outside.
    """
    ones, others = measured(first), measured(second)
    both = [name for name in ones if name in others]
    apart = {name: others[name]["seconds_per_step"] / ones[name]["seconds_per_step"] - 1 for name in both}
    stated = {name: math.hypot(ones[name]["uncertainty"], others[name]["uncertainty"]) for name in both}
    inside = sum(abs(apart[name]) <= stated[name] for name in both)
    sizes = sorted(map(abs, apart.values()))
    return {
        "num_cells": len(both),
        "num_inside": inside,
        "median_difference": sizes[len(sizes) // 2] if sizes else math.nan,
        "largest_difference": sizes[-1] if sizes else math.nan,
        "differences": apart,
        "stated": stated,
    }


def suggested(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the speed of what the first table suggests, relative to the best at its length, in either table."""
    suggestion = first["suggestion"]
    if suggestion is None:
        return {"settings": None, "share_of_best": math.nan}
    settings = next(cell["settings"] for cell in first["cells"] if cell["number"] == suggestion["cell"])
    fixed = {key: value for key, value in settings.items() if key.startswith("task.")}
    shares = []
    for answers in (first, second):
        cells = measured(answers)
        rivals = [cell for cell in cells.values() if fixed.items() <= cell["settings"].items()]
        own = cells[json.dumps(settings, sort_keys=True)]
        shares.append(own["tokens_per_second"] / max(cell["tokens_per_second"] for cell in rivals))
    return {"settings": settings, "share_of_best": min(shares)}


def report(name: str, both: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Return what two tables of a model say of each other, as figures and as Markdown."""
    first, second = both
    same, best = agreement(first, second), suggested(first, second)
    errors = [answers["left_out"]["median"] for answers in both]
    rows = []
    ones, others = measured(first), measured(second)
    for key, cell in ones.items():
        if key not in others:
            continue
        times = [1e3 * found["seconds_per_step"] for found in (cell, others[key])]
        values = [str(value) for value in cell["settings"].values()]
        memory = f"{(cell['peak_memory_bytes'] or 0) / 1e6:,.0f}"
        speed = f"{cell['tokens_per_second']:,.0f}"
        apart = f"{100 * same['differences'][key]:+.1f} %"
        rows.append(
            [*values, speed, f"{times[0]:.1f}", f"{times[1]:.1f}", apart, f"{100 * same['stated'][key]:.1f} %", memory]
        )
    names = [key.rpartition(".")[2] for key in first["cells"][0]["settings"]]
    header = [*names, "tokens/s", "ms/step", "again", "difference", "stated", "memory, MB"]
    minutes = sum(answers["bench_seconds"] for answers in both) / 60
    lines = [
        f"## {name}",
        "",
        *table(header, rows),
        "",
        f"- {same['num_inside']} of {same['num_cells']} cells agree within what they state (95 % each); they differ by "
        f"{same['median_difference']:.1%} in the middle and {same['largest_difference']:.1%} at most.",
        f"- Suggested: {json.dumps(best['settings'])}: {best['share_of_best']:.1%} of the best at that length "
        f"(aim: {NEAR_BEST:.0%}).",
        f"- A third left out is predicted with a median error of {errors[0]:.1%} and {errors[1]:.1%} "
        f"(aim: {MOST_ERROR:.0%} at most).",
        f"- Both tables took {minutes:.0f} minutes.",
        "",
    ]
    return {"agreement": same, "suggestion": best, "left_out": errors, "benches": list(both)}, lines


def main() -> None:
    """Measure the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=2, help="of each cell in each table")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()

    from hotlap.core.processes import processor_name, usable_cores

    values: dict[str, Any] = {}
    body: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            config, axes = MODELS[name]
            path = write_config(Path(folder) / f"{name}.yaml", config)
            wanted = QUICK[name] if options.quick else axes
            both = [bench(path, Path(folder), wanted, options.repeats, seed) for seed in (0, 1)]
            values[name], lines = report(name, both)
            body += lines
            print("\n".join(lines), flush=True)
    facts = hardware({"processor": processor_name(), "device": "cpu", "threads": usable_cores()})
    if options.quick:
        print("nothing is written: --quick is a look")
        return
    write_results("speed_grid", facts, values, body)


if __name__ == "__main__":
    main()
