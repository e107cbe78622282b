"""How fast a recipe each way of searching finds within its budget: hotlap's studies against what people use today.

    python benchmarks/policies.py                            # 40 tasks of each family, 6 policies
    python benchmarks/policies.py --seeds 8 --families decay --policies hotlap random

Training is simulated or replayed (benchmarks/simulator); everything else is real: planner, race, judge, policy. One
seed is one task with its own hidden physics, the same for every policy. All policies start with the same config (which
needs 176 s in the simulated families) and pay for start-up, training and evaluation of every run; hotlap pays for its
calibration, confirmations, fresh runs and record looks, too. Shown is the true time to target, without noise, of the
config that a policy held best at that moment.
"""

import argparse
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from typing import Any, Final

from measuring import RESULTS, table
from simulator.families import FAMILIES
from simulator.play import Timeline, play_study
from simulator.replay import RECORDED, recorded_task
from simulator.rivals import PRACTICES, search

OURS: Final = "hotlap"
REPLAYED: Final = "recorded"
TITLES: Final[Mapping[str, str]] = {OURS: "hotlap", **{name: practice.title for name, practice in PRACTICES.items()}}
TODAY: Final = ("random", "greedy", "tpe_final_loss")
"""Whom the aim of 0.6 is measured against."""
SHARES: Final = (1 / 6, 1 / 3, 1 / 2, 3 / 4, 1.0)
"""Moments of the table, as shares of the budget."""
RESAMPLES: Final = 2000
CURVE_POINTS: Final = 121


def task_of(family: str, seed: int) -> Any:
    """Return a task of a family, simulated or recorded."""
    return recorded_task(seed) if family == REPLAYED else FAMILIES[family].task(seed)


def play_one(job: tuple[str, str, int]) -> dict[str, Any]:
    """Play one search; return its timeline as plain values."""
    family, policy, seed = job
    task, began = task_of(family, seed), time.perf_counter()
    timeline = play_study(task, hotlap_policy(seed))[0] if policy == OURS else search(task, PRACTICES[policy], seed)
    budget, seconds = task.start.budget.total, time.perf_counter() - began
    return {"family": family, "policy": policy, "seed": seed, "budget": budget, "took": seconds, **asdict(timeline)}


def hotlap_policy(seed: int) -> Any:
    """Return the policy of a real study."""
    from hotlap.policies.study_policy import StudyPolicy

    return StudyPolicy(seed)


def play_all(jobs: Sequence[tuple[str, str, int]], processes: int) -> Iterator[dict[str, Any]]:
    """Play all searches, telling what is done."""
    with ProcessPoolExecutor(processes) as pool:
        for number, found in enumerate(pool.map(play_one, jobs), start=1):
            end = found["moments"][-1][1]
            said = f"{found['family']} {found['seed']} {found['policy']}: {end:.1f} s after {found['num_runs']} runs"
            print(f"[{number}/{len(jobs)}] {said}, played in {found['took']:.1f} s", flush=True)
            yield found


