"""Sweeps that are killed with -9 again and again: as many finished runs as in one that ran through, none of them twice.

A sweep of 25 points is killed 20 times (two fifths of HOTLAP_KILLS, see test_survival.py), at the points that
HOTLAP_KILL_SEED draws. With one slot everything that it learned has to be the same, the sampler's proposals included;
with two, which run ends first is up to the machine, and so is what is proposed next.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_survival import (
    DOOMED,
    KILLS,
    Reaper,
    check_index,
    check_ledger,
    comparable,
    counted,
    make_project,
    processes_of,
    wait_until,
)

from hotlap.core.study_folder import ProjectFolder
from hotlap.study.study import read_study

SWEEP_KILLS = max(1, KILLS * 2 // 5)
pytestmark = pytest.mark.slow
POINTS, TOP, SEEDS = 25, 3, 2
ALL_RUNS = 1 + POINTS + TOP * (SEEDS - 1)
"""The baseline, the points, and the best of them with another seed."""


def sweep_by(method: str) -> dict[str, Any]:
    rate = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}
    parameters = {"training.learning_rate": rate, "training.optim": {"values": ["adamw_torch", "muon"]}}
    search = {"method": method, "metric": {"name": "eval_loss", "goal": "minimize"}, "run_cap": POINTS}
    return {
        "name": "swept",
        "model": {"embd_pdrop": 0.1},
        "training": {"learning_rate": 3e-3, "lr_scheduler_type": "constant", "max_steps": 100_000},
        "budget": {"run": "60s", "total": "1000h"},
        "search": {**search, "parameters": parameters},
    }


@pytest.fixture(scope="module")
def sweep_nest() -> Iterator["subprocess.Popen[bytes]"]:
    """Start what forks the drivers."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": ""}
    command, pipe = [sys.executable, str(DOOMED), "nest"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, env=environment) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()  # ends it


@pytest.fixture
def begin_sweep(tmp_path: Path, sweep_nest: "subprocess.Popen[bytes]") -> Iterator[Callable[..., Reaper]]:
    """Make a project of a name, and what drives a sweep in it."""
    reapers: list[Reaper] = []

    def make(name: str, config: dict[str, Any], slots: int = 1) -> Reaper:
        project = make_project(tmp_path / name)
        (project.project / "slots").write_text(str(slots))
        reapers.append(Reaper(project, config, sweep_nest))
        return reapers[-1]

    yield make
    for reaper in reapers:
        reaper.end()


def check_all_ran_once(project: ProjectFolder) -> None:
    """See that every point has run once with each of its seeds, that the files agree, and that nothing is left."""
    history, runs = read_study(project)[1], counted(project)
    assert len(history.proposals) == POINTS
    assert history.ended == f"all {POINTS} points have run"
    pairs = [(run.candidate, run.seed) for run in runs]
    assert len(pairs) == len(set(pairs)) == ALL_RUNS
    assert {candidate for candidate, _ in pairs} == set(range(POINTS + 1))
    assert sorted(run.role for run in runs) == ["baseline", *["confirm"] * TOP * (SEEDS - 1), *["screen"] * POINTS]
    check_ledger(project)
    check_index(project)
    wait_until(lambda: not processes_of(project))
    assert not [path for path in project.project.rglob("*.tmp") if project.runs_path not in path.parents]


@pytest.mark.timeout(300 + 10 * SWEEP_KILLS)
def test_a_sweep_that_is_killed_again_and_again_ends_like_one_that_ran_through(
    begin_sweep: Callable[..., Reaper],
) -> None:
    through, killed = begin_sweep("through", sweep_by("bayes")), begin_sweep("killed", sweep_by("bayes"))
    through.finish()
    check_all_ran_once(through.project)
    killed.finish(SWEEP_KILLS, num_runs=ALL_RUNS)
    print(*killed.kills(), sep="\n")
    check_all_ran_once(killed.project)
    assert comparable(killed.project) == comparable(through.project)


@pytest.mark.timeout(300 + 10 * SWEEP_KILLS)
def test_two_slots_that_are_killed_again_and_again_run_every_point_once(begin_sweep: Callable[..., Reaper]) -> None:
    reaper = begin_sweep("killed", sweep_by("random"), slots=2)
    reaper.finish(max(1, SWEEP_KILLS // 2), num_runs=ALL_RUNS)
    print(*reaper.kills(), sep="\n")
    check_all_ran_once(reaper.project)
