"""A worker without training: it fills a run folder in virtual seconds, and ends at once.

    LocalLauncher((sys.executable, str(tests / "study" / "fake_worker.py")))

It knows nothing of hotlap but docs/run-folder.md. The time to target follows from config and seed; `fake.json` in the
project changes that for some runs. The first case of which all of `when` holds counts:

    {"sigma": 0.02, "cases": [{"when": {"role": "screen", "model.smear": true}, "does": "hang", "factor": 3.0}]}

`when` takes dotted config keys, `run`, `role`, `candidate` and `seed`. `does` is one of

    crash    a result that says so, behind a traceback
    exit     ends with exit code 7 and without a result
    vanish   is killed from outside, at once
    diverge  a result that says so
    wait     goes on once the project holds a file `go`
    slow     writes its points one by one, so that it can be stopped between two of them
    hang     points, then nothing until it is killed or its driver is gone (the real worker looks for that, too)
    orphan   the same, but it outlives its driver (for a minute)

and `hash` is what the environment tells of the data.
"""

import json
import math
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

BASE_SECONDS = 100.0
STEP_SECONDS = 0.05
SETUP_SECONDS = 2.0
TOKENS_PER_SECOND = 5000
EVALUATIONS = 10
SLOW_SECONDS = 0.15
BEST_LEARNING_RATE = 3e-3
EXIT_CODES = {"reached": 0, "missed": 3, "diverged": 4, "crashed": 5, "out_of_budget": 124}


def true_seconds(config: Mapping[str, Any]) -> float:
    """Return the virtual training seconds that a config needs, before noise; only what stands here matters."""
    model, training = config["model"], config["training"]
    seconds = BASE_SECONDS * (1 + 0.3 * abs(math.log10(training["learning_rate"] / BEST_LEARNING_RATE)))
    if any(model[f"{name}_pdrop"] for name in ("embd", "attn", "resid")):
        seconds *= 2.0
    if training["optim"] == "muon":
        seconds *= 0.5
    if training["per_device_train_batch_size"] <= 16:
        seconds *= 0.8
    return seconds


def main() -> int:
    """Play one run and return its exit code."""
    folder = Path(sys.argv[1])
    command = json.loads((folder / "command.json").read_text())
    config = YAML(typ="safe").load((folder / "config.yaml").read_text())
    own = {"pid": os.getpid(), "start_seconds": started_at()}
    write(folder / "worker.json", {**command["driver"], **own})
    sigma, case = chosen_case(folder, config, command)
    write(folder / "environment.json", environment(case["hash"]))
    if case["does"] in ("crash", "exit", "vanish"):
        return break_off(folder, case["does"])
    noise = math.exp(sigma * random.Random(command["seed"]).gauss(0, 1))
    needed = true_seconds(config) * noise * case["factor"]
    outcome, seconds = ending(needed, config, command["limits"])
    if case["does"] == "diverge" or config["training"]["learning_rate"] > 1:
        outcome, seconds = "diverged", 0.1 * seconds
    if case["does"] == "wait":
        linger(lambda: (folder.parents[2] / "go").exists())
    points = points_of(needed, seconds, config)
    if case["does"] in ("hang", "orphan"):
        append(folder, points[:-1])  # without the evaluation at which the targets hold
        driver = os.getppid()
        linger(lambda: case["does"] == "hang" and os.getppid() != driver)
        os._exit(9)
    for some in zip(points[::2], points[1::2], strict=True) if case["does"] == "slow" else [points]:
        append(folder, [*some])
        if case["does"] == "slow":
            time.sleep(SLOW_SECONDS)
    for point in points:
        print({name: round(value, 4) for name, value in point.items() if "loss" in name})
    write(folder / "result.json", result(outcome, points))
    return EXIT_CODES[outcome]


