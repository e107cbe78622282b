"""`hotlap bench` from the command line to its answers, with real processes: own trainer, two devices, commands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import hotlap
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.bench_records import STEP_PARTS, CellRepeat
from hotlap.launch.sessions import living_marks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
task: {name: language_model, text: corpus.txt, block_size: 16, max_eval_samples: 4}
model: {hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 32}
training: {per_device_train_batch_size: 2, use_cpu: true}
"""
QUICK = ("--repeats", "1", "--steps", "2", "--seconds", "0", "--warmup", "1")
SCRIPT = """
import sys, time
rows = int(sys.argv[1])
for step in range(1, 10_000):
    time.sleep(0.002 * rows)
    if step % 5 == 0:
        print(f"step {step} loss {4 / step:.4f}", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = "\n\n".join(f"The {number}th sentence of a text that repeats itself a little." for number in range(15_000))
    (tmp_path / "corpus.txt").write_text(text, encoding="utf-8")
    (tmp_path / "hotlap.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    source = str(Path(hotlap.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "hotlap", "bench", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source, "CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
    )


def bench(folder: Path, *words: str, code: int = 0) -> str:
    process = start(folder, *words)
    said, complained = process.communicate(timeout=200)
    assert process.returncode == code, said + complained
    return said if "--json" in words else said + complained


def repeats_in(folder: Path, name: str = "b0001") -> Sequence[CellRepeat]:
    return BenchFolder(folder / ".hotlap" / "benches" / name).repeats()


def test_a_grid_of_the_own_trainer_has_all_its_figures(folder: Path) -> None:
    said = bench(folder, "--batch", "2,4", "--precision", "fp32,bf16", *QUICK)
    repeats = repeats_in(folder)
    assert sorted(each.cell for each in repeats) == [0, 1, 2, 3]
    for each in repeats:
        rows = each.settings["training.per_device_train_batch_size"]
        assert each.outcome == "measured", each.message
        assert len(each.step_seconds) >= 2 and min(each.step_seconds) > 0
        assert each.samples_per_step == rows
        assert each.tokens_per_step == pytest.approx(16 * rows, abs=8)
        assert each.slots_per_step == 16 * rows
        assert set(each.seconds_by_part) == set(STEP_PARTS)
        assert each.startup_seconds > 0 and each.warmup_seconds > 0
        assert each.peak_memory_bytes and each.flops_per_step and each.matmul_flops
        assert each.peak_flops is None and each.device and each.threads >= 1
        assert each.evidence["num_operations"] > 0 and each.evidence["product_seconds"] > 0
        assert each.evidence["device_memory_bytes"] > each.peak_memory_bytes
    assert "Suggestion" in said and "bench.md" in said
    plan = BenchFolder(folder / ".hotlap" / "benches" / "b0001").plan()
    assert plan["num_repeats"] == 4


def test_no_memory_is_a_cell_and_the_others_are_measured(folder: Path) -> None:
    ratio = "training.device_memory_ratio=0.0001"  # on a CPU that leaves what a process needs, and 256 MiB
    said = json.loads(bench(folder, "--batch", "2,40000", "-s", ratio, "--json", *QUICK))
    outcomes = {each.settings["training.per_device_train_batch_size"]: each.outcome for each in repeats_in(folder)}
    assert outcomes == {2: "measured", 40000: "out_of_memory"}
    assert said["schema"] == "hotlap/bench-summary/1" and said["ending"] == "done"
    assert {cell["outcome"] for cell in said["cells"]} == {"measured", "out_of_memory"}


def test_cells_that_cannot_be_measured_leave_exit_code_5(folder: Path) -> None:
    said = bench(folder, "--batch", "2", "--limit", "0.2s", *QUICK, code=5)
    assert repeats_in(folder)[0].outcome == "timed_out"
    assert "give it longer with --limit" in said


@pytest.mark.usefixtures("whole_machine")
def test_two_devices_share_a_step(folder: Path) -> None:
    bench(folder, "--devices", "1,2", *QUICK)
    by_devices = {each.settings["devices"]: each for each in repeats_in(folder)}
    one, two = by_devices[1], by_devices[2]
    assert two.outcome == "measured", two.message
    assert (one.num_devices, two.num_devices) == (1, 2)
    assert (one.samples_per_step, two.samples_per_step) == (2, 4)
    assert two.flops_per_step == pytest.approx(2 * (one.flops_per_step or 0), rel=0.1)
    assert two.evidence["all_reduce_seconds"] > 0


def test_a_killed_bench_goes_on_and_loses_one_cell(folder: Path) -> None:
    process = start(folder, "--batch", "1,2", *QUICK)
    try:
        wait_until(lambda: len(repeats_in(folder)) >= 1)
    finally:
        process.kill()
        process.communicate()
    before = repeats_in(folder)
    said = bench(folder, "--batch", "1,2", *QUICK)
    assert f"b0001 goes on: {len(before)} measurement(s) were there" in said
    assert [each.cell for each in repeats_in(folder)][: len(before)] == [each.cell for each in before]
    assert sorted(each.cell for each in repeats_in(folder)) == [0, 1]
    assert not any(str(folder) in mark for mark in living_marks())


def test_ctrl_c_keeps_what_was_measured(folder: Path) -> None:
    process = start(folder, "--batch", "1,2", *QUICK)
    wait_until(lambda: len(repeats_in(folder)) >= 1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "hotlap bench --resume b0001" in said
    bench(folder, "--resume", "b0001")
    assert sorted(each.cell for each in repeats_in(folder)) == [0, 1]


def test_a_command_is_measured_from_its_log_lines(folder: Path) -> None:
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    config = {"command": {"run": f"{sys.executable} train.py {{batch_size}}"}, "params": {"batch_size": 1}}
    (folder / "hotlap.yaml").write_text(json.dumps(config), encoding="utf-8")
    bench(folder, "--batch", "1,4", *QUICK)
    by_rows = {each.settings["params.batch_size"]: each for each in repeats_in(folder)}
    for rows, each in by_rows.items():
        assert each.outcome == "measured", each.message
        assert each.samples_per_step == rows
        assert all(seconds >= 0.002 * rows * 0.5 for seconds in each.step_seconds)
    assert by_rows[4].step_seconds[0] > by_rows[1].step_seconds[0]
    runs = [path.name for path in (folder / ".hotlap").iterdir()]
    assert "runs" not in runs  # its runs are the bench's, and in nobody's list


def test_lines_without_steps_are_not_taken_for_steps(folder: Path) -> None:
    """The Trainer without a progress bar prints a line every logging_steps; only its rate at the end tells of steps."""
    lines = "for line in range(50): print({'loss': 4 - line / 50, 'epoch': line / 10}, flush=True); time.sleep(0.01)"
    rate = "print({'train_runtime': 9.0, 'train_steps_per_second': 500.0, 'train_loss': 3.5, 'epoch': 5.0})"
    (folder / "train.py").write_text(f"import time\n{lines}\n{rate}\n", encoding="utf-8")
    config = {"command": {"run": f"{sys.executable} train.py {{batch_size}}"}, "params": {"batch_size": 4}}
    (folder / "hotlap.yaml").write_text(json.dumps(config), encoding="utf-8")
    bench(folder, "--batch", "4", *QUICK)
    (only,) = repeats_in(folder)
    assert (only.step_seconds, only.samples_per_step) == ((0.002,), 4.0)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('hello')", "named no two steps after the first 1 ("),
        ("raise SystemExit('no data')", "ended with exit code 1: no data"),
        ("raise MemoryError('CUDA out of memory')", "out of memory"),
    ],
)
def test_a_command_that_tells_nothing_says_why(folder: Path, script: str, said: str) -> None:
    (folder / "train.py").write_text(script, encoding="utf-8")
    config = {"command": {"run": f"{sys.executable} train.py"}}
    (folder / "hotlap.yaml").write_text(json.dumps(config), encoding="utf-8")
    assert said in bench(folder, *QUICK, code=5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "0"], "--batch '0': expected whole numbers above 0"),
        (["--axis", "model.hiden_size=8"], "did you mean 'hidden_size'"),
        (["--limit", "soon"], "--limit 'soon'"),
        (["--resume", "--batch", "1"], "--resume goes on with a bench as it was planned"),
        (["--resume"], "no bench that could go on"),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(folder: Path, words: list[str], said: str) -> None:
    told = bench(folder, *words, code=2)
    assert said in told and "Traceback" not in told
    assert not (folder / ".hotlap" / "benches").exists()


def wait_until(is_true: Any) -> None:
    deadline = time.monotonic() + 100
    while not is_true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
