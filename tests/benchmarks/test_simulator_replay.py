"""Recorded runs as a task: the nearest recipes answer."""

import math
import random
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import record_runs
from record_runs import SPACE as DRAWN
from record_runs import designs, fitted_paces, pack, run_all, step_costs
from simulator.families import FAMILIES
from simulator.play import play_study
from simulator.replay import (
    LEVELS,
    UNKNOWN_SIGMA,
    Recorded,
    RecordedTask,
    Recording,
    distance,
    load_recording,
    replicate_sigma,
    save_recording,
)
from simulator.rivals import PRACTICES, search
from simulator.space import Parameter, patch_of, values_of
from simulator.trace import play

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.study_folder import ProjectFolder

SPACE = {
    "learning_rate": Parameter(kind="log", keys=("training.learning_rate",), low=1e-4, high=1e-2),
    "batch": Parameter(kind="choice", keys=("training.per_device_train_batch_size",), choices=(8, 16, 32)),
    "optim": Parameter(kind="choice", keys=("training.optim",), choices=("adamw_torch_fused", "muon")),
}


def recording(sigma: float = 0.02) -> Recording:
    """Return a recording whose real runs are simulated ones."""
    task, runs = FAMILIES["power_law"].task(0), []
    for rate in (2e-4, 6e-4, 2e-3, 6e-3):
        for batch in (8, 32):
            values = {"learning_rate": rate, "batch": batch, "optim": "adamw_torch_fused"}
            trace = task.train(config_of(task.start, values), 1)
            runs.append(
                Recorded(
                    values=values,
                    outcome="out_of_budget",
                    steps=trace.steps.tolist(),
                    losses=trace.values["eval_loss"].tolist(),
                    seconds_per_step=float(trace.train_seconds[-1] / trace.steps[-1]),
                    tokens_per_step=trace.tokens_per_step,
                )
            )
    return Recording(start=task.start, space=SPACE, runs=tuple(runs), sigma=sigma)


