"""GPT-2 with 124M parameters on the GPU at hand: batch size × length × compile × precision, by `hotlap bench`.

    python benchmarks/gpu_grid.py                # one GPU, about half an hour
    python benchmarks/gpu_grid.py --quick        # a corner of it, about six minutes
    python benchmarks/gpu_grid.py --tiny         # a small model, on a CPU as well: is the benchmark itself whole?

Checked: no step is quicker than the device's peak allows, the memory of the largest batch is what a line through the
smaller ones says, and what a run expects to need before its first step is what it then held.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from measuring import hardware, table, train, wide_tokenizer, write_config, write_results

BATCH: Final = "training.per_device_train_batch_size"
VOCABULARY: Final = 50_257
AXES: Final[Mapping[str, Mapping[str, str]]] = {
    "whole": {"--batch": "4,8,16,32", "--seq": "256,512,1024", "--precision": "fp32,bf16", "--compile": "off,on"},
    "quick": {"--batch": "8,16,32", "--seq": "1024", "--precision": "bf16", "--compile": "off,on"},
    "tiny": {"--batch": "2,4,8", "--seq": "64", "--precision": "fp32,bf16", "--compile": "off"},
}
MEMORY_AIM: Final = 0.2


def config_of(which: str, folder: Path) -> dict[str, Any]:
    """Return the config that is measured."""
    is_tiny = which == "tiny"
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2} if is_tiny else {}
    tokenizer = wide_tokenizer(folder, 1024 if is_tiny else VOCABULARY)
    return {
        "name": f"gpt2-{which}",
        "task": {"name": "language_model", "block_size": 64 if is_tiny else 1024, "max_eval_samples": 4},
        "tokenizer": {"name": "pretrained", "path": str(tokenizer)},
        "model": {"preset": "gpt2", **shape},
        "training": {"optim": "adamw_torch_fused", "learning_rate": 6e-4, BATCH.rpartition(".")[2]: 4},
    }


def bench(config: Path, project: Path, axes: Mapping[str, str], repeats: int) -> dict[str, Any]:
    """Run `hotlap bench` anew and return its answers; ends the benchmark with its words when it breaks."""
    command = [sys.executable, "-m", "hotlap", "bench", str(config), "-p", str(project), "--json", "--new"]
    command += [*(part for pair in axes.items() for part in pair), "--repeats", str(repeats)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {ended.returncode}:\n{ended.stdout}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def memory_checks(cells: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Predict each combination's largest batch by a line through its two smaller ones; return both peaks."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        rest = {key: value for key, value in cell["settings"].items() if key != BATCH}
        groups.setdefault(json.dumps(rest), []).append(cell)
    checks = []
    for rest, members in groups.items():
        ordered = sorted(members, key=lambda cell: cell["settings"][BATCH])[-3:]
        if len(ordered) < 3:
            continue
        (x, y), (u, v), (last, peak) = ((cell["settings"][BATCH], cell["peak_memory_bytes"]) for cell in ordered)
        checks.append(
            {"settings": json.loads(rest), "batch": last, "line": v + (v - y) / (u - x) * (last - u), "peak": peak}
        )
    return checks


def estimate(config: Path, project: Path, cell: Mapping[str, Any]) -> dict[str, Any]:
    """Train a few steps of a cell; return what the run expected to need and what it held, in bytes."""
    settings = [f"{key}={json.dumps(value)}" for key, value in cell["settings"].items()]
    run = train(config, project, [*settings, "training.max_steps=8", "training.save_model=false"])
    expected = run.environment["memory_estimate"]
    parts = ("weights", "gradients", "optimizer", "activations", "logits", "overhead")
    held = run.result["peak_memory_bytes"] - run.result.get("base_memory_bytes", 0)
    return {"settings": cell["settings"], "expected": sum(expected[part] for part in parts), "held": held}


def main() -> None:
    """Measure the grid, check it, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", dest="which", action="store_const", const="quick", default="whole")
    parser.add_argument("--tiny", dest="which", action="store_const", const="tiny")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_config(folder / "hotlap.yaml", config_of(options.which, folder))
        answers = bench(config, folder, AXES[options.which], options.repeats)
        cells = [cell for cell in answers["cells"] if cell["outcome"] == "measured"]
        checks = memory_checks(cells)
        largest = max(cells, key=lambda cell: cell["peak_memory_bytes"])
        expectation = estimate(config, folder, largest)
    rows = [_row(cell) for cell in answers["cells"]]
    header = [*(key.rpartition(".")[2] for key in answers["cells"][0]["settings"]), "ms/step", "tokens/s", "MFU", "GB"]
    facts = hardware(_machine(cells[0]))
    values = {"bench": answers, "memory_lines": checks, "memory_estimate": expectation}
    lines = [*table(header, rows), "", answers["headline"], "", *_sentences(cells, checks, expectation)]
    if options.which == "tiny":
        print("\n".join([*lines, "", "nothing is written: --tiny is a look"]))
        return
    write_results("gpu_grid", facts, values, lines)


def _row(cell: Mapping[str, Any]) -> list[str]:
    settings = [str(value) for value in cell["settings"].values()]
    if cell["outcome"] != "measured":
        return [*settings, cell["outcome"].replace("_", " "), "", "", ""]
    share = cell["peak_ratio"] if cell["peak_ratio"] is not None else cell["matmul_ratio"]
    return [
        *settings,
        f"{1e3 * cell['seconds_per_step']:.1f}",
        f"{cell['tokens_per_second']:,.0f}",
        "" if share is None else f"{share:.1%}",
        f"{cell['peak_memory_bytes'] / 1e9:.2f}",
    ]


def _machine(cell: Mapping[str, Any]) -> dict[str, Any]:
    from hotlap.core.processes import processor_name

    name = cell.get("device") or processor_name()
    return {"processor": processor_name(), "device": "cuda", "device_name": name, "threads": cell.get("threads")}


def _sentences(
    cells: list[Mapping[str, Any]], checks: list[dict[str, Any]], expectation: Mapping[str, Any]
) -> list[str]:
    """Return what the checks found."""
    peaks = [cell["peak_ratio"] for cell in cells if cell["peak_ratio"] is not None]
    misses = [abs(check["line"] / check["peak"] - 1) for check in checks]
    ratio = expectation["expected"] / expectation["held"]
    of_what = json.dumps(expectation["settings"])
    within = f"{sum(miss <= MEMORY_AIM for miss in misses)} of {len(misses)} lines within {MEMORY_AIM:.0%}"
    return [
        f"- MFU: {max(peaks):.1%} of the device's peak at most (none may pass 100 %)." if peaks else "- No known peak.",
        f"- Memory of the largest batch by a line through two smaller ones: {within}; largest miss {max(misses):.1%}."
        if misses
        else "- Too few batches fit for a memory line.",
        f"- Memory expected before the first step, by what was held: {ratio:.2f} for {of_what}.",
    ]


if __name__ == "__main__":
    main()
