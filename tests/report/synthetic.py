"""A study without training: three kept changes, and one proposal of every other fate."""

import math
from collections.abc import Mapping
from typing import Any

from hotlap.core.records import Decision, History, Outcome, Proposal, RecordClaim, Role, RunRecord
from hotlap.report.summary import CandidateFigures, NoiseFigures, StudySummary, summarize

STEP_SECONDS = 0.02
NOISE = NoiseFigures(
    sigma=0.05,
    degrees_of_freedom=4,
    smallest_visible_effect=0.873,
    runs_needed={0.01: 306, 0.02: 76, 0.05: 12},
    expected_false_keeps=0.019,
)
PROTOCOL: Mapping[str, Any] = {
    "schema": "hotlap/protocol/1",
    "config": {
        "name": "toy",
        "task": {"name": "string_repetition"},
        "targets": ["eval_loss < 0.76", "eval_byte_accuracy > 0.75"],
        "clock": "train",
        "budget": {"run": 900.0, "total": 3600.0},
    },
    "device": "cpu",
    "processor": "Toy CPU",
    "threads": 2,
    "python": "3.11.7",
    "torch": "2.13.0",
    "hotlap": "0.1.0",
}
ENVIRONMENT = {"data": {"hash": "0123456789abcdef", "num_train": 41230, "num_eval": 64, "source": "Python docstrings"}}


def proposal(number: int, parent: int, title: str, **changes: Any) -> Proposal:
    """Return a proposal that changes one key."""
    facts: dict[str, Any] = {
        "number": number,
        "parent": parent,
        "family": "toy",
        "title": title,
        "observation": f"eval_loss falls slowly before {title}.",
        "hypothesis": f"{title} makes each step teach more.",
        "patch": {"training.learning_rate": 0.001 * number},
        "predicted_ratio": 0.7,
        "diff": f"--- parent/config.yaml\n+++ child/config.yaml\n@@ -1 +1 @@\n-  x: 0\n+  x: {number}\n",
    }
    return Proposal(**{**facts, **changes})


class Runs:
    """Makes run records with consecutive ids."""

    def __init__(self) -> None:
        self.made: list[RunRecord] = []

    def add(self, role: Role, candidate: int, seconds: float, outcome: Outcome = "reached", **more: Any) -> RunRecord:
        """Add a run that reached after `seconds`, or ended there."""
        steps = round(seconds / STEP_SECONDS) if math.isfinite(seconds) else 0
        times = {"train": seconds, "wall": seconds + 4.0, "step": steps} if outcome == "reached" else None
        number = len(self.made) + 1
        facts: dict[str, Any] = {
            "run_id": f"r{number:04}",
            "role": role,
            "candidate": candidate,
            "seed": 1000 + number,
            "outcome": outcome,
            "steps": steps,
            "train_seconds": seconds,
            "wall_seconds": seconds + 5.0,
            "time_to_target": times,
            "metrics": {"eval_loss": 0.755, "eval_byte_accuracy": 0.761, "train_loss": 0.8},
            "environment": ENVIRONMENT,
        }
        record = RunRecord(**{**facts, **more})
        self.made.append(record)
        return record


PROPOSALS = (
    proposal(1, 0, "no dropout", patch={"model.embd_pdrop": 0.0}, simplifies=True, predicted_ratio=0.5),
    proposal(2, 1, "learning_rate × 3"),
    proposal(3, 2, "Muon for the hidden matrices", patch={"training.optim": "muon"}),
    proposal(4, 3, "wider model"),
    proposal(5, 3, "batch 512"),
    proposal(6, 3, "learning_rate × 50"),
    proposal(7, 3, "RoPE", patch={"model.positions": "rope"}),
    proposal(8, 7, "without #2 (learning_rate × 3)", role="ablation", proposer="ablation", predicted_ratio=1.0),
    proposal(9, 7, "cosine <b>schedule</b> | tail"),
)
DECISIONS = (
    Decision(
        proposal=1,
        verdict="keep",
        reason="screen and confirmation took 25.0 s and 26.0 s",
        statistics={"screen_seconds": 25.0, "confirm_seconds": 26.0, "ratio": 0.47, "sigma": 0.05},
    ),
    Decision(proposal=2, verdict="keep", reason="faster at first"),
    Decision(proposal=2, verdict="inconclusive", reason="withdrawn: two fresh runs were not faster"),
    Decision(proposal=3, verdict="keep", reason="faster by 40 %"),
    Decision(proposal=4, verdict="discard", reason="the screen run was stopped at 12.3 s"),
    Decision(proposal=5, verdict="crash", reason="the screen run crashed at 0.00 s\nTraceback\n```\nboom"),
    Decision(proposal=6, verdict="discard", reason="the screen run diverged at 1.00 s"),
    Decision(proposal=7, verdict="keep", reason="faster by 20 %"),
    Decision(proposal=8, verdict="discard", reason="slower without it, so it stays"),
)


