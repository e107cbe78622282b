"""Measure the CPU time of `hotlap --help`, in turn with an empty Python process.

    python benchmarks/help_time.py            # 20 pairs, after one uncounted pair

Prints minimum, median and maximum of user plus system milliseconds of both.
"""

import argparse
import os
import statistics
import subprocess
import sys

SIDES = {"python -c pass": [sys.executable, "-c", "pass"], "hotlap --help": [sys.executable, "-m", "hotlap", "--help"]}


def cpu_milliseconds(command: list[str]) -> float:
    """Return user plus system time of one run of a command."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed with exit code {process.returncode}")
    return 1e3 * (usage.ru_utime + usage.ru_stime)


def main() -> None:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for number in range(runs + 1):
        for name, command in SIDES.items():
            taken = cpu_milliseconds(command)
            if number:  # the first pair fills the caches
                times[name].append(taken)
    for name, values in times.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{name:<15} min {low:6.1f}  median {middle:6.1f}  max {high:6.1f}  ms CPU")


if __name__ == "__main__":
    main()
