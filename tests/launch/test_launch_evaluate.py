"""A second look in a process of its own, seen from the launcher: what counts as one, and that nothing stays behind."""

import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from hotlap.core.errors import RunFailedError
from hotlap.core.run_folder import RunFolder
from hotlap.launch.evaluate import NotEvaluatedError, evaluate_again, evaluation_mark, is_forsaken, is_own
from hotlap.launch.sessions import run_mark

WRITES = "import json, sys; from pathlib import Path; folder, ticket = Path(sys.argv[1]), sys.argv[2]; "


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder.create(tmp_path / "runs")
    made.write("command", {"directory": str(tmp_path), "argv": [sys.executable, "-P", "-m", "hotlap.worker", "x"]})
    return made


def program(source: str) -> tuple[str, ...]:
    return (sys.executable, "-c", source)


def told(values: str) -> str:
    return f"{WRITES}(folder / 'evaluation.json').write_text(json.dumps({values}))"


def test_what_the_process_found_comes_back(folder: RunFolder) -> None:
    found = evaluate_again(folder, program=program(told("{'ticket': ticket, 'cwd': str(Path.cwd())}")))
    assert found["cwd"] == str(folder.path.parents[1])


def test_a_run_is_evaluated_where_its_project_is_now(folder: RunFolder, tmp_path: Path) -> None:
    project = tmp_path / "moved"
    moved = RunFolder.create(project / ".hotlap" / "runs")
    moved.write("command", {**(folder.read("command") or {}), "directory": str(tmp_path / "where it was")})
    found = evaluate_again(moved, program=program(told("{'ticket': ticket, 'cwd': str(Path.cwd())}")))
    assert found["cwd"] == str(project)


def test_only_a_mark_of_an_evaluation_here_whose_driver_is_gone_is_forsaken(folder: RunFolder, tmp_path: Path) -> None:
    mark, runs = evaluation_mark(folder), folder.path.parent
    assert not is_forsaken(mark, runs), "its driver is this process"
    gone = mark.replace('"start_seconds": ', '"start_seconds": 1')
    assert is_forsaken(gone, runs)
    assert not is_forsaken(gone, tmp_path)
    assert not is_forsaken(gone.replace(socket.gethostname(), "another-machine"), runs)
    for other in ("", run_mark(folder), mark[:-1], f"{run_mark(folder)} evaluated by 7"):
        assert not is_forsaken(other, runs)


def test_an_older_evaluation_is_no_evaluation(folder: RunFolder) -> None:
    folder.write("evaluation", {"ticket": "0123456789abcdef", "eval": {"metrics": {"eval_loss": 0.1}}})
    with pytest.raises(RunFailedError, match="the evaluation ended with exit code 0"):
        evaluate_again(folder, program=program("pass"))
    with pytest.raises(RunFailedError, match="nice try"):
        evaluate_again(folder, program=program(told("{'ticket': 'guessed'}") + "; print('nice try')"))


def test_an_evaluation_that_fails_says_why(folder: RunFolder) -> None:
    with pytest.raises(RunFailedError, match="the weights do not fit"):
        evaluate_again(folder, program=program("import sys; sys.exit('the weights do not fit')"))
    with pytest.raises(RunFailedError, match="exit code 3"):
        evaluate_again(folder, program=program(told("{'ticket': ticket}") + "; sys.exit(3)"))


def test_an_evaluation_that_is_killed_says_nothing_of_the_run(folder: RunFolder) -> None:
    with pytest.raises(NotEvaluatedError, match="killed from outside"):
        evaluate_again(folder, program=program("import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(NotEvaluatedError, match="out of memory"):
        evaluate_again(folder, program=program("import sys; print('out of memory'); sys.exit(75)"))
    with pytest.raises(NotEvaluatedError, match="cannot start"):
        evaluate_again(folder, program=("/nowhere/python",))


def test_an_evaluation_that_hangs_is_ended_with_all_that_it_started(folder: RunFolder) -> None:
    child = folder.path / "child"
    source = (
        f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"open({str(child)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    )
    start = time.monotonic()
    with pytest.raises(NotEvaluatedError, match="took too long"):
        evaluate_again(folder, program=program(source), limit_seconds=1.5)
    assert time.monotonic() - start < 30
    pid = int(child.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "no process stays behind"


def test_the_user_can_break_it_off(folder: RunFolder) -> None:
    with pytest.raises(NotEvaluatedError, match="stopped by the user"):
        evaluate_again(folder, lambda: True, program=program("import time; time.sleep(60)"))


def test_only_runs_of_hotlaps_own_worker_can_be_looked_at_again(folder: RunFolder, tmp_path: Path) -> None:
    assert is_own(folder)
    other = RunFolder.create(tmp_path / "runs")
    assert not is_own(other)
    other.write("command", {"argv": ["bash", "train.sh"]})
    assert not is_own(other)
