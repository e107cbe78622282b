"""How fast a recipe each way of searching finds within its budget: hotlap's studies against what people use today.

python benchmarks/policies.py                            # 40 tasks of each family (recorded runs, too), 6 policies
python benchmarks/policies.py --policies hotlap --update # the others as they were measured before
python benchmarks/policies.py --seeds 8 --first-seed 100 --families decay --policies hotlap random --dry
"""

import argparse
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
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
AIM_TODAY, AIM_ASHA, AIM_SHARE = 0.6, 1.05, 1 / 3
"""Largest ratios to today's practices and to the strongest rival; by when hotlap should be where the former end."""
HOW: Final = """\
Training is simulated (`benchmarks/simulator/families.py`); everything else of hotlap's is real: planner, race, judge,
policy. One seed is one task with its own hidden physics, the same for every policy. All start with the same config
(176 s to the target) and pay for start-up, training and evaluation of every run. hotlap pays for its calibration,
confirmations, fresh runs and record looks, too; the others hold what was the quickest in one run. Shown is the true
time to target, without noise, of what was held.

- random search: runs go to the target or to the longest run's end, anywhere in the space.
- greedy: the same, one or two settings of the best so far moved a step.
- TPE on the final loss: a sweep of Optuna's TPE over runs of one length, all of them to the end.
- TPE on time to target: misses count ten times the longest run; runs stop at the best time so far.
- TPE, priors, race cap, ASHA: hotlap's first ideas and priors, mutations of the best, a graded score for every run;
  runs stop at the best time so far, or outside the best third at a rung of the clock."""
HOW_REPLAYED: Final = """\
In the family `recorded` real runs of random recipes answer (`simulator/replay.py`, recorded by `record_runs.py`): one
start of its own, one physics, and a seed moves the noise alone. Nobody can end below the quickest of these recipes, and
most find it, so what differs there is how soon."""
COLORS: Final[Mapping[str, str]] = {
    **{OURS: "#c1121f", "random": "#9a9a9a", "greedy": "#6a994e", "tpe_final_loss": "#bc6c25"},
    **{"tpe_time": "#4895ef", "tpe_asha": "#1d3557"},
}


def task_of(family: str, seed: int) -> Any:
    """Return a task of a family, simulated or recorded."""
    return recorded_task(seed) if family == REPLAYED else FAMILIES[family].task(seed)


