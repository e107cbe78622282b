"""What a proposal of a sweep costs, beside the run that it is for.

    python benchmarks/sampler_overhead.py

The pasted sweep of examples/sweep (eight settings), with 25, 100 and 500 made-up runs behind it: scoring the history,
asking the sampler, checking the point and writing its diff. The share is that of a run of 60 seconds. The grid has
three values in the place of each range, and as many of its combinations behind it.
"""

import argparse
import random
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from measuring import hardware, table, write_results

from hotlap.config.sweep import SweepConfig, SweepParameter, load_sweep
from hotlap.core.processes import processor_name, usable_cores
from hotlap.core.records import History, RunRecord
from hotlap.search.sweep_sampler import suggest
from hotlap.study.sweep import point_proposal
from hotlap.study.sweep_drive import settings_of, suggester

SWEEP: Final = Path(__file__).parents[1] / "examples" / "sweep" / "sweep.yaml"
METHODS: Final = ("tpe", "random", "qmc", "grid")
SIZES: Final = (25, 100, 500)
PROPOSALS: Final = 20
RUN_SECONDS: Final = 60.0


def history_of(space: SweepConfig, size: int) -> History:
    """Return a sweep of so many finished runs at random points, or at the first ones of a grid."""
    assert space.base is not None
    noise, drawn = random.Random(0), space if space.method == "grid" else replace(space, method="random")
    history = History(clock="train", base_config=space.base.model_dump(mode="json"))
    for number in range(1, size + 1):
        point = suggest(drawn, [], [each.patch for each in history.proposals], number, 0)
        assert point is not None
        proposal = point_proposal(history, point, "random")
        run = RunRecord(
            run_id=f"r{number:04}",
            role="screen",
            candidate=number,
            seed=42,
            outcome="out_of_budget",
            evaluations=({"step": 10, "train_seconds": 60.0, "eval_loss": noise.uniform(1, 5)},),
            metrics={"eval_loss": noise.uniform(1, 5)},
        )
        history = replace(history, proposals=(*history.proposals, proposal), runs=(*history.runs, run))
    return history


def grid_of(space: SweepConfig) -> SweepConfig:
    """Return a grid of a space: three values in the place of each range."""
    parameters = tuple(
        each
        if each.is_countable
        else SweepParameter(key=each.key, distribution="categorical", values=each.typical_values())
        for each in space.parameters
    )
    return replace(space, method="grid", parameters=parameters)


def seconds_of(space: SweepConfig, method: str, size: int) -> list[float]:
    """Return the seconds of each of some proposals on a history of a size."""
    chosen = grid_of(space) if method == "grid" else replace(space, method=method)
    ask, history, found = suggester(chosen, settings_of(chosen, slots=1, top=3, seeds=3)), history_of(chosen, size), []
    for _ in range(PROPOSALS):
        fresh = replace(history)  # what a history remembers is not kept from one proposal to the next
        began = time.perf_counter()
        proposal = ask(fresh, [])
        found.append(time.perf_counter() - began)
        assert proposal is not None
        history = replace(history, proposals=(*history.proposals, proposal))
        history = replace(history, runs=(*history.runs, replace(history.runs[-1], candidate=proposal.number)))
    return found


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dry", action="store_true", help="print only")
    arguments = parser.parse_args()
    space, _ = load_sweep(SWEEP, ())
    suggest(replace(space, method="tpe"), [], [], 0, 0)  # what is imported late is no part of a proposal
    found = {method: {size: seconds_of(space, method, size) for size in SIZES} for method in METHODS}
    rows = [
        [method, str(size), f"{1e3 * statistics.median(ones):.1f}", f"{1e3 * max(ones):.1f}", _share(ones)]
        for method, by_size in found.items()
        for size, ones in by_size.items()
    ]
    header = ["method", "runs before", "milliseconds, median", "longest", f"share of {RUN_SECONDS:.0f} s"]
    lines = table(header, rows)
    if arguments.dry:
        print("\n".join(lines))
    else:
        facts = hardware({"processor": processor_name(), "device": "cpu", "threads": usable_cores()})
        write_results("sampler_overhead", facts, {"seconds": found}, lines)


def _share(ones: list[float]) -> str:
    return f"{statistics.median(ones) / RUN_SECONDS:.3%}"


if __name__ == "__main__":
    main()
