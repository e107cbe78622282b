"""A real study that is killed while it measures step times, goes on, and tells how its predictions came out."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import hotlap
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.bench_records import CellRepeat
from hotlap.core.files import read_json_lines
from hotlap.launch.sessions import living_marks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = """
import sys, time
is_thrifty = "--checkpointing" in sys.argv
time.sleep(0.3)
for step in range(1, 400):
    time.sleep(0.03 if is_thrifty else 0.015)
    print(f"step {step} loss {4 / step:.4f}", flush=True)
    if step % 5 == 0:
        time.sleep(0.01)
        print(f"step {step} val_loss {4 / step:.4f}", flush=True)
"""
CONFIG: Mapping[str, Any] = {
    "name": "own",
    "command": {"run": f"{sys.executable} train.py {{gradient_checkpointing?--checkpointing}}"},
    "params": {"gradient_checkpointing": True},
    "targets": ["val_loss < 0.09"],
    "budget": {"run": "20s", "total": "100s"},
    "bench": {"least_budget": "1m", "budget_ratio": 0.25},
    "calibrate": {"runs": 2},
    "record": {"runs": 2, "alpha": 0.5},
    "patience": 1,
}


def start(folder: Path, script: str = SCRIPT) -> "subprocess.Popen[str]":
    (folder / "train.py").write_text(script, encoding="utf-8")
    (folder / "hotlap.yaml").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "locks").mkdir(exist_ok=True)
    source = str(Path(hotlap.__file__).parents[1])
    places = {"PYTHONPATH": source, "XDG_RUNTIME_DIR": str(folder / "locks"), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "hotlap", "speedrun"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **places},
        start_new_session=True,
    )


def repeats_in(folder: Path) -> list[CellRepeat]:
    return list(BenchFolder(folder / ".hotlap" / "benches" / "b0001").repeats())


def wait_until(is_true: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 100
    while not is_true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_a_study_killed_while_it_measures_goes_on_and_loses_one_cell_at_most(tmp_path: Path) -> None:
    process = start(tmp_path)
    cells = tmp_path / ".hotlap" / "benches" / "b0001" / "runs" / "r0003" / "metrics.jsonl"
    try:
        wait_until(cells.exists, process)  # in the middle of the third cell
    finally:
        process.kill()
        process.communicate()
    before = repeats_in(tmp_path)
    assert [repeat.outcome for repeat in before] == ["measured"] * 2
    said, _ = start(tmp_path).communicate(timeout=200)
    after = repeats_in(tmp_path)
    assert after[:2] == before
    made = sorted(path.name for path in (tmp_path / ".hotlap" / "benches" / "b0001" / "runs").iterdir())
    assert len(made) - len(after) in (1, 2), "the one that was killed, and one that the end of the time broke off"
    assert [path.name for path in (tmp_path / ".hotlap" / "benches").iterdir()] == ["b0001"]
    assert not any(str(tmp_path) in mark for mark in living_marks())
    ledger = read_json_lines(tmp_path / ".hotlap" / "studies" / "own" / "ledger.jsonl")
    (speed,) = [event for event in ledger if event["event"] == "speed"]
    assert len(speed["cells"]) == 2 and 5 < speed["seconds"] < 26
    assert "measuring step times for " in said
    told = dict(re.findall(r"gradient_checkpointing (True|False): ([\d.]+) ms a step", said))
    assert 15 <= float(told["False"]) < float(told["True"])
    journal = (tmp_path / "SPEEDRUN.md").read_text(encoding="utf-8")
    assert "Measured in b0001 before the first run" in journal
    predicted = journal.partition("Predicted from that")[2].splitlines()
    row = next(line for line in predicted if "gradient_checkpointing True → False" in line)
    assert 0.5 < float(row.split("|")[-2]) < 2


def test_a_command_that_names_no_step_is_searched_without_step_times(tmp_path: Path) -> None:
    said = []
    with start(tmp_path, SCRIPT.replace("step {step} ", "").replace("400", "60")) as process:
        for line in process.stdout or ():
            said.append(line)
            if line.startswith("   baseline run 1"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    told = [line for line in said if "the study goes on without step times: failed: r0001: its output named" in line]
    assert len(told) == 1, said
    assert len(repeats_in(tmp_path)) == 1
    assert "Measured in" not in (tmp_path / "SPEEDRUN.md").read_text(encoding="utf-8")
