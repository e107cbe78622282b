"""How long it takes to list, analyse and report a sweep of many long runs.

    python benchmarks/large_store.py                       # 2,000 runs of 1,000 points each: about 2 GB on the disk
    python benchmarks/large_store.py --runs 100 --points 100 --dry

The runs are made up, their folders are not: every file that a real sweep leaves and a command reads is there. A first
`hotlap runs ls` builds the index, the others find it; each command is a process of its own.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from measuring import Spread, hardware, table, write_results

from hotlap.config.load import config_from_values, config_text
from hotlap.core.processes import processor_name, usable_cores
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder, StudyFolder

REPEATS: Final = 3
RUN_SECONDS: Final = 60.0
SPACE: Final[tuple[dict[str, Any], ...]] = (
    {"key": "training.learning_rate", "distribution": "log_uniform_values", "low": 1e-5, "high": 1e-2},
    {"key": "training.per_device_train_batch_size", "distribution": "categorical", "values": [4, 8, 16]},
    {"key": "training.optim", "distribution": "categorical", "values": ["adamw_torch", "muon"]},
    {"key": "training.warmup_steps", "distribution": "categorical", "values": [0, 50, 200]},
    {"key": "training.lr_scheduler_type", "distribution": "categorical", "values": ["linear", "cosine", "constant"]},
)
COMMANDS: Final = {
    "list": ("runs", "ls", "--limit", "20"),
    "status": ("status",),
    "analyse": ("analyze",),
    "report as HTML": ("report", "--format", "html"),
    "report as Markdown": ("report", "--format", "md"),
}


def draw(random_number: random.Random) -> dict[str, Any]:
    """Return the settings of one run."""
    patch: dict[str, Any] = {"training.learning_rate": 10 ** random_number.uniform(-5, -2)}
    for axis in SPACE[1:]:
        patch[axis["key"]] = random_number.choice(axis["values"])
    return patch


def loss_of(rate: float, optim: str) -> float:
    """Return the loss that a run ends with."""
    return 1 + 0.3 * (math.log10(rate) + 3) ** 2 - 0.2 * (optim == "muon")


def write_run(project: ProjectFolder, base: dict[str, Any], patch: dict[str, Any], num_points: int, seed: int) -> str:
    """Write the folder of a finished run; return its id."""
    folder, config = RunFolder.create(project.runs_path), config_from_values(base, patch)
    folder.write_config(config_text(config), config.model_dump(mode="json"))
    folder.write(
        "command", {"role": "screen", "seed": 42, "study": "large", "launched_at": "2026-01-01T00:00:00+00:00"}
    )
    end = loss_of(config.training.learning_rate, config.training.optim)
    folder.metrics_path.write_text("\n".join(points_of(end, num_points, random.Random(seed))) + "\n")
    metrics = {"eval_loss": end, "train_loss": 1.1 * end, "grad_norm": 0.4, "tokens_per_second": 9000.0 + seed % 100}
    clocks = {"step": num_points, "train_seconds": RUN_SECONDS, "wall_seconds": RUN_SECONDS + 2, "tokens": 512}
    result = {"schema": "hotlap/result/1", "outcome": "out_of_budget", "reason": "", **clocks, "metrics": metrics}
    folder.write("result", result)
    return folder.run_id


def points_of(end: float, num_points: int, noise: random.Random) -> list[str]:
    """Return the lines of a curve that ends at a loss, every tenth of them an evaluation."""
    lines = []
    for step in range(1, num_points + 1):
        seconds = RUN_SECONDS * step / num_points
        loss = end + 4 * math.exp(-5 * step / num_points) + 0.01 * noise.gauss(0, 1)
        point = {"step": step, "train_seconds": seconds, "wall_seconds": 2 + seconds, "tokens": 512 * step}
        is_evaluated = step % 10 == 0
        more = {"eval_loss": loss, "eval_byte_accuracy": 1 / loss} if is_evaluated else {}
        lines.append(json.dumps({**point, "train_loss": 1.1 * loss, "grad_norm": 0.4, "learning_rate": 1e-3, **more}))
    return lines


def write_study(project: ProjectFolder, num_runs: int, num_points: int) -> None:
    """Write a sweep of so many runs."""
    base = config_from_values({"name": "large", "budget": {"run": RUN_SECONDS, "total": 1e6}}).model_dump(mode="json")
    study, numbers = project.create().study("large").create(), random.Random(0)
    protocol = {
        **{"schema": "hotlap/sweep/1", "config": base, "metric": "eval_loss", "goal": "minimize", "slots": 1},
        "space": {"method": "random", "constraints": [], "parameters": list(SPACE)},
        "spending": {"run_cap": num_runs, "total_seconds": 1e6, "top": 0, "seeds": 1, "target": None},
    }
    study.write_protocol(protocol)
    events: list[dict[str, Any]] = [{"event": "sitting", "at": 0.0, "sitting": "first"}]
    for number in range(num_runs):
        patch = draw(numbers) if number else {}
        run = write_run(project, base, patch, num_points, number)
        events += _events(number, run, patch, 62.0 * number)
    write_events(study, events)


def _events(number: int, run: str, patch: dict[str, Any], at: float) -> list[dict[str, Any]]:
    """Return what the ledger says of one run."""
    stamp = {"sitting": "first"}
    facts = {"event": "run", "run": run, "role": "screen" if number else "baseline", "candidate": number, "seed": 42}
    proposal = {
        **{"event": "proposal", "number": number, "parent": 0, "family": "sweep", "title": f"point {number}"},
        **{"observation": "", "hypothesis": "", "patch": patch, "predicted_ratio": 1.0, "proposer": "random"},
    }
    return [
        *([{**proposal, "at": at, **stamp}] if number else []),
        {**facts, "phase": "started", "at": at, **stamp},
        {**facts, "phase": "ended", "outcome": "out_of_budget", "contaminated": "", "at": at + 62, **stamp},
    ]


def write_events(study: StudyFolder, events: list[dict[str, Any]]) -> None:
    """Write a whole ledger at once."""
    study.ledger_path.write_text("".join(json.dumps(event) + "\n" for event in events))


def seconds_of(project: Path, arguments: tuple[str, ...]) -> float:
    """Return the wall seconds of one command."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "hotlap", *arguments, "-p", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=project)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return time.perf_counter() - began


def main() -> None:
    """Make the store, run the commands in turn, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--points", type=int, default=1000, help="of each run")
    parser.add_argument("--dry", action="store_true", help="print only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        write_study(ProjectFolder(project), arguments.runs, arguments.points)
        first = seconds_of(project, COMMANDS["list"])
        found: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(REPEATS):
            for name, words in COMMANDS.items():
                found[name].append(seconds_of(project, words))
                print(f"{name}: {found[name][-1]:.2f} s", flush=True)
        size = (project / "report-large.html").stat().st_size
    rows = [["list, the index not built yet", f"{first:.2f}"]]
    rows += [[name, Spread(tuple(values)).text()] for name, values in found.items()]
    num_points = arguments.runs * arguments.points
    intro = f"{arguments.runs:,} runs, {num_points:,} points; the HTML page has {size / 1e6:.1f} MB."
    text = [intro, "", *table(["command", f"seconds, median of {REPEATS} (lowest to highest)"], rows)]
    if arguments.dry:
        print("\n".join(text))
    else:
        facts = hardware({"processor": processor_name(), "device": "cpu", "threads": usable_cores()})
        values = {"runs": arguments.runs, "points": num_points, "page_bytes": size, "first_list": first}
        write_results("large_store", facts, {**values, "seconds": found}, text)


if __name__ == "__main__":
    main()
