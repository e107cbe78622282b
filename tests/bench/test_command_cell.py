"""A cell of a command: what is known of a run that told too little, or too slowly."""

import sys
from pathlib import Path

import pytest

from hotlap.bench.command_cell import CUT_STEPS, UNTOLD, measure_command
from hotlap.bench.plan import BenchPlan, GridCell
from hotlap.config.load import config_from_values
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.bench_records import CellRepeat
from hotlap.core.study_folder import ProjectFolder

SLOW = """
import time
for step in range(1, 6):
    time.sleep(0.01)
    print(f"step {step} loss 1.0", flush=True)
time.sleep(600)
"""


def measured(project: ProjectFolder, script: str, limit_seconds: float) -> CellRepeat:
    path: Path = project.project / "train.py"
    path.write_text(script, encoding="utf-8")
    config = config_from_values({"command": {"run": f"{sys.executable} train.py"}, "targets": ["loss < 0.1"]})
    plan = BenchPlan(axes=(), limit_seconds=limit_seconds)
    bench = BenchFolder.create(project.benches_path)
    return measure_command(bench, config, (GridCell(0, {}), 0), plan, project)


def test_a_run_that_its_time_limit_ended_says_how_many_steps_it_told(project: ProjectFolder) -> None:
    repeat = measured(project, SLOW, 4.0)
    assert repeat.is_measured and len(repeat.step_seconds) == 2
    assert repeat.evidence[CUT_STEPS] == 2.0


@pytest.mark.parametrize(
    ("ending", "facts"), [("", {UNTOLD: 1.0}), ("raise SystemExit(1)", {})], ids=["it told no step", "it crashed"]
)
def test_a_command_that_ran_and_told_nothing_has_not_failed_by_its_settings(
    project: ProjectFolder, ending: str, facts: dict[str, float]
) -> None:
    repeat = measured(project, f"print('loss 1.0', flush=True)\n{ending}\n", 60.0)
    assert (repeat.outcome, dict(repeat.evidence)) == ("failed", facts)
