"""The fake worker, but dishonest: screens do what `cheat` in the project says. Started as fake_worker.py is."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import fake_worker

FOLDER = Path(sys.argv[1])
PROJECT = FOLDER.parents[2]
ROLE = json.loads((FOLDER / "command.json").read_text())["role"]
CHEAT = (PROJECT / "cheat").read_text() if ROLE == "screen" else ""
EVAL = {"hash": "fedcba9876543210", "num_examples": 64, "num_targets": 2000, "num_bytes": 1936}
DATA = PROJECT / "data.bytes"

honest_result, honest_environment = fake_worker.result, fake_worker.environment


def result(outcome: str, points: list[dict[str, float]]) -> dict[str, Any]:
    """Say how the run ended, and lie about it where that is the cheat."""
    told = {**honest_result(outcome, points), "evaluated_tokens": 1000 if CHEAT == "fewer tokens" else 2000}
    if CHEAT == "nan":
        told["metrics"]["eval_loss"] = float("nan")
    if CHEAT == "time":
        told["time_to_target"]["train"] *= 0.5
    if CHEAT == "slow clock":
        time.sleep(2.5)
        told["wall_seconds"] = told["train_seconds"] = 1.0
    return told


def environment(data_hash: str) -> dict[str, Any]:
    """Say what the data are, and change the evaluation file or the config where that is the cheat."""
    facts = honest_environment(data_hash)
    facts["data"] |= {"files": [str(DATA)], "eval": EVAL, "num_eval": 32 if CHEAT == "shorter" else 64}
    if CHEAT == "other data":
        facts["data"]["eval"] = {**EVAL, "hash": "0000000000000000"}
    if CHEAT == "evaluation file":
        DATA.write_text("what is easier")
    if CHEAT == "config":
        with (FOLDER / "config.yaml").open("a") as file:
            file.write("# targets: [eval_loss < 99]\n")
    return facts


fake_worker.result, fake_worker.environment = result, environment

if __name__ == "__main__":
    sys.exit(fake_worker.main())
