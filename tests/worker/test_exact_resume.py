"""The promise of resuming: a run that was killed, interrupted or cut off ends with the bits of one that never was.

With all that could break it: gradient accumulation, packed rows, data workers, dropout, a learning-rate schedule and
two optimizers with a state; on a corpus, on a generator and on a mixture of both.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import fill_run, make_project

import hotlap
from hotlap.core.files import read_json_lines
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.resume import ResumePlan, plan_resume

SETTINGS = {
    "training.max_steps": 40,
    "training.save_steps": 10,
    "training.logging_steps": 5,
    "training.eval_steps": 20,
    "training.gradient_accumulation_steps": 2,
    "training.padding": "packed",
    "training.dataloader_num_workers": 2,
    "training.optim": "muon",
    "training.lr_scheduler_type": "cosine",
    "training.warmup_steps": 4,
    "training.measure_gradient_noise": True,
    "model.embd_pdrop": 0.1,
    "model.resid_pdrop": 0.1,
}
PART = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = {
    **{key: value for key, value in SETTINGS.items() if not key.startswith("model.")},
    "training.padding": "bucketed",
    "model": {"name": "word_latent", "encoder": PART, "latent": PART, "decoder": PART, "encode_distinct": True},
}
"""The same with a model that reads words."""
CURVE = ("step", "tokens", "train_loss", "grad_norm", "learning_rate", "gradient_noise_scale", "eval_loss")
"""What has to be equal in the points; the clocks are not."""

WORKER = """
import os, signal, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # as many threads in each attempt: one
place, number = sys.argv.pop(), int(sys.argv.pop())
"""
ENDS_AT_A_POINT = """
from hotlap.core.run_folder import RunFolder
append = RunFolder.append_point
def append_and_end(folder, point):
    append(folder, point)
    if point["step"] == int(place):
        os.kill(os.getpid(), number)
RunFolder.append_point = append_and_end
"""
ENDS_WHILE_SAVING = """
from hotlap.train import checkpoint
write_json = checkpoint.write_json
def write_or_end(path, value):
    if path.parent.name == f"checkpoint-{place}.tmp":
        os.kill(os.getpid(), number)
    write_json(path, value)
checkpoint.write_json = write_or_end
"""
GOES = """
from hotlap.worker.__main__ import main
sys.exit(main())
"""

SAMPLES = """
import random

def sums(seed, largest):
    draw = random.Random(seed)
    while True:
        a, b = draw.randrange(largest), draw.randrange(largest)
        yield f"{a}+{b}=", str(a + b)
"""
SUMS = {"name": "generator", "function": "samples:sums", "largest": 5000, "max_length": 20, "max_eval_samples": 16}
ENDLESS = {
    "generator": SUMS,
    "mixture": {
        "name": "mixture",
        "by": "tokens",
        "tasks": {
            "sums": {**SUMS, "weight": 2},
            "words": {"name": "string_repetition", "max_length_bytes": 24},
            "pairs": {"name": "prompt_completion", "weight": 0.5},
        },
    },
}

pytestmark = pytest.mark.slow

MakeRun = Callable[[], RunFolder]


@pytest.fixture(scope="module")
def make_shared_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Make runs in one project, with one corpus."""
    project = make_project(tmp_path_factory.mktemp("project"))
    return lambda: fill_run(project, SETTINGS, {})


@pytest.fixture(scope="module")
def straight(make_shared_run: MakeRun) -> RunFolder:
    """Return a run that took its 40 steps in one go."""
    folder = make_shared_run()
    assert work(folder) == 0, folder.log_tail()
    return folder


def endless_run(
    project: ProjectFolder, name: str, settings: dict[str, Any] = SETTINGS, command: dict[str, Any] | None = None
) -> RunFolder:
    """Make a run on a generator, or on a mixture with one."""
    (project.project / "samples.py").write_text(SAMPLES)
    lines = [json.dumps({"prompt": f"{number}? ", "completion": str(7 * number)}) for number in range(90)]
    (project.project / "pairs.jsonl").write_text("\n".join(lines))
    task = ENDLESS[name]
    files = {"task.tasks.words.text": "corpus.txt", "task.tasks.pairs.file": "pairs.jsonl"} if "tasks" in task else {}
    absolute = {key: str(project.project / file) for key, file in files.items()}  # as the launcher writes it
    return fill_run(project, {**settings, "task": task, **absolute}, command)


