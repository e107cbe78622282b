"""Bottlenecks put into a training on purpose: do `hotlap profile`, `hotlap bench` and `hotlap bench data` name each?

    python benchmarks/planted_bottlenecks.py            # about 3 minutes on 2 cores

Each case is one config in a fresh process: nothing planted, a slow loader, a sleep in the optimizer, tiny kernels, and
a single data worker where four would do. Ends with exit code 1 when one is not named.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import hardware, hardware_line, table, write_config, write_results

from hotlap.bench.verdict import BOUND_NAMES

PLANTED = '''
"""What the benchmark plants: a generator that is slow to give, and an optimizer that sleeps."""
import random
import time

import torch


def slow_samples(seed, pause=0.002):
    draw = random.Random(seed)
    while True:
        time.sleep(pause)  # as a file system or a network would
        word = "".join(draw.choices("abcdefgh", k=12))
        yield f"{word} = ", word


class Sleepy(torch.optim.AdamW):
    def step(self, closure=None):
        time.sleep(0.1)
        return super().step(closure)


def sleepy(named_parameters, training):
    return Sleepy([parameter for _, parameter in named_parameters], lr=training.learning_rate)
'''
BASE: dict[str, Any] = {
    "task": {"name": "string_repetition", "max_length_bytes": 48},
    "model": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "training": {"per_device_train_batch_size": 32, "learning_rate": 1e-3, "max_steps": 1000},
}
SLOW = {"name": "generator", "function": "planted:slow_samples", "max_eval_samples": 4}
LIGHT = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64}


@dataclass(frozen=True, slots=True)
class Case:
    """One config, and what has to be said of it."""

    name: str
    changes: dict[str, dict[str, Any]]
    bounds: tuple[str, ...]
    """Of which the command has to name one."""
    words: str
    """That stand in what it says first, or in its evidence."""
    command: str = "profile"

    def config(self) -> dict[str, Any]:
        """Return the whole config; a task is replaced, the other sections are changed."""
        sections = {name: BASE[name] | self.changes.get(name, {}) for name in ("model", "training")}
        return {
            "name": "-".join(re.findall(r"\w+", self.name)),
            **sections,
            "task": self.changes.get("task", BASE["task"]),
        }


ONE_WORKER = {"task": SLOW, "model": LIGHT, "training": {"dataloader_num_workers": 1}}
SLOW_LOADER = {"task": SLOW, "model": LIGHT}
SLEEPY = {"model": LIGHT | {"max_position_embeddings": 128}, "training": {"optim": "planted:sleepy"}}
TINY = {
    "model": {"hidden_size": 16, "num_hidden_layers": 8, "num_attention_heads": 2},
    "training": {"per_device_train_batch_size": 1},
}
CASES = (
    Case("nothing planted", {}, ("compute", "memory bandwidth"), "work in operators"),
    Case("slow loader", SLOW_LOADER, ("data",), "making its batch"),
    Case("sleep in the optimizer", SLEEPY, ("host",), "in the optimizer"),
    Case("tiny kernels", TINY, ("launch overhead",), "starting tiny operators"),
    Case("single data worker", ONE_WORKER, ("data",), "1 data worker"),
    Case("nothing planted", {}, ("compute", "memory bandwidth"), "bound by", "bench"),
    Case("slow loader", SLOW_LOADER, ("data",), "making batches in the training process", "bench"),
    Case("sleep in the optimizer", SLEEPY, ("the optimizer's update",), "the optimizer's update takes", "bench"),
    Case("tiny kernels", TINY, ("launch overhead",), "starting", "bench"),
    Case("single data worker", ONE_WORKER, ("data",), "waiting for 1 data worker", "bench"),
    Case("single data worker", ONE_WORKER, ("data",), "use 4 workers", "bench data"),
    Case("nothing planted", {}, ("none",), "faster than training needs", "bench data"),
)
MORE_WORDS = {"bench data": ["--workers", "1,2,4", "--seconds", "0.5"], "bench": ["--repeats", "1", "--batch"]}


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Run a case in a project of its own; return what the command says as a document."""
    folder.mkdir()
    (folder / "planted.py").write_text(PLANTED, encoding="utf-8")
    config = write_config(folder / "hotlap.yaml", case.config())
    words = [*case.command.split(), str(config), "-p", str(folder), "--json"]
    words += MORE_WORDS.get(case.command, [])
    words += [str(case.config()["training"]["per_device_train_batch_size"])] if case.command == "bench" else []
    ended = subprocess.run([sys.executable, "-m", "hotlap", *words], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"hotlap {' '.join(words)} failed:\n{ended.stdout}{ended.stderr}")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def verdict(case: Case, found: dict[str, Any]) -> tuple[str, str]:
    """Return the bound that was named, and the first sentence about it."""
    if case.command == "bench":
        first = found["verdicts"][0]
        said = "; ".join([first["text"], *(text for text in first["evidence"] if case.words in text), first["advice"]])
        return BOUND_NAMES[first["bound"]], said
    reading = found["reading"]
    if case.command == "bench data":
        return "data" if reading["is_bottleneck"] else "none", f"{reading['text']}: {reading['advice']}"
    first = reading["findings"][0]
    return reading["bound"], f"{first['text']}: {first['advice']}" if first["advice"] else first["text"]


def main() -> None:
    """Run every case, write the results, and fail where a bottleneck is not named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    rows, readings, missed, facts = [], [], [], {}
    with tempfile.TemporaryDirectory() as name:
        for repeat in range(options.repeats):
            for number, case in enumerate(CASES):
                found = run(case, Path(name) / f"{repeat}-{number}")
                facts = found if case.command == "profile" else facts
                reading = found["verdicts"] if case.command == "bench" else found["reading"]
                bound, said = verdict(case, found)
                is_named = bound in case.bounds and case.words in said
                print("✓" if is_named else "✗", case.command, "|", case.name, "|", bound, "|", said, flush=True)
                rows.append([case.name, f"hotlap {case.command}", bound, "yes" if is_named else "NO", said])
                readings.append({"case": case.name, "command": case.command, "named": is_named, "reading": reading})
                missed += [] if is_named else [f"{case.name} by hotlap {case.command}"]
    facts = hardware({"processor": _processor(), "device": facts["device"], "threads": facts["threads"]})
    print(hardware_line(facts))
    lines = table(["planted", "command", "bound by", "named", "what is said first"], rows)
    write_results("planted_bottlenecks", facts, {"readings": readings}, lines)
    if missed:
        raise SystemExit(f"not named: {', '.join(missed)}")


def _processor() -> str:
    from hotlap.core.processes import processor_name

    return processor_name()


if __name__ == "__main__":
    main()
