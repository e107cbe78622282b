"""Record real runs of random recipes, for replaying whole studies over them (simulator/replay.py).

    python benchmarks/record_runs.py PROJECT             # 70 runs of at most 24 s of training, two at a time
    python benchmarks/record_runs.py PROJECT --runs 0    # packs again what PROJECT holds

Runs: the start four times, 58 recipes drawn at random from the whole space (by no policy of hotlap's, so none was tuned
to them), and the first four of these twice more. The same command goes on where it was stopped. The task is string
repetition with short sentences; a run has one thread, and no target ends it.

Pack: losses and steps are what was recorded; seconds are steps times a cost model of a step, fitted to the quickest
spans of all runs, since a machine that does other things meanwhile moves the readings of a clock, but not the losses.
The target is the loss that the start has after 60 % of the seconds, unless --target names one. From then on
`python benchmarks/policies.py` plays over them, too.
"""

import argparse
import json
import math
import os
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from simulator.replay import LEVELS, RECORDED, Recorded, RecordedTask, Recording, replicate_sigma, save_recording
from simulator.space import Parameter, Space, patch_of, values_of

from hotlap.config.load import config_from_values, config_text
from hotlap.config.schema import RunConfig
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import Job, LaunchFacts, LocalLauncher
from hotlap.launch.prepare import prepare_data
from hotlap.runs.ingest import ingest

