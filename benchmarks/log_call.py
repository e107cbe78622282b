"""Measure what one call of `hotlap.log` costs a script, in a process of its own.

    python benchmarks/log_call.py             # 20 rounds of 2,000 calls for each case

Prints minimum, median and maximum microseconds of a call over the rounds: outside of a run, and in one with two and
with ten metrics. The limit is 20 microseconds; it is held against the medians, and the exit code is 1 above it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import hotlap
from hotlap.core.logged import METRICS_FILE

LIMIT_MICROSECONDS: Final = 20.0
CASES: Final = {
    "outside of a run": (False, {"val_loss": 3.280412345678901, "learning_rate": 6e-4}),
    "two metrics": (True, {"val_loss": 3.280412345678901, "learning_rate": 6e-4}),
    "ten metrics": (True, {f"metric_{number}": 1.0 / (number + 3) for number in range(10)}),
}


def microseconds(metrics: dict[str, float], calls: int) -> float:
    """Return the mean wall time of one of some calls."""
    began = time.perf_counter()
    for step in range(calls):
        hotlap.log(metrics, step=step)
    return 1e6 * (time.perf_counter() - began) / calls


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=2000)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in CASES}
    os.environ.pop("RANK", None)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds + 1):
            for name, (is_inside, metrics) in CASES.items():
                os.environ[METRICS_FILE] = str(Path(folder) / "metrics.jsonl") if is_inside else ""
                taken = microseconds(metrics, arguments.calls)
                if number:  # the first round opens the file
                    found[name].append(taken)
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"{name:<17} min {min(values):5.2f}  median {middle:5.2f}  max {max(values):5.2f}  microseconds a call")
    return int(max(statistics.median(values) for values in found.values()) > LIMIT_MICROSECONDS)


if __name__ == "__main__":
    sys.exit(main())
