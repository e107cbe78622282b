"""The process of a cell: what becomes of its answer, of its silence, of its time limit, and of what it started."""

import json
import sys
import time
from pathlib import Path

import psutil
import pytest

from hotlap.bench.cell_process import measure_cell, with_disturbance
from hotlap.bench.plan import BenchPlan, GridCell
from hotlap.config.load import config_from_values
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.bench_records import CellRepeat
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import LaunchError

CELL = GridCell(3, {"training.bf16": True})
ANSWER = """
import json, sys
job = json.load(open(sys.argv[1]))
line = {key: job[key] for key in ("cell", "repeat", "settings")}
json.dump({**line, "outcome": "measured", "step_seconds": [0.5], "message": job["config"]}, open(job["result"], "w"))
"""


def measured(project: ProjectFolder, program: str, limit_seconds: float = 30.0, **more: object) -> CellRepeat:
    bench = BenchFolder.create(project.benches_path)
    plan = BenchPlan(axes=(), limit_seconds=limit_seconds)
    argv = (sys.executable, "-c", program)
    return measure_cell(bench, config_from_values({}), (CELL, 1), plan, project, program=argv, **more)  # type: ignore[arg-type]


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, reaped or not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_an_answer_is_taken_and_the_job_names_a_config_that_can_be_loaded(project: ProjectFolder) -> None:
    repeat = measured(project, ANSWER)
    assert (repeat.cell, repeat.repeat, repeat.settings) == (3, 1, {"training.bf16": True})
    assert repeat.step_seconds == (0.5,)
    assert Path(repeat.message).read_text(encoding="utf-8").startswith("name: run")


def test_a_process_that_takes_too_long_is_a_cell_and_nothing_of_it_is_left(project: ProjectFolder) -> None:
    child = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    note = project.project / "pid"
    program = f"{child}; open({str(note)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    repeat = measured(project, program, limit_seconds=2.0)
    assert (repeat.outcome, repeat.cell) == ("timed_out", 3)
    assert "give it longer with --limit" in repeat.message
    assert is_gone(int(note.read_text()))


def test_a_process_that_the_system_kills_ran_out_of_memory(project: ProjectFolder) -> None:
    repeat = measured(project, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert repeat.outcome == "out_of_memory"
    assert "memory was used up" in repeat.message


@pytest.mark.parametrize(
    ("program", "said"), [("raise SystemExit('no such thing')", "no such thing"), ("pass", "nothing")]
)
def test_a_process_without_an_answer_failed_with_its_last_words(
    project: ProjectFolder, program: str, said: str
) -> None:
    repeat = measured(project, program)
    assert repeat.outcome == "failed"
    assert said in repeat.message
    assert "0003-1.log" in repeat.message


def test_an_answer_of_before_does_not_count(project: ProjectFolder) -> None:
    bench = BenchFolder.create(project.benches_path)
    plan = BenchPlan(axes=())
    config = config_from_values({})
    measure_cell(bench, config, (CELL, 0), plan, project, program=(sys.executable, "-c", ANSWER))
    repeat = measure_cell(bench, config, (CELL, 1), plan, project, program=(sys.executable, "-c", "pass"))
    assert repeat.outcome == "failed"


COMPILES = """
import json, os, sys
from pathlib import Path
job = json.load(open(sys.argv[1]))
folders = [Path(os.environ[name]) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")]
was_empty = not any(folder.exists() for folder in folders)
for folder in folders:
    folder.mkdir(parents=True)
line = {key: job[key] for key in ("cell", "repeat", "settings")}
said = json.dumps([was_empty, *map(str, folders)])
json.dump({**line, "outcome": "measured", "step_seconds": [0.5], "message": said}, open(job["result"], "w"))
"""


@pytest.mark.parametrize("name", ["project", "a project"])
def test_each_repeat_compiles_anew_and_nothing_of_it_stays(tmp_path: Path, name: str) -> None:
    project = ProjectFolder(tmp_path / name).create()
    bench = BenchFolder.create(project.benches_path)
    program = (sys.executable, "-c", COMPILES)
    for number in range(2):
        repeat = measure_cell(
            bench, config_from_values({}), (CELL, number), BenchPlan(axes=()), project, program=program
        )
        was_empty, *folders = json.loads(repeat.message)
        assert was_empty
        assert len(set(folders)) == 2 and all(" " not in folder for folder in folders)
        assert not any(Path(folder).exists() for folder in folders)


def test_an_interruption_ends_the_process(project: ProjectFolder) -> None:
    note = project.project / "pid"
    program = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def tick() -> None:
        if note.exists() and note.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(project, program, tick=tick)
    deadline = time.monotonic() + 10
    while not is_gone(int(note.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_program_that_is_not_there_is_told(project: ProjectFolder) -> None:
    bench = BenchFolder.create(project.benches_path)
    with pytest.raises(LaunchError, match="cannot start /nowhere"):
        measure_cell(bench, config_from_values({}), (CELL, 0), BenchPlan(axes=()), project, program=("/nowhere",))


def test_a_busy_neighbour_is_told_and_a_quiet_machine_is_not() -> None:
    repeat = CellRepeat(0, 0, {}, "measured", step_seconds=(0.1,))
    busy = [{"seconds": 4.0 + n, "cores": 2, "other_cores": 1.5, "steal_percent": 0.0} for n in range(4)]
    assert "1.50 cores busy" in with_disturbance(repeat, busy).message
    assert not with_disturbance(repeat, [{**sample, "other_cores": 0.0} for sample in busy]).message
    assert not with_disturbance(CellRepeat(0, 0, {}, "out_of_memory"), busy).message
    told = with_disturbance(CellRepeat(0, 0, {}, "measured", "about", step_seconds=(0.1,)), busy).message
    assert told.startswith("about; other processes kept 1.50 cores busy")