def history(baseline_outcome: Outcome = "reached", *, is_confirmed: bool = True) -> History:
    """Return the history; with another baseline outcome its runs are misses."""
    runs = Runs()
    for seconds in (54.0, 55.2, 57.1):
        runs.add("baseline", 0, seconds, baseline_outcome)
    for candidate, typical in ((1, 25.5), (2, 24.0), (3, 14.0)):
        for role, factor in (("screen", 0.97), ("confirm", 1.0), ("incumbent", 0.99), ("incumbent", 1.03)):
            runs.add(role, candidate, typical * factor)  # type: ignore[arg-type]
    runs.add("screen", 4, 12.3, "raced", reason="far behind at equal clock")
    runs.add("screen", 5, 0.0, "crashed", reason="boom", metrics={})
    runs.add("screen", 6, 1.0, "diverged", metrics={"eval_loss": math.nan})
    runs.add("screen", 7, 11.0, contaminated="steal was 20 %")
    for role, seconds in (("screen", 10.4), ("confirm", 10.9), ("incumbent", 10.6), ("incumbent", 11.0)):
        runs.add(role, 7, seconds)  # type: ignore[arg-type]
    runs.add("ablation", 8, 19.0)
    for number in range(4):
        runs.add("record", 0, 22.0, "out_of_budget")
        runs.add("record", 7, 10.5 + number / 10)
    claim = RecordClaim(
        look=1,
        candidate=7,
        against=0,
        p_value=1 / 70,
        alpha=0.05 / 3,
        confirmed=is_confirmed,
        median_seconds=10.65,
        reason="all runs were faster",
    )
    return History(
        clock="train",
        base_config=PROTOCOL["config"],
        runs=tuple(runs.made),
        proposals=PROPOSALS,
        decisions=DECISIONS,
        claims=(claim,),
        seconds_spent=1234.5,
    )


def figures(median_seconds: float, reached: int = 3, runs: int = 3) -> CandidateFigures:
    """Return figures with a spread of 4 %."""
    return CandidateFigures(
        median_seconds=median_seconds,
        low=median_seconds * 0.98,
        high=median_seconds * 1.02,
        reached=reached,
        runs=runs,
        steps=median_seconds / STEP_SECONDS,
        seconds_per_step=STEP_SECONDS,
        least_seconds=median_seconds,
    )


CANDIDATES = {0: figures(55.2), 1: figures(25.5), 3: figures(14.0), 7: figures(10.7, 6, 6)}
MISSED_BASELINE = CandidateFigures(
    median_seconds=math.inf, low=54.0, high=math.inf, reached=1, runs=3, least_seconds=55.2
)


def summary(past: History, candidates: Mapping[int, CandidateFigures] = CANDIDATES) -> StudySummary:
    """Return the summary of a history."""
    return summarize(past, PROTOCOL, NOISE, candidates)


def points(past: History) -> dict[str, list[dict[str, float]]]:
    """Return a falling loss curve for every run; one line is not finite."""
    found: dict[str, list[dict[str, float]]] = {}
    for run in past.runs:
        ends = [run.train_seconds * share for share in (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)]
        curve = [{"step": i, "train_seconds": s, "wall_seconds": s + 4, "train_loss": 3.0} for i, s in enumerate(ends)]
        for point in curve:
            wiggle = 0.02 * math.sin(7 * point["step"] + run.seed)
            point["eval_loss"] = 0.75 + 2.2 * (1 - point["train_seconds"] / max(run.train_seconds, 1e-9)) ** 3 + wiggle
        found[run.run_id] = [*curve[:2], {**curve[1], "eval_loss": math.nan}, *curve[2:]]
    return found