def chosen_case(folder: Path, config: Mapping[str, Any], command: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return the noise, and what fake.json says of this run."""
    path = folder.parents[2] / "fake.json"
    plan = json.loads(path.read_text()) if path.exists() else {}
    facts = {**flatten(config), "run": folder.name, **{key: command[key] for key in ("role", "candidate", "seed")}}
    cases = (case for case in plan.get("cases", ()) if case["when"].items() <= facts.items())
    return plan.get("sigma", 0.02), {"does": "", "factor": 1.0, "hash": "0123456789abcdef", **next(cases, {})}


def ending(needed: float, config: Mapping[str, Any], limits: Mapping[str, float | None]) -> tuple[str, float]:
    """Return what ends the run first, and when: the targets, the schedule or a limit."""
    wall = limits["wall_seconds"]
    ends = {
        "reached": needed,
        "missed": config["training"]["max_steps"] * STEP_SECONDS,
        "out_of_budget": min(limits["train_seconds"] or math.inf, wall - SETUP_SECONDS if wall else math.inf),
    }
    return min(ends.items(), key=lambda item: item[1])


def points_of(needed: float, end: float, config: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return training figures and an evaluation at a few equally distant readings; the loss falls in a line."""
    points = []
    for number in range(1, EVALUATIONS + 1):
        seconds = end * number / EVALUATIONS
        position = {
            "step": max(1, round(seconds / STEP_SECONDS)),
            "train_seconds": seconds,
            "wall_seconds": seconds + SETUP_SECONDS,
            "tokens": round(seconds * TOKENS_PER_SECOND),
        }
        done = seconds / needed
        loss = 5.5 - 4.75 * done
        points.append({**position, **training_figures(loss, config)})
        evaluation = {"eval_loss": loss, "perplexity": math.exp(loss), "eval_byte_accuracy": 0.76 * done}
        evaluation["eval_word_accuracy"] = 0.6 * done
        if loss < 0.76 and 0.76 * done > 0.75:
            evaluation |= {"eval_chrf": 40.0, "eval_sacrebleu": 12.5, "eval_exact_match": 0.0}
        points.append({**position, **evaluation})
    return points


def training_figures(loss: float, config: Mapping[str, Any]) -> dict[str, float]:
    """Return what the trainer logs between evaluations."""
    return {
        "train_loss": loss + 0.02,
        "grad_norm": 0.9,
        "learning_rate": config["training"]["learning_rate"],
        "tokens_per_second": float(TOKENS_PER_SECOND),
        "padding_ratio": 0.0,
    }


def result(outcome: str, points: list[dict[str, float]]) -> dict[str, Any]:
    """Return the content of result.json."""
    last = {**points[-2], **points[-1]}
    seconds, wall = last["train_seconds"], last["wall_seconds"]
    clocks = ("step", "train_seconds", "wall_seconds", "tokens")
    return {
        "schema": "hotlap/result/1",
        "outcome": outcome,
        "reason": f"{outcome.replace('_', ' ')} at step {last['step']}",
        **{name: last[name] for name in clocks},
        "time_to_target": {"train": seconds, "wall": wall, "step": last["step"]} if outcome == "reached" else None,
        "metrics": {name: value for name, value in last.items() if name not in clocks},
        "seconds": {
            **{"setup": SETUP_SECONDS, "steps": seconds, "evaluation": 0.0, "saving": 0.0},
            **{"data": 0.0, "forward": 0.3 * seconds, "backward": 0.5 * seconds, "optimizer": 0.2 * seconds},
        },
        "peak_memory_bytes": 1,
    }


def environment(data_hash: str) -> dict[str, Any]:
    """Return the content of environment.json."""
    data = {"hash": data_hash, "num_train": 40000, "num_eval": 64, "source": "thin air"}
    machine = {"device": "cpu", "device_name": "Toy CPU", "bf16_is_fast": False, "threads": 1}
    return {"python": sys.version.split()[0], **machine, "num_parameters": 400_000, "data": data}


def append(folder: Path, points: list[dict[str, float]]) -> None:
    """Append points, all in one write: the race sees them only together with the end."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("".join(f"{json.dumps(point)}\n" for point in points))


def break_off(folder: Path, does: str) -> int:
    """End before the first step, with a result that says so or without any."""
    print("Traceback (most recent call last):\nRuntimeError: toy trouble", flush=True)
    if does == "vanish":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "exit":
        return 7
    nothing = {"step": 0, "train_seconds": 0.0, "wall_seconds": SETUP_SECONDS, "tokens": 0, "time_to_target": None}
    ending = {"outcome": "crashed", "reason": "RuntimeError: toy trouble", "metrics": {}, "seconds": {}}
    write(folder / "result.json", {"schema": "hotlap/result/1", **ending, **nothing})
    return EXIT_CODES["crashed"]


def linger(is_over: Any) -> None:
    """Wait, but never so long that a failing test would leave something running."""
    deadline = time.monotonic() + 60
    while not is_over() and time.monotonic() < deadline:
        time.sleep(0.02)


def started_at() -> float:
    """Return when this process started, in seconds since boot; where the system does not tell, now."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return time.time()
    return ticks / os.sysconf("SC_CLK_TCK")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the plain values of nested mappings by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            flat[f"{prefix}{key}"] = value
    return flat


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON so that readers never see half of it."""
    temporary = path.with_name(f"{path.name}.fake.tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