def refuse_unrecorded(parser: argparse.ArgumentParser, families: Container[str]) -> None:
    """End with one line when recorded runs are asked for and there are none."""
    if REPLAYED in families and not RECORDED.exists():
        parser.error(f"{RECORDED} is not there; make it with: python benchmarks/record_runs.py PROJECT")


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
        found = sorted(_median_ratio(generator.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
        return _median_ratio(pairs), found[RESAMPLES // 20], found[-RESAMPLES // 20]


def _median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the ratio of two medians; two that are never reached are equal."""
    one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    return 1.0 if math.isinf(one) and math.isinf(other) else one / other


def _timeline(one: Mapping[str, Any]) -> Timeline:
    return Timeline(tuple((at, true) for at, true in one["moments"]), one["num_runs"], one["claimed_ratio"])


def family_text(family: Family) -> list[str]:
    """Return the table of one family and what hotlap claimed there."""
    header = ["policy", "runs", *(f"{share * family.budget:,.0f} s" for share in SHARES), "quartiles at the end"]
    if OURS in family.policies:
        header.append("hotlap's / its, 90 %")
    rows = [_row(family, policy) for policy in family.policies]
    seeds = f"{len(family.seeds)} tasks, {family.budget:,.0f} s of search each"
    lines = [f"## {family.name}", "", f"Median true seconds to target of what was held best; {seeds}.", ""]
    return [*lines, *table(header, rows), "", *_claims(family)]


def _claims(family: Family) -> list[str]:
    """Say how many records hotlap claimed, and how true they were."""
    if OURS not in family.policies:
        return []
    ratios = [family.line(OURS, seed).claimed_ratio for seed in family.seeds]
    claimed = [ratio for ratio in ratios if math.isfinite(ratio)]
    mean = f"; claimed over true speedup is {statistics.fmean(claimed):.2f} in the mean" if claimed else ""
    return [f"{len(claimed)} of hotlap's {len(ratios)} studies ended with a confirmed record{mean}."]


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


def aims_text(families: Sequence[Family]) -> list[str]:
    """Return the table of what was aimed at and whether it was met, a column for each family."""
    families = [family for family in families if OURS in family.policies]
    today = [name for name in TODAY if any(name in family.policies for family in families)]
    rows = [
        [f"at most {AIM_TODAY:.2f} of: {TITLES[name]}", *(_met(f, name, AIM_TODAY) for f in families)] for name in today
    ]
    if today:
        rows.append([f"at {AIM_SHARE:.0%} of the budget below where all of those end", *map(_early, families)])
    if any("tpe_asha" in family.policies for family in families):
        rows.append(
            [f"at most {AIM_ASHA:.2f} of: {TITLES['tpe_asha']}", *(_met(f, "tpe_asha", AIM_ASHA) for f in families)]
        )
    if not rows:
        return []
    return ["## aims", "", *table(["hotlap's time", *(family.name for family in families)], rows), ""]


def _met(family: Family, policy: str, most: float) -> str:
    if policy not in family.policies:
        return ""
    ratio = family.ratio(OURS, policy)[0]
    return f"{ratio:.2f}, {'met' if ratio <= most else 'NOT met'}"


def _early(family: Family) -> str:
    ours = statistics.median(family.times(OURS, AIM_SHARE))
    best = min(statistics.median(family.times(name)) for name in TODAY if name in family.policies)
    return f"{_seconds(ours)} s, {_seconds(best)} s: {'met' if ours < best else 'NOT met'}"


def draw(families: Sequence[Family]) -> Any:
    """Draw the median over the tasks against the seconds of search, with the quartiles of hotlap's."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    matplotlib.rcParams["svg.hashsalt"] = "policies"
    columns = min(2, len(families))
    size = (5.2 * columns, 3.6 * math.ceil(len(families) / columns) + 0.5)
    figure, grid = pyplot.subplots(math.ceil(len(families) / columns), columns, figsize=size, squeeze=False)
    for panel in grid.flat[len(families) :]:
        panel.axis("off")
    for panel, family in zip(grid.flat, families, strict=False):
        _draw_family(panel, family)
        panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
        panel.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        panel.yaxis.set_minor_formatter(ticker.NullFormatter())
    for row in grid:
        row[0].set_ylabel("true seconds to target")
    lines, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle("What each policy holds best: medians over the tasks, hotlap with its quartiles", fontsize=10)
    figure.tight_layout(rect=(0, 0.5 / size[1], 1, 1))
    return figure


def _draw_family(panel: Any, family: Family) -> None:
    shares = [number / (CURVE_POINTS - 1) for number in range(CURVE_POINTS)]
    minutes = [share * family.budget / 60 for share in shares]
    for policy in family.policies:
        values = [family.times(policy, share) for share in shares]
        style: dict[str, Any] = {"color": COLORS[policy], "lw": 2.4 if policy == OURS else 1.3}
        panel.step(minutes, [statistics.median(v) for v in values], where="post", label=TITLES[policy], **style)
        if policy == OURS and len(family.seeds) > 1:
            low, _, high = zip(*(statistics.quantiles(v, n=4) for v in values), strict=True)
            panel.fill_between(minutes, low, high, step="post", color=COLORS[OURS], alpha=0.12, lw=0)
    panel.axvline(AIM_SHARE * family.budget / 60, color="#bbbbbb", lw=0.8, ls=":")
    panel.set(title=f"{family.name} ({len(family.seeds)} tasks)", xlabel="minutes of search", yscale="log")
    panel.grid(axis="y", color="#eeeeee")


def text_of(families: Sequence[Family]) -> str:
    """Return all tables: the aims, then each family."""
    return "\n".join([*aims_text(families), "\n\n".join("\n".join(family_text(family)) for family in families)])


def write(families: Sequence[Family], found: Sequence[Mapping[str, Any]]) -> None:
    """Write tables, plot and numbers into results/."""
    head = ["# policies", "", "How fast a recipe each way of searching finds within its budget.", "", HOW, ""]
    if any(family.name == REPLAYED for family in families):
        head += [HOW_REPLAYED, ""]
    body = text_of(families)
    text = "\n".join([*head, "![what each policy holds best](policies.svg)", "", body])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "policies.md").write_text(f"{text}\n", encoding="utf-8")
    kept = [{name: _plain(value) for name, value in one.items() if name != "took"} for one in found]
    (RESULTS / "policies.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")
    draw(families).savefig(RESULTS / "policies.svg", metadata={"Date": None})
    print(f"\n{body}\n\nwritten to {RESULTS / 'policies'}.md, .json and .svg")


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: `null` for what never comes or is not known."""
    if isinstance(value, float):
        return round(value, 2) if math.isfinite(value) else None
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _measured_before(played: Container[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """Return the searches of the committed results but for those that were played again."""
    before = json.loads((RESULTS / "policies.json").read_text(encoding="utf-8"))
    kept = [one for one in before if (one["family"], one["policy"], one["seed"]) not in played]
    for one in kept:
        one["moments"] = [(at, math.inf if seconds is None else seconds) for at, seconds in one["moments"]]
        one["claimed_ratio"] = math.nan if one["claimed_ratio"] is None else one["claimed_ratio"]
    return kept


def main(play: Callable[..., Iterator[dict[str, Any]]] = play_all) -> None:
    """Play all searches and write what they found."""
    known = (*FAMILIES, REPLAYED)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=known, default=None)
    parser.add_argument("--policies", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--seeds", type=int, default=40, help="tasks of each family")
    parser.add_argument("--first-seed", type=int, default=0, help="tune a policy on others than the ones compared: 100")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--update", action="store_true", help="take what is not played now from results/policies.json")
    parser.add_argument("--dry", action="store_true", help="print only, and leave results/ as it is")
    arguments = parser.parse_args()
    refuse_unrecorded(parser, arguments.families or ())
    chosen = arguments.families or [name for name in known if name != REPLAYED or RECORDED.exists()]
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    jobs = [(family, policy, seed) for family in chosen for policy in arguments.policies for seed in seeds]
    found = list(play(jobs, arguments.processes))
    if arguments.update:
        found = [*_measured_before(set(jobs)), *found]
        found.sort(key=lambda one: (known.index(one["family"]), list(TITLES).index(one["policy"]), one["seed"]))
    families = [Family(name, found) for name in dict.fromkeys(one["family"] for one in found)]
    if arguments.dry:
        print(text_of(families))
    else:
        write(families, found)


if __name__ == "__main__":
    main()