def work(folder: RunFolder, number: signal.Signals = signal.SIGKILL, *, at: int = 0, how: str = ENDS_AT_A_POINT) -> int:
    """Run the worker; it gets a signal when it writes a point of step `at`, or the checkpoint; return its exit code."""
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    program = [sys.executable, "-W", "error", "-c", WORKER + how + GOES]
    with folder.stdout_path.open("a") as log:
        process = subprocess.Popen(
            [*program, str(folder.path), str(int(number)), str(at)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        return process.wait(100)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what a killed worker left behind
        process.wait()


def resume(folder: RunFolder) -> ResumePlan:
    """Do what `hotlap train --resume` does before it starts the worker."""
    plan = plan_resume(folder)
    folder.begin_attempt()
    facts = {"resume": plan.checkpoint, "wall_before_seconds": plan.wall_before_seconds}
    folder.write("command", {**(folder.read("command") or {}), **facts})
    return plan


def curve(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the points without what the clock says, and without those where a signal fell."""
    points = [point for point in folder.points() if point["step"] % 5 == 0]
    return [{name: point[name] for name in CURVE if name in point} for point in points]


def assert_same_training(folder: RunFolder, straight: RunFolder) -> None:
    result = folder.read("result")
    assert result is not None
    assert (result["outcome"], result["step"]) == ("reached", 40)
    assert folder.weights_path.read_bytes() == straight.weights_path.read_bytes()
    assert curve(folder) == curve(straight)
    assert any("gradient_noise_scale" in point for point in curve(straight) if point["step"] > 20)
    assert not list(folder.path.glob("*.tmp"))


def assert_clocks_go_on(folder: RunFolder, plan: ResumePlan) -> None:
    result = folder.read("result")
    assert result is not None
    for clock in ("train_seconds", "wall_seconds"):
        readings = [point[clock] for point in folder.points()]
        assert readings == sorted(readings)
        assert result[clock] >= readings[-1]
    first = next(point for point in folder.points() if point["step"] > plan.step)
    assert first["wall_seconds"] > plan.wall_before_seconds


def test_killed_and_resumed_twice(make_shared_run: MakeRun, straight: RunFolder) -> None:
    folder = make_shared_run()
    assert work(folder, at=25) == -signal.SIGKILL
    shutil.copytree(folder.checkpoint_path(20), folder.checkpoint_path(24))
    weights = folder.checkpoint_path(24) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])  # the newest one is damaged: it must not be used
    plan = resume(folder)
    assert (plan.checkpoint, plan.num_lost_steps) == ("checkpoint-20", 5)
    assert work(folder, at=35) == -signal.SIGKILL
    plan = resume(folder)
    assert (plan.checkpoint, plan.num_lost_steps) == ("checkpoint-30", 5)
    assert work(folder) == 0, folder.log_tail()
    assert_same_training(folder, straight)
    assert_clocks_go_on(folder, plan)
    assert {point["step"] for point in read_json_lines(folder.lost_metrics_path)} == {25, 35}


def test_a_model_of_words_goes_on_after_two_kills(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    straight, folder = (fill_run(project, WORDS, {}) for _ in range(2))
    assert work(straight) == 0, straight.log_tail()
    for at in (25, 35):
        assert work(folder, at=at) == -signal.SIGKILL
        assert resume(folder).num_lost_steps == 5
    assert work(folder) == 0, folder.log_tail()
    assert_same_training(folder, straight)


def test_killed_in_the_middle_of_saving(make_shared_run: MakeRun, straight: RunFolder) -> None:
    folder = make_shared_run()
    assert work(folder, at=20, how=ENDS_WHILE_SAVING) == -signal.SIGKILL
    assert (folder.path / "checkpoint-20.tmp").is_dir()
    assert resume(folder).checkpoint == "checkpoint-10"
    assert work(folder) == 0, folder.log_tail()
    assert_same_training(folder, straight)


def test_interrupted_by_signals_it_saves_and_goes_on(make_shared_run: MakeRun, straight: RunFolder) -> None:
    folder = make_shared_run()
    for number, at in ((signal.SIGUSR1, 15), (signal.SIGTERM, 25)):
        assert work(folder, number, at=at) == 130, folder.log_tail()
        result = folder.read("result")
        assert result is not None
        assert result["outcome"] == "interrupted"
        assert number.name in result["reason"]
        plan = resume(folder)
        assert plan.step in (at, at + 1), "the signal is heard at the end of a step, and what is done is saved"
        assert (plan.step, plan.num_lost_steps) == (result["step"], 0)
    assert work(folder) == 0, folder.log_tail()
    assert_same_training(folder, straight)
    assert_clocks_go_on(folder, plan)


@pytest.mark.parametrize("name", list(ENDLESS))
def test_endless_data_go_on_where_they_were(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    project = make_project(tmp_path_factory.mktemp(name))
    straight, folder = (endless_run(project, name, command={}) for _ in range(2))
    assert work(straight) == 0, straight.log_tail()
    assert work(folder, at=25) == -signal.SIGKILL
    plan = resume(folder)
    assert (plan.checkpoint, plan.num_lost_steps) == ("checkpoint-20", 5)
    assert work(folder) == 0, folder.log_tail()
    assert_same_training(folder, straight)
    metrics = (folder.read("result") or {})["metrics"]
    assert metrics["data_wait_ratio"] >= 0
    assert ("eval_sums_loss" in metrics) == (name == "mixture")
