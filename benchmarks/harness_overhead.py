"""What hotlap costs a run beyond the training itself: launcher, sampler, logging and what nobody accounts for.

    python benchmarks/harness_overhead.py                     # about four minutes on two cores
    python benchmarks/harness_overhead.py --repeats 5 --steps 5000

The string-repetition GPT of 0.46M parameters, batch 16, runs in turn in four ways: as `hotlap train` runs it; as a
worker alone, without launcher and sampler; as a worker alone that logs every step, and as one that never logs. Reported
are

- the harness' share of the command's wall clock: its own processor time (launcher and sampler, by the machine's
  cores), the time before the worker starts and after it ends, and what the worker spends outside set-up, steps,
  evaluation and saving;
- how much longer a step takes beside launcher and sampler;
- a log line's share of a step, with a line every `logging_steps` and with one every step.

Aims: the harness at most 2 % of a run's wall clock, logging at most 1 % of a step.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring import Spread, hardware, in_turn, table, write_config, write_results

SIDES = ("harness", "alone", "alone, every step logged", "alone, no log")
CONFIG: Mapping[str, Any] = {
    "name": "overhead",
    "task": {"name": "string_repetition", "max_length_bytes": 48, "max_eval_samples": 8},
    "model": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256},
    "training": {"learning_rate": 6e-4, "per_device_train_batch_size": 16, "padding": "bucketed", "save_model": False},
    "budget": {"run": "10m"},
}
LOGGING_STEPS = 10
LOGGING: Mapping[str, Mapping[str, Any]] = {
    "harness": {"logging_steps": LOGGING_STEPS},
    "alone": {"logging_steps": LOGGING_STEPS},
    "alone, every step logged": {"logging_steps": 1},
    "alone, no log": {"logging_strategy": "no"},
}
PARTS = ("setup", "steps", "evaluation", "saving")


def with_harness(config_path: Path, project: Path) -> dict[str, float]:
    """Train as `hotlap train` does, in this process; return where the time went."""
    from hotlap.cli.train import run_training
    from hotlap.config.load import load_config
    from hotlap.core.study_folder import ProjectFolder

    config = load_config(config_path)
    folder = ProjectFolder(project).create()
    wall, cpu = time.perf_counter(), time.process_time()
    _, run = run_training(config, folder.project, folder.runs_path, quiet=True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = figures(run.read("result"))
    return {**found, "command": wall, "cpu": cpu, "around": wall - found["wall"]}


def alone(config_path: Path, project: Path) -> dict[str, float]:
    """Let a worker train in a folder of its own, with nobody watching; return where the time went."""
    from hotlap.config.load import config_text, load_config
    from hotlap.core.run_folder import RunFolder
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.environment import worker_environment

    folder = RunFolder.create(ProjectFolder(project).create().runs_path)
    folder.write_config(config_text(load_config(config_path)))
    folder.write("command", {"directory": str(project), "launched_monotonic": time.monotonic()})
    command = [sys.executable, "-P", "-m", "hotlap.worker", str(folder.path)]
    with folder.stdout_path.open("wb") as log:
        environment = worker_environment(os.environ)
        subprocess.run(command, stdout=log, stderr=log, env=environment, cwd=project, check=False)
    return figures(folder.read("result"))


def figures(result: Mapping[str, Any] | None) -> dict[str, float]:
    """Return what a result says about time: seconds of its parts, of the rest, and of one step."""
    if result is None or result["outcome"] != "reached":
        raise SystemExit(f"the run did not end well: {result and result['reason']}")
    parts = {name: float(result["seconds"][name]) for name in PARTS}
    rest = result["wall_seconds"] - sum(parts.values())
    step = result["train_seconds"] / result["step"]
    return {**parts, "wall": result["wall_seconds"], "rest": rest, "step": step, "num_steps": result["step"]}


def report(found: Mapping[str, list[dict[str, float]]], cores: int) -> list[str]:
    """Return the tables: the harness' share, the step with and without it, the cost of a log line."""
    harness = found["harness"]
    spent = {
        "processor time of launcher and sampler": [run["cpu"] / cores for run in harness],
        "before the worker starts and after it ends": [run["around"] for run in harness],
        "outside set-up, steps, evaluation and saving": [run["rest"] for run in harness],
    }
    spent["all of it"] = [sum(parts) for parts in zip(*spent.values(), strict=True)]
    rows = []
    for name, values in spent.items():
        shares = [100 * seconds / run["command"] for seconds, run in zip(values, harness, strict=True)]
        rows.append([name, Spread(tuple(values)).text(2), Spread(tuple(shares)).text(2)])
    lines = ["## The harness' share of a run's wall clock (aim: at most 2 %)", ""]
    lines += [*table(["part", "seconds: median (lowest to highest)", "percent"], rows), ""]
    steps = {side: Spread(tuple(1e3 * run["step"] for run in runs)) for side, runs in found.items()}
    lines += ["## A step on the training clock", ""]
    against = steps["alone"].median
    rows = [[side, spread.text(4), f"{spread.median / against - 1:+.1%}"] for side, spread in steps.items()]
    lines += [*table(["side", "ms: median (lowest to highest)", "against alone"], rows), ""]
    rest = {side: Spread(tuple(run["rest"] / run["num_steps"] for run in runs)) for side, runs in found.items()}
    line_seconds = rest["alone, every step logged"].median - rest["alone, no log"].median
    share = 1e3 * line_seconds / against
    logging = [
        f"a log line and its point take {1e6 * line_seconds:,.0f} µs off the training clock",
        f"{share:.2%} of a step of {against:.1f} ms with a line every step",
        f"{share / LOGGING_STEPS:.3%} with a line every {LOGGING_STEPS} steps",
    ]
    return [*lines, "## Logging (aim: at most 1 % of a step)", "", "; ".join(logging)]


def main() -> None:
    """Run the sides in turn and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--steps", type=int, default=650, help="steps of each run")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    environment: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        prepare(project)
        for _, side in in_turn(SIDES, arguments.repeats):
            training = {**CONFIG["training"], **LOGGING[side], "max_steps": arguments.steps}
            path = write_config(project / "overhead.yaml", {**CONFIG, "training": training})
            run = with_harness(path, project) if side == "harness" else alone(path, project)
            found[side].append(run)
            print(f"{side:<25} {1e3 * run['step']:.2f} ms a step, {run['wall']:.1f} s", flush=True)
        environment = machine(project)
    facts = hardware(environment)
    write_results("harness_overhead", facts, {"runs": found}, report(found, int(facts["cores"])))


def prepare(project: Path) -> None:
    """Prepare the corpus, which is not a part of any run."""
    from hotlap.config.load import load_config
    from hotlap.core.study_folder import ProjectFolder
    from hotlap.launch.prepare import prepare_data

    path = write_config(project / "overhead.yaml", CONFIG)
    prepare_data(ProjectFolder(project).create(), load_config(path))


def machine(project: Path) -> dict[str, Any]:
    """Return what the last run says of the machine."""
    from hotlap.core.run_folder import RunFolder
    from hotlap.core.study_folder import ProjectFolder

    last = max(ProjectFolder(project).runs_path.iterdir())
    return RunFolder(last).read("environment") or {}


if __name__ == "__main__":
    main()
