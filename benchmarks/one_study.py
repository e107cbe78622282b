"""Play one simulated study and print what was proposed, what was decided, and what was true.

python benchmarks/one_study.py decay 7
"""

import argparse
import time

from simulator.families import FAMILIES
from simulator.play import ladder_lines, play_study

from hotlap.core.durations import format_seconds
from policies import REPLAYED, hotlap_policy, refuse_unrecorded, task_of


def main() -> None:
    """Play it and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=[*FAMILIES, REPLAYED])
    parser.add_argument("seed", type=int, nargs="?", default=0)
    arguments = parser.parse_args()
    refuse_unrecorded(parser, (arguments.family,))
    task = task_of(arguments.family, arguments.seed)
    began = time.perf_counter()
    timeline, history = play_study(task, hotlap_policy(arguments.seed))
    seconds = time.perf_counter() - began
    print("\n".join(ladder_lines(task, history)))
    print(f"\nended: {history.ended}")
    final = format_seconds(timeline.moments[-1][1])
    print(f"{timeline.num_runs} runs in {seconds:.2f} s, {timeline.num_runs / seconds:.0f} a second; true time {final}")


if __name__ == "__main__":
    main()