class Family:
    """The searches of one family, by policy and seed."""

    def __init__(self, name: str, found: Sequence[Mapping[str, Any]]) -> None:
        mine = [one for one in found if one["family"] == name]
        self.name = name
        self.budget = float(mine[0]["budget"])
        self.policies = tuple(dict.fromkeys(one["policy"] for one in mine))
        self.seeds = sorted({one["seed"] for one in mine})
        self._lines = {(one["policy"], one["seed"]): _timeline(one) for one in mine}

    def line(self, policy: str, seed: int) -> Timeline:
        """Return one search."""
        return self._lines[policy, seed]

    def times(self, policy: str, share: float = 1.0) -> list[float]:
        """Return the true times held after a share of the budget, one a seed."""
        return [self.line(policy, seed).at(share * self.budget) for seed in self.seeds]

    def ratio(self, policy: str, other: str) -> tuple[float, float, float]:
        """Return the ratio of median final times, and its 90 % interval over resampled tasks."""
        pairs = list(zip(self.times(policy), self.times(other), strict=True))
        generator = random.Random(0)

        def of(chosen: Sequence[tuple[float, float]]) -> float:
            return statistics.median(a for a, _ in chosen) / statistics.median(b for _, b in chosen)

        found = sorted(of(generator.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
        return of(pairs), found[RESAMPLES // 20], found[-RESAMPLES // 20]


def _timeline(one: Mapping[str, Any]) -> Timeline:
    return Timeline(tuple((at, true) for at, true in one["moments"]), one["num_runs"], one["claimed_ratio"])


def family_text(family: Family) -> list[str]:
    """Return the table of one family and what it says about the aims."""
    header = ["policy", "runs", *(f"{share * family.budget:,.0f} s" for share in SHARES), "quartiles at the end"]
    if OURS in family.policies:
        header.append("hotlap's / its, 90 %")
    rows = [_row(family, policy) for policy in family.policies]
    seeds = f"{len(family.seeds)} tasks, {family.budget:,.0f} s of search each"
    lines = [f"## {family.name}", "", f"Median true seconds to target of what was held best; {seeds}.", ""]
    return [*lines, *table(header, rows), "", *_aims(family)]


def _row(family: Family, policy: str) -> list[str]:
    runs = statistics.median(family.line(policy, seed).num_runs for seed in family.seeds)
    medians = [statistics.median(family.times(policy, share)) for share in SHARES]
    low, _, high = statistics.quantiles(family.times(policy), n=4) if len(family.seeds) > 1 else (medians[-1],) * 3
    row = [TITLES[policy], f"{runs:.0f}", *map(_seconds, medians), f"{_seconds(low)} to {_seconds(high)}"]
    if OURS in family.policies:
        ratio = family.ratio(OURS, policy)
        row.append("" if policy == OURS else f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})")
    return row


def _seconds(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "never"


def _aims(family: Family) -> list[str]:
    """Say which aims are met."""
    if OURS not in family.policies:
        return []
    lines = []
    third = statistics.median(family.times(OURS, 1 / 3))
    for policy in (policy for policy in family.policies if policy in TODAY):
        ratio, end = family.ratio(OURS, policy)[0], statistics.median(family.times(policy))
        met = "met" if ratio <= 0.6 else "NOT met"
        early = "below" if third < end else "NOT below"
        said = f"at a third of the budget hotlap is at {_seconds(third)} s, {early} its end of {_seconds(end)} s"
        lines.append(f"- {TITLES[policy]}: {ratio:.2f} of its time, the aim of 0.60 is {met}; {said}.")
    if "tpe_asha" in family.policies:
        ratio = family.ratio(OURS, "tpe_asha")[0]
        met = "met" if ratio <= 1.05 else "NOT met"
        lines.append(f"- {TITLES['tpe_asha']}: {ratio:.2f} of its time, the aim of 1.05 is {met}.")
    return lines


def draw(families: Sequence[Family]) -> None:
    """Draw the median over the tasks against the seconds of search, with the quartiles of hotlap's."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "policies"
    figure, panels = pyplot.subplots(1, len(families), figsize=(5 * len(families), 4), squeeze=False)
    for panel, family in zip(panels[0], families, strict=True):
        shares = [number / (CURVE_POINTS - 1) for number in range(CURVE_POINTS)]
        seconds = [share * family.budget for share in shares]
        for policy in family.policies:
            values = [family.times(policy, share) for share in shares]
            width = 2.2 if policy == OURS else 1.2
            panel.step(seconds, [statistics.median(v) for v in values], where="post", label=TITLES[policy], lw=width)
            if policy == OURS and len(family.seeds) > 1:
                quartiles = [statistics.quantiles(v, n=4) for v in values]
                panel.fill_between(seconds, [q[0] for q in quartiles], [q[2] for q in quartiles], alpha=0.15, lw=0)
        panel.set(title=family.name, xlabel="seconds of search", yscale="log")
    panels[0][0].set_ylabel("true seconds to target of what is held best")
    panels[0][-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(RESULTS / "policies.svg", metadata={"Date": None})


def write(families: Sequence[Family], found: Sequence[Mapping[str, Any]]) -> None:
    """Write table, plot and numbers into results/."""
    text = "\n".join(["# policies", "", "![what each policy holds best](policies.svg)", ""])
    body = "\n\n".join("\n".join(family_text(family)) for family in families)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "policies.md").write_text(f"{text}\n{body}\n", encoding="utf-8")
    kept = [{name: value for name, value in one.items() if name != "took"} for one in found]
    (RESULTS / "policies.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")
    draw(families)
    print(f"\n{body}\n\nwritten to {RESULTS / 'policies'}.md, .json and .svg")


def main(play: Callable[..., Iterator[dict[str, Any]]] = play_all) -> None:
    """Play all searches and write what they found."""
    known = (*FAMILIES, REPLAYED)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=known, default=None)
    parser.add_argument("--policies", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--seeds", type=int, default=40, help="tasks of each family")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--dry", action="store_true", help="print only, and leave results/ as it is")
    arguments = parser.parse_args()
    chosen = arguments.families or [name for name in known if name != REPLAYED or RECORDED.exists()]
    seeds = range(arguments.seeds)
    jobs = [(family, policy, seed) for family in chosen for policy in arguments.policies for seed in seeds]
    found = list(play(jobs, arguments.processes))
    families = [Family(name, found) for name in chosen]
    if arguments.dry:
        print("\n\n".join("\n".join(family_text(family)) for family in families))
    else:
        write(families, found)


if __name__ == "__main__":
    main()