SPACE: Final[Space] = {
    "learning_rate": Parameter(kind="log", keys=("training.learning_rate",), low=2e-4, high=2e-2),
    "muon_learning_rate": Parameter(kind="log", keys=("training.muon_learning_rate",), low=4e-3, high=0.1),
    "batch": Parameter(kind="choice", keys=("training.per_device_train_batch_size",), choices=(8, 16, 32, 64)),
    "optim": Parameter(kind="choice", keys=("training.optim",), choices=("adamw_torch_fused", "muon")),
    "max_steps": Parameter(kind="log_integer", keys=("training.max_steps",), low=100, high=6000),
    "warmup_steps": Parameter(kind="log_integer", keys=("training.warmup_steps",), low=1, high=300),
    "width": Parameter(kind="choice", keys=("model.hidden_size",), choices=(64, 128, 192)),
    "layers": Parameter(kind="integer", keys=("model.num_hidden_layers",), low=1, high=3),
    "dropout": Parameter(
        kind="linear", keys=("model.embd_pdrop", "model.attn_pdrop", "model.resid_pdrop"), low=0.0, high=0.3
    ),
}
START: Final[Mapping[str, Any]] = {
    "name": "recorded",
    "task": {"name": "string_repetition", "min_length_bytes": 4, "max_length_bytes": 10, "max_eval_samples": 32},
    "model": {
        **{"positions": "rope", "norm": "rms_norm", "qk_norm": True, "hidden_act": "relu_squared", "use_bias": False},
        **{"zero_init_projections": True, "tie_word_embeddings": False, "smear": True, "max_position_embeddings": 64},
        **{"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1},
    },
    "training": {
        **{"learning_rate": 6e-4, "per_device_train_batch_size": 16, "optim": "adamw_torch_fused"},
        **{"adam_beta2": 0.95, "max_grad_norm": 0.0, "weight_decay": 0.0, "padding": "bucketed", "warmup_steps": 50},
        **{"lr_scheduler_type": "linear", "max_steps": 4000, "save_model": False},
    },
    "targets": ["eval_loss < 0.01"],
    "patience": 1000,
}
TARGET_SHARE: Final = 0.6
"""Share of the longest run that the start needs to the target, as in the simulated families."""
RUNS_PER_STUDY: Final = 12
"""Longest runs that a study's budget holds, as in the simulated families."""
QUIET_SHARE: Final = 0.1
"""Share of the runs whose steps took less than the cost model says."""
_LEAST_POINTS: Final = 12
_FILE_OF_VALUES: Final = "values.json"


def designs(count: int, replicates: int) -> list[dict[str, Any]]:
    """Return the recipes: the start four times, `count` drawn ones, the first few of them `replicates` times more."""
    generator = random.Random(20)
    drawn = [{name: parameter.draw(generator) for name, parameter in SPACE.items()} for _ in range(count)]
    return [start_values()] * 4 + drawn + drawn[:replicates] * 2


def start_values() -> dict[str, Any]:
    """Return the start by name of the setting."""
    return values_of(SPACE, config_from_values(START).model_dump(mode="json"))


def start_run(project: ProjectFolder, values: Mapping[str, Any], seed: int) -> Job:
    """Start one recipe."""
    patch = {**patch_of(SPACE, values), "training.seed": seed}
    folder = RunFolder.create(project.runs_path)
    folder.write_config(config_text(config_from_values(START, patch)))
    (folder.path / _FILE_OF_VALUES).write_text(json.dumps(dict(values)))
    return LocalLauncher().start(folder, LaunchFacts(directory=project.project, seed=seed))


def run_all(
    project: ProjectFolder, recipes: Sequence[Mapping[str, Any]], seconds: float, at_once: int, minutes: float
) -> None:
    """Run all recipes, some at a time, each with one thread; those that the project holds already are left out.

    After so many minutes no more are started. Nothing runs on when this is interrupted.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    prepare_data(project, config_from_values(START))
    begun, deadline = len(run_folders(project)), time.monotonic() + 60 * minutes
    waiting, running = list(enumerate(recipes))[begun:], list[Job]()
    try:
        while running or (waiting and time.monotonic() < deadline):
            while waiting and len(running) < at_once and time.monotonic() < deadline:
                number, values = waiting.pop(0)
                running.append(start_run(project, values, 100 + number))
            time.sleep(1.0)
            for job in running:
                if quiet_seconds(evaluations(job.folder)) > seconds:
                    job.stop("out_of_budget", f"{seconds:g} s of an undisturbed clock are over")
            for job in [job for job in running if job.poll()]:
                running.remove(job)
                ended = len(recipes) - len(waiting) - len(running)
                print(f"[{ended}/{len(recipes)}] {_ending(job.folder)}", flush=True)
    finally:
        for job in running:
            job.stop("interrupted", "the recording was interrupted")


def _ending(folder: RunFolder) -> str:
    record = ingest(folder)
    assert record is not None, f"{folder.path} has ended"
    loss = record.metrics.get("eval_loss", math.nan)
    return f"{record.run_id} {record.outcome} after {record.train_seconds:.1f} s, loss {loss:.3f}"


def run_folders(project: ProjectFolder) -> list[RunFolder]:
    """Return the runs that a project holds, oldest first."""
    return [RunFolder(path) for path in sorted(project.runs_path.iterdir())] if project.runs_path.is_dir() else []


def recorded(folder: RunFolder) -> Recorded | None:
    """Read a run, with its own quiet pace; None for one that says nothing about its recipe."""
    record, points = ingest(folder), evaluations(folder)
    if record is None or record.is_infrastructure_failure or record.outcome == "crashed" or len(points) < _LEAST_POINTS:
        return None
    return Recorded(
        values=json.loads((folder.path / _FILE_OF_VALUES).read_text()),
        outcome=record.outcome,
        steps=[point["step"] for point in points],
        losses=[_brief(point["eval_loss"]) for point in points],
        seconds_per_step=quiet_pace(points),
        tokens_per_step=record.tokens / max(1, record.steps),
    )


def step_costs(values: Mapping[str, Any]) -> list[float]:
    """Return what the seconds of a step grow with: layers, products of both kinds, Muon's orthogonalisation."""
    width, layers, batch = values["width"] / 128, values["layers"], values["batch"] / 32
    muon = layers * width**3 if values["optim"] == "muon" else 0.0
    return [1.0, layers, batch * width, batch * layers * width**2, muon]


def fitted_paces(runs: Sequence[Recorded]) -> list[float]:
    """Return the seconds per step that a quiet machine would need, by a cost model through the quickest of all runs.

    A run that shared the machine all along has no quiet span of its own: the same recipe took from 71 to 154 ms a step.
    The costs are at least zero, and a tenth of the runs lies below the fit (a quantile regression on logs).
    """
    costs = [step_costs(run.values) for run in runs]
    paces = [run.seconds_per_step for run in runs]
    weights = [statistics.median(paces) / 5] * len(costs[0])

    def error(tried: Sequence[float]) -> float:
        apart = [
            math.log(pace / math.fsum(map(math.prod, zip(tried, row, strict=True))))
            for pace, row in zip(paces, costs, strict=True)
        ]
        return math.fsum(QUIET_SHARE * by if by > 0 else (QUIET_SHARE - 1) * by for by in apart)

    stride = 2.0
    while stride > 1.001:
        tries = [
            [*weights[:place], weight * factor, *weights[place + 1 :]]
            for place, weight in enumerate(weights)
            for factor in (stride, 1 / stride)
        ]
        best = min(tries, key=error)
        weights, stride = (best, stride) if error(best) < error(weights) else (weights, math.sqrt(stride))
    return [math.fsum(map(math.prod, zip(weights, row, strict=True))) for row in costs]


def evaluations(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the evaluations of a run so far."""
    return [point for point in folder.points() if "eval_loss" in point]


def quiet_seconds(points: Sequence[Mapping[str, Any]]) -> float:
    """Return what an undisturbed clock would read at the last evaluation; 0 before there are a few."""
    return points[-1]["step"] * quiet_pace(points) if len(points) >= _LEAST_POINTS else 0.0


def quiet_pace(points: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds per step that the quickest twentieth of the spans between evaluations took; 1 without any."""
    spans = [
        (later["train_seconds"] - earlier["train_seconds"]) / (later["step"] - earlier["step"])
        for earlier, later in pairwise(points)
        if later["step"] > earlier["step"]
    ]
    return statistics.quantiles(spans, n=20)[0] if len(spans) > 1 else 1.0


def _brief(value: float) -> float:
    return float(f"{value:.5g}")


def pack(runs: Sequence[Recorded], seconds: float, target: float | None = None) -> Recording:
    """Return runs as a recording, with the seconds of the cost model and the bound on eval_loss of its studies."""
    paces = [_brief(pace) for pace in fitted_paces(runs)]
    timed = tuple(replace(run, seconds_per_step=pace) for run, pace in zip(runs, paces, strict=True))
    values = {**START, "budget": {"run": seconds, "total": RUNS_PER_STUDY * seconds}}
    start: RunConfig = config_from_values(values)
    recording = Recording(start=start, space=SPACE, runs=timed, sigma=replicate_sigma(timed))
    if target is None:
        target = float(np.interp(math.log(TARGET_SHARE * seconds), recording.blend(start_values()).log_times, LEVELS))
    return replace(recording, start=config_from_values({**values, "targets": [f"eval_loss < {target:.4g}"]}))


def main() -> None:
    """Run the recipes and pack them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, help="folder for the runs")
    parser.add_argument("--runs", type=int, default=58, help="recipes to draw; 0 only packs")
    parser.add_argument("--replicates", type=int, default=4, help="drawn recipes that run three times")
    parser.add_argument("--seconds", type=float, default=24.0, help="training clock of the longest run")
    parser.add_argument("--at-once", type=int, default=2, help="runs at a time")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no more runs after so long")
    parser.add_argument("--target", type=float, default=None, help="bound on eval_loss of the studies that replay them")
    parser.add_argument("--out", type=Path, default=RECORDED)
    arguments = parser.parse_args()
    project = ProjectFolder(arguments.project.absolute())
    if arguments.runs:
        recipes = designs(arguments.runs, arguments.replicates)
        run_all(project.create(), recipes, arguments.seconds, arguments.at_once, arguments.minutes)
    runs = [run for folder in run_folders(project) if (run := recorded(folder)) is not None]
    if not runs:
        parser.error(f"{project.runs_path} holds no run to pack")
    recording = pack(runs, arguments.seconds, arguments.target)
    save_recording(recording, arguments.out)
    print(f"{len(runs)} runs in {arguments.out}, spread of replicates {recording.sigma:.1%}")
    true = RecordedTask(recording, 0).true_seconds(recording.start)
    print(f"the start needs {true:.1f} of {arguments.seconds:g} s to {recording.start.targets[0]}")


if __name__ == "__main__":
    main()
