"""Time what a speedrun found against the recipe an expert would write, in turn, with new seeds.

    python benchmarks/speedrun_vs_hand.py PROJECT            # a folder in which `hotlap speedrun` has ended
    python benchmarks/speedrun_vs_hand.py PROJECT --runs 5
    python benchmarks/speedrun_vs_hand.py PROJECT --hand benchmarks/word_hand_recipe.yaml

Both sides run with the same seeds, one after the other, nothing else running. Prints every time, the medians and
their ratio; times are seconds on the train clock until all targets held. Exit code 0 whatever the ratio is.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from hotlap.config.load import config_text, load_config
from hotlap.config.schema import RunConfig
from hotlap.core.durations import format_seconds
from hotlap.core.study_folder import ProjectFolder
from hotlap.policies.rules import candidate_config
from hotlap.search.noise import estimate
from hotlap.study.study import read_study

HAND = Path(__file__).parent / "hand_recipe.yaml"


def time_to_target(config: RunConfig, project: Path, name: str, seed: int) -> float:
    """Run a config with a seed by `hotlap train`; return its train seconds to target, infinite for a miss."""
    path = project / f"{name}.yaml"
    path.write_text(config_text(config), encoding="utf-8")
    command = [sys.executable, "-m", "hotlap", "train", str(path), "-p", str(project)]
    ended = subprocess.run(
        [*command, "-s", f"training.seed={seed}", "--json"], capture_output=True, text=True, check=False
    )
    reached = json.loads(ended.stdout).get("time_to_target")
    return float(reached["train"]) if reached else math.inf


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--study", default=None)
    parser.add_argument("--hand", type=Path, default=HAND, help="the expert's recipe for the study's task and targets")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=9001)
    arguments = parser.parse_args()
    _, history, _ = read_study(ProjectFolder(arguments.project.absolute()), arguments.study)
    found = candidate_config(history, history.incumbent)
    bf16 = bool(history.runs[-1].environment.get("bf16_is_fast"))
    hand = load_config(arguments.hand, [f"training.bf16={str(bf16).lower()}"])
    sides = {"found": found, "hand": hand}
    times: dict[str, list[float]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.runs):
            for name, side in sides.items():
                seconds = time_to_target(side, Path(folder), name, arguments.seed + number)
                times[name].append(seconds)
                print(f"{name:<6} seed {arguments.seed + number}: {format_seconds(seconds)}", flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    baseline = estimate(history, 0).median_seconds  # record runs of the baseline are censored and count as such
    for name, values in times.items():
        print(f"{name:<6} median {medians[name]:.2f} s  ({', '.join(f'{value:.2f}' for value in sorted(values))})")
    print(f"found / hand: {medians['found'] / medians['hand']:.2f} times")
    print(f"baseline / found: {baseline / medians['found']:.1f} times (baseline of the study)")


if __name__ == "__main__":
    main()
