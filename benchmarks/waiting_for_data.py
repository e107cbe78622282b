"""How much of a step is spent on getting its batch: from memory-mapped tokens, and from a text that is still prepared.

    python benchmarks/waiting_for_data.py            # 3 repeats, about 5 minutes on 2 cores

Each run is `hotlap train` in a fresh project, so that the streaming one starts with nothing prepared; on a CPU both
share its cores. What counts is the clock of the steps: waiting for text that is not prepared, and making the batch.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from measuring import Spread, hardware, hardware_line, in_turn, table, train, write_config, write_results
from preparation import write_text

SIDES = ("memory-mapped", "streaming")
CONFIG: dict[str, Any] = {
    "task": {"name": "language_model", "document_separator": "\n", "block_size": 256},
    "model": {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 256},
    "training": {"per_device_train_batch_size": 16, "learning_rate": 1e-3, "eval_strategy": "no", "save_model": False},
}


def measure(folder: Path, text: Path, side: str, tokenizer: str, steps: int) -> dict[str, float]:
    """Run one training; return its seconds by part, in percent of all steps, and the environment."""
    task = CONFIG["task"] | {"text": str(text), "streaming": side == "streaming"}
    options = {"name": "bpe", "vocab_size": 2048} if tokenizer == "bpe" else {"name": tokenizer}
    training = CONFIG["training"] | {"max_steps": steps}
    values = CONFIG | {"task": task, "tokenizer": options, "training": training, "budget": {"run": "10m"}}
    folder.mkdir()
    run = train(write_config(folder / "hotlap.yaml", values), folder)
    seconds = run.result["seconds"]
    found = {part: 100 * seconds[part] / seconds["steps"] for part in ("waiting", "data")}
    return found | {"step_ms": 1e3 * seconds["steps"] / run.result["step"], "environment": run.environment}


def main() -> None:
    """Measure both paths with bytes and with byte pairs, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    readings: dict[str, list[dict[str, float]]] = {}
    environment: Any = {}
    with tempfile.TemporaryDirectory() as name:
        text = Path(name) / "text.txt"
        write_text(text, options.megabytes * 1_000_000)
        for tokenizer in ("byte", "bpe"):
            for repeat, side in in_turn(SIDES, options.repeats):
                folder = Path(name) / f"{tokenizer}-{side}-{repeat}"
                found = measure(folder, text, side, tokenizer, options.steps)
                environment = found.pop("environment")
                readings.setdefault(f"{tokenizer}, {side}", []).append(found)
                print(repeat, tokenizer, side, found, flush=True)
    rows = []
    for side, found in readings.items():
        whole = Spread(tuple(one["waiting"] + one["data"] for one in found))
        waiting, data = (Spread(tuple(one[part] for one in found)) for part in ("waiting", "data"))
        step = Spread(tuple(one["step_ms"] for one in found))
        rows.append([side, f"{step.median:.1f}", waiting.text(2), data.text(2), whole.text(2)])
    facts = hardware(environment)
    print(hardware_line(facts))
    header = ["path", "step, ms", "waiting for text, % of a step", "making the batch, %", "together, %"]
    note = f"{options.megabytes} MB of text, {options.steps} steps of 16 rows of 256; median (lowest to highest)"
    note += f"; load average of the machine {os.getloadavg()[1]:.1f}"
    write_results("waiting_for_data", facts, {"readings": readings}, [*table(header, rows), "", note])


if __name__ == "__main__":
    main()
