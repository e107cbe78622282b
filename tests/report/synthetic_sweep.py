"""A sweep without training: a baseline and eighteen points, one of which diverged."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from synthetic import proposal

from hotlap.analysis.importance import Importance, Importances
from hotlap.analysis.table import metric_scores
from hotlap.analysis.whole import Analysis, analyse
from hotlap.config.load import config_from_values
from hotlap.core.records import History, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder

KEYS = ("training.learning_rate", "training.optim")
BASE: Mapping[str, Any] = config_from_values(
    {"name": "toy-sweep", "budget": {"run": 60.0, "total": 3600.0}}
).model_dump(mode="json")
PROTOCOL: Mapping[str, Any] = {
    "schema": "hotlap/sweep/1",
    "config": BASE,
    "metric": "eval_loss",
    "goal": "minimize",
    "space": {"method": "random", "parameters": [{"key": key} for key in KEYS]},
    "slots": 1,
    "spending": {"run_cap": 18, "total_seconds": 3600.0, "top": 0, "seeds": 1, "target": 0.9},
}
NASTY = "<script>alert('x')</script> | & co"
"""What a title may hold that somebody else wrote."""
DIVERGED = 5
NUM_POINTS = 18


def patch(number: int) -> dict[str, Any]:
    """Return the settings of a point."""
    rate = 10 ** (-4 + 2 * ((0.618 * number) % 1))
    return {KEYS[0]: rate, KEYS[1]: "muon" if number % 2 else "adamw_torch_fused"}


def loss(values: Mapping[str, Any]) -> float:
    """Return the loss that a run ends with."""
    return 1 + 0.3 * (math.log10(values[KEYS[0]]) + 3) ** 2 - (0.2 if values[KEYS[1]] == "muon" else 0.0)


def run(number: int) -> RunRecord:
    """Return the run of a point; 0 is the baseline."""
    values = patch(number) if number else {KEYS[0]: BASE["training"]["learning_rate"], KEYS[1]: "adamw_torch_fused"}
    ends_at, has_diverged = loss(values), number == DIVERGED
    figures = {"eval_loss": ends_at, "train_loss": 1.1 * ends_at, "grad_norm": 0.4 + 0.1 * math.sin(number)}
    return RunRecord(
        run_id=f"r{number + 1:04}",
        role="screen" if number else "baseline",
        candidate=number,
        seed=42,
        outcome="diverged" if has_diverged else "out_of_budget",
        reason="the loss is not finite" if has_diverged else "the budget of 60 s is used up",
        steps=1000,
        train_seconds=60.0,
        wall_seconds=66.0,
        tokens=100_000,
        metrics={} if has_diverged else {**figures, "tokens_per_second": 1700.0 + number},
        config=config_from_values(BASE, values).model_dump(mode="json"),
    )


def sweep_history() -> History:
    """Return the history; the second point has the nasty title."""
    proposals = tuple(
        proposal(number, 0, NASTY if number == 2 else f"point {number}", patch=patch(number))
        for number in range(1, NUM_POINTS + 1)
    )
    runs = tuple(run(number) for number in range(NUM_POINTS + 1))
    return History(clock="train", base_config=BASE, runs=runs, proposals=proposals, seconds_spent=1234.0)


def best_number() -> int:
    """Return the point with the least loss."""
    return min((n for n in range(1, NUM_POINTS + 1) if n != DIVERGED), key=lambda n: loss(patch(n)))


def write_folders(project: ProjectFolder, history: History) -> None:
    """Write points and samples of every run where the report reads them."""
    for record in history.runs:
        folder = RunFolder(project.runs_path / record.run_id)
        folder.path.mkdir(parents=True)
        end = record.metrics.get("eval_loss", 3.0)
        for step in range(1, 9):
            seconds = record.train_seconds * step / 8
            point = {"step": step, "train_seconds": seconds, "wall_seconds": seconds + 4, "train_loss": 2.0}
            folder.append_point({**point, "eval_loss": end + 8 / step - 1})
        for step in (4, 8):
            sample = {"prompt": "say <b>\n", "generated": f"{record.run_id} at {step}", "expected": "yes"}
            folder.append_sample({"step": step, "train_seconds": 1.0, **sample})


def analysis(history: History) -> Analysis:
    """Return the analysis; the shares are made up, since nineteen runs are too few for a forest."""
    scores = metric_scores(history.runs, "eval_loss", "minimize")
    found = analyse(history.runs, scores, baseline=dict(history.base_config), keys=KEYS)
    shares = (
        Importance(parameter=KEYS[0], share=0.6, low=0.4, high=0.8, spread=0.2, chance=0.1),
        Importance(parameter=KEYS[1], share=0.1, low=0.0, high=0.2, spread=0.1, chance=0.12),
    )
    told = Importances(
        state="few",
        text="A first hint.",
        evaluator="fanova",
        score_name=scores.name,
        num_runs=19,
        parameters=shares,
        held_out_r2=0.5,
    )
    return replace(found, importances=told)
