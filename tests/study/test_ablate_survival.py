"""Ablations that are killed with -9 again and again: every variant has its runs, none of them twice.

One of 16 runs is killed a fifth as often as HOTLAP_KILLS says (see test_survival.py), at the points that
HOTLAP_KILL_SEED draws; in the end it has to say what one says that ran through.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from doomed import SEEDS_OF_AN_ABLATION
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
    renamed,
    wait_until,
)

from hotlap.core.study_folder import ProjectFolder
from hotlap.study.ablate import COMPLETE
from hotlap.study.study import read_study

ABLATION_KILLS = max(1, KILLS // 5)
pytestmark = pytest.mark.slow
VARIANTS = 4
ALL_RUNS = VARIANTS * SEEDS_OF_AN_ABLATION
CONFIG: dict[str, Any] = {
    "name": "taken",
    "model": {"embd_pdrop": 0.1},
    "training": {"learning_rate": 3e-3, "lr_scheduler_type": "constant", "max_steps": 100_000},
    "budget": {"run": "60s", "total": "1000h"},
    "ablate": ["training.optim=adamw_torch,muon", "training.learning_rate=3e-3,1e-3"],
}


@pytest.fixture(scope="module")
def ablation_nest() -> Iterator["subprocess.Popen[bytes]"]:
    """Start what forks the drivers."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": ""}
    command, pipe = [sys.executable, str(DOOMED), "nest"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, env=environment) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()  # ends it


@pytest.fixture
def begin_ablation(tmp_path: Any, ablation_nest: "subprocess.Popen[bytes]") -> Iterator[Callable[[str], Reaper]]:
    """Make a project of a name, and what drives an ablation in it."""
    reapers: list[Reaper] = []

    def make(name: str) -> Reaper:
        reapers.append(Reaper(make_project(tmp_path / name), CONFIG, ablation_nest))
        return reapers[-1]

    yield make
    for reaper in reapers:
        reaper.end()


def journal(project: ProjectFolder) -> list[str]:
    """Return the journal without runs that were killed, with the others called by their place."""
    names = {run.run_id: f"run {number}" for number, run in enumerate(counted(project), start=1)}
    lost = {run.run_id for run in read_study(project)[1].runs} - names.keys()
    (path,) = project.project.glob("ablation-*.md")
    lines = [line for line in path.read_text().splitlines() if not any(run in line for run in lost)]
    return [renamed(line, names) for line in lines if not line.startswith("- **Cost**")]


@pytest.mark.timeout(300 + 10 * ABLATION_KILLS)
def test_an_ablation_that_is_killed_again_and_again_ends_like_one_that_ran_through(
    begin_ablation: Callable[[str], Reaper],
) -> None:
    through, killed = begin_ablation("through"), begin_ablation("killed")
    through.finish()
    killed.finish(ABLATION_KILLS, num_runs=ALL_RUNS)
    print(*killed.kills(), sep="\n")
    for project in (through.project, killed.project):
        history, runs = read_study(project)[1], counted(project)
        assert history.ended == COMPLETE and len(history.proposals) == VARIANTS - 1
        pairs = [(run.candidate, run.seed) for run in runs]
        assert len(pairs) == len(set(pairs)) == ALL_RUNS
        check_ledger(project)
        check_index(project)
        wait_until(lambda project=project: not processes_of(project))  # type: ignore[misc]
    assert comparable(killed.project) == comparable(through.project)
    assert journal(killed.project) == journal(through.project)