def plain(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


def config_of(start: RunConfig, values: dict[str, Any]) -> RunConfig:
    return config_from_values(plain(start), patch_of(SPACE, values))


def test_a_recorded_recipe_answers_with_its_own_curve() -> None:
    whole = recording()
    for run, times in whole.recipes:
        blend = whole.blend(run.values)
        assert blend.nearest is run
        assert blend.log_times == pytest.approx(times)
        assert blend.seconds_per_step == pytest.approx(run.seconds_per_step)


def test_between_recorded_recipes_times_are_between_theirs() -> None:
    whole, level = recording(), np.searchsorted(-LEVELS, -1.5)
    values = {"batch": 32, "optim": "adamw_torch_fused"}
    seconds = [whole.blend({**values, "learning_rate": rate}).log_times[level] for rate in (6e-4, 4e-4, 3e-4, 2e-4)]
    assert seconds == sorted(seconds)
    assert len(set(seconds)) == 4


def test_a_loss_that_a_run_did_not_get_to_counts_as_far_away() -> None:
    run = replace(recording().runs[0], steps=[10, 20, 40], losses=[4.0, 2.0, 3.0], seconds_per_step=0.5)
    times = np.exp(replace(run, outcome="missed").log_times(300.0))
    assert times[np.searchsorted(-LEVELS, -3.0)] == pytest.approx(7.5, rel=0.05)
    assert times[LEVELS < 2.0] == pytest.approx(900.0)
    assert np.all(np.diff(times) >= 0)
    assert np.all(np.isnan(run.log_times(300.0)) == (LEVELS < 2.0)), "it was cut short at 20 s"
    assert np.isfinite(run.log_times(20.0)).all()


def test_a_schedule_that_ends_before_the_target_never_gets_there() -> None:
    whole = recording()
    task = RecordedTask(whole, 0)
    steps = task.true_seconds(whole.start) / whole.blend(values_of(SPACE, plain(whole.start))).seconds_per_step
    for share, reaches in ((1.2, True), (0.8, False)):
        short = config_from_values(plain(whole.start), {"training.max_steps": round(share * steps)})
        assert math.isfinite(task.true_seconds(short)) == reaches
        assert task.train(short, 1).steps[-1] <= round(share * steps)


def test_of_replicates_the_longest_answers() -> None:
    whole = recording()
    short = replace(whole.runs[0], steps=whole.runs[0].steps[:5], losses=whole.runs[0].losses[:5])
    assert len(replace(whole, runs=(short, *whole.runs)).recipes) == len(whole.runs)
    assert replace(whole, runs=(short, *whole.runs)).blend(short.values).nearest == whole.runs[0]


def test_distances_are_shares_of_the_ranges() -> None:
    left = {"learning_rate": 1e-4, "batch": 8, "optim": "muon"}
    assert distance(SPACE, left, left) == 0.0
    assert distance(SPACE, left, {**left, "learning_rate": 1e-2}) == pytest.approx(1.0)
    assert distance(SPACE, left, {**left, "batch": 16}) == pytest.approx(0.5)
    assert distance(SPACE, left, {**left, "optim": "adamw_torch_fused"}) == 1.0


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    saved = recording()
    save_recording(saved, tmp_path / "a.gz")
    save_recording(saved, tmp_path / "b.gz")
    again = load_recording(tmp_path / "a.gz")
    assert (again.start, again.space, again.sigma) == (saved.start, saved.space, saved.sigma)
    assert again.runs[3].losses == saved.runs[3].losses
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_true_times_are_those_of_the_record_and_runs_scatter_around_them() -> None:
    task = RecordedTask(recording(sigma=0.03), seed=0)
    true = task.true_seconds(task.start)
    assert true == pytest.approx(176, rel=0.15)
    runs = [
        play(task.train(task.start, seed), targets=task.start.parsed_targets(), limit_seconds=300) for seed in range(30)
    ]
    times = np.array([run.train_seconds for run in runs])
    assert {run.outcome for run in runs} == {"reached"}
    assert np.median(times) == pytest.approx(true, rel=0.05)
    assert 0.015 < np.std(np.log(times)) < 0.06
    again = task.train(task.start, 3)
    assert np.array_equal(
        again.values["eval_loss"], RecordedTask(recording(0.03), 0).train(task.start, 3).values["eval_loss"]
    )


def test_whole_studies_and_searches_play_over_a_recording() -> None:
    task = RecordedTask(recording(), seed=0)
    timeline, history = play_study(task)
    assert history.ended and timeline.num_runs > 5
    assert timeline.moments[-1][1] <= timeline.moments[0][1]
    assert search(task, PRACTICES["random"], 0).num_runs > 5


def test_the_spread_of_replicates_is_that_of_steps_to_the_lowest_loss_they_share() -> None:
    runs = recording().runs
    later = [replace(run, steps=[1.2 * step for step in run.steps], seconds_per_step=9.0) for run in runs]
    assert replicate_sigma([*runs, *later]) == pytest.approx(math.log(1.2) / math.sqrt(2))
    assert replicate_sigma(runs) == UNKNOWN_SIGMA


def test_paces_are_those_of_the_quickest_runs() -> None:
    generator, known, runs = random.Random(0), recording().runs[0], []
    for number in range(80):
        values = {name: parameter.draw(generator) for name, parameter in DRAWN.items()}
        true = math.fsum(map(math.prod, zip((2e-3, 5e-3, 4e-3, 9e-3, 3e-3), step_costs(values), strict=True)))
        slower = generator.uniform(1.0, 1.03) if number % 3 == 0 else generator.uniform(1.1, 2.0)
        runs.append((true, replace(known, values=values, seconds_per_step=true * slower)))
    fitted = fitted_paces([run for _, run in runs])
    apart = [math.log(pace / true) for pace, (true, _) in zip(fitted, runs, strict=True)]
    assert max(map(abs, apart)) < 0.1


def test_the_start_needs_three_fifths_of_the_longest_run() -> None:
    runs = []
    for number, values in enumerate(designs(20, 2)):
        pace = 0.01 * (1 + number % 5)
        steps = [round(1.05**place) for place in range(20, 160)]
        losses = [6.0 / (1 + pace * step / (4 + number % 3)) for step in steps]
        runs.append(
            Recorded(
                values=values,
                outcome="missed",
                steps=steps,
                losses=losses,
                seconds_per_step=pace,
                tokens_per_step=300.0,
            )
        )
    packed = pack(runs, 24.0)
    assert RecordedTask(packed, 0).true_seconds(packed.start) == pytest.approx(0.6 * 24, rel=0.02)
    assert (packed.start.budget.run, packed.start.budget.total) == (24.0, 12 * 24.0)
    assert pack(runs, 24.0, target=2.5).start.targets == ("eval_loss < 2.5",)


@pytest.mark.parametrize(("minutes", "started"), [(0.0, 0), (1.0, 2)])
def test_nothing_is_started_too_late_and_nothing_runs_on(
    minutes: float, started: int, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[StubbornJob] = []

    def start(*_: object) -> StubbornJob:
        jobs.append(StubbornJob())
        return jobs[-1]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # it sets this itself; here, so that it is set back
    monkeypatch.setattr(record_runs, "prepare_data", lambda *_: "")
    monkeypatch.setattr(record_runs, "start_run", start)
    monkeypatch.setattr(record_runs.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt) if started else nullcontext():
        run_all(project, designs(3, 0), 24.0, 2, minutes)
    assert [job.stopped for job in jobs] == ["interrupted"] * started


class StubbornJob:
    """A run that ends only when it is stopped."""

    stopped = ""

    def stop(self, outcome: str, reason: str) -> None:
        self.stopped = outcome
