"""Runs of two real processes: they train as one does, end together and leave nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_runs import fill_run, make_project, wait_until

import hotlap
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import Job, LaunchFacts, LocalLauncher
from hotlap.launch.sessions import living_marks, run_mark

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Launch = Callable[..., Job]

CURVE = {
    "training.max_steps": 20,
    "training.logging_steps": 1,
    "training.eval_steps": 10,
    "training.lr_scheduler_type": "constant",
    "task.max_eval_samples": 33,  # one process gets an example more than the other
    "model.embd_pdrop": 0.0,
    "model.attn_pdrop": 0.0,
    "model.resid_pdrop": 0.0,
}
PART = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = {
    **{key: value for key, value in CURVE.items() if not key.startswith("model.")},
    "model": {"name": "word_latent", "encoder": PART, "latent": PART, "decoder": PART},
}
ENDLESS = {"training.max_steps": 1_000_000, "training.logging_steps": 1}
WALL_SECONDS = 200.0


@pytest.fixture(scope="module", autouse=True)
def cpu_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


def launch(
    project: ProjectFolder, devices: int, patch: dict[str, Any], limits: dict[str, float | None] | None = None
) -> Job:
    folder = fill_run(project, {"devices": devices, **patch}, None)
    facts = LaunchFacts(directory=project.project, devices=devices, limits=limits or {})
    return LocalLauncher().start(folder, facts)


def finished(job: Job) -> RunFolder:
    """Wait for the end of a run and see that nothing of it lives on."""
    assert job.wait(WALL_SECONDS), job.folder.log_tail(40)
    assert run_mark(job.folder) not in living_marks()
    return job.folder


def result_of(folder: RunFolder) -> dict[str, Any]:
    result = folder.read("result")
    assert result is not None, folder.log_tail(40)
    return result


def values(folder: RunFolder, metric: str) -> list[float]:
    return [point[metric] for point in folder.points() if metric in point]


@pytest.fixture(scope="module")
def module_project(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def curves(module_project: ProjectFolder) -> dict[str, RunFolder]:
    """The same training: 16 rows a step on one process, on two, and on two with accumulation."""
    shapes = {"one": (1, 16, 1), "two": (2, 8, 1), "accumulated": (2, 4, 2)}
    found = {}
    for name, (devices, rows, accumulation) in shapes.items():
        batch = {
            "training.per_device_train_batch_size": rows,
            "training.gradient_accumulation_steps": accumulation,
        }
        found[name] = finished(launch(module_project, devices, {**CURVE, **batch}))
        assert result_of(found[name])["outcome"] == "reached", found[name].log_tail(40)
    return found


@pytest.mark.parametrize("other", ["two", "accumulated"])
def test_the_loss_curve_does_not_depend_on_the_number_of_processes(curves: dict[str, RunFolder], other: str) -> None:
    one, several = curves["one"], curves[other]
    assert len(values(one, "train_loss")) == 20
    assert values(several, "train_loss") == pytest.approx(values(one, "train_loss"), abs=1e-5)
    assert values(several, "grad_norm") == pytest.approx(values(one, "grad_norm"), rel=1e-4)


def test_each_example_is_evaluated_exactly_once(curves: dict[str, RunFolder]) -> None:
    assert len(values(curves["one"], "eval_loss")) == 2
    for metric in ("eval_loss", "eval_byte_accuracy", "eval_word_accuracy"):
        assert values(curves["two"], metric) == pytest.approx(values(curves["one"], metric), abs=1e-5)
    metrics = [result_of(curves[name])["metrics"] for name in ("one", "two")]
    for metric in ("eval_chrf", "eval_exact_match"):
        assert metrics[0][metric] == pytest.approx(metrics[1][metric], abs=1e-5)


def test_words_are_trained_and_evaluated_on_two_processes_as_on_one(module_project: ProjectFolder) -> None:
    one, two = (
        finished(launch(module_project, devices, {**WORDS, "training.per_device_train_batch_size": 16 // devices}))
        for devices in (1, 2)
    )
    assert len(values(one, "train_loss")) == 20
    assert values(two, "train_loss") == pytest.approx(values(one, "train_loss"), abs=1e-5)
    for metric in ("eval_loss", "eval_byte_accuracy", "eval_word_accuracy"):
        assert values(two, metric) == pytest.approx(values(one, metric), abs=1e-4)
    results = [result_of(folder) for folder in (one, two)]
    assert results[0]["tokens"] == results[1]["tokens"]
    assert results[0]["evaluated_tokens"] == results[1]["evaluated_tokens"] > 0
    assert results[0]["metrics"]["eval_chrf"] == pytest.approx(results[1]["metrics"]["eval_chrf"], abs=1e-5)


def test_the_processes_count_together(curves: dict[str, RunFolder]) -> None:
    results = [result_of(curves[name]) for name in ("one", "two")]
    assert results[0]["tokens"] == results[1]["tokens"]
    environment = curves["two"].read("environment")
    assert environment is not None
    assert environment["devices"] == 2


def test_only_one_process_writes(curves: dict[str, RunFolder]) -> None:
    steps = [point["step"] for point in curves["two"].points() if "train_loss" in point]
    assert steps == list(range(1, 21))
    lines = curves["two"].stdout_path.read_text().splitlines()
    assert lines.count("***** eval metrics *****") == 1


def test_a_budget_ends_all_processes_in_time(module_project: ProjectFolder) -> None:
    folder = finished(launch(module_project, 2, ENDLESS, {"train_seconds": 1.0}))
    result = result_of(folder)
    assert result["outcome"] == "out_of_budget"
    assert 0.5 <= result["train_seconds"] < 2.0  # the step that would not fit is not taken
    assert folder.weights_path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_all_processes_at_one_step(module_project: ProjectFolder, number: signal.Signals) -> None:
    job = launch(module_project, 2, ENDLESS)
    wait_until(lambda: job.folder.points() or job.poll())
    os.kill(job.pid, number)
    result = result_of(finished(job))
    assert result["outcome"] == "interrupted"
    assert result["reason"].endswith(f"at step {result['step']}")


def test_a_process_that_dies_takes_the_run_along(module_project: ProjectFolder) -> None:
    job = launch(module_project, 2, ENDLESS)
    wait_until(lambda: job.folder.points() or job.poll())
    psutil.Process(job.pid).children()[1].kill()
    ending = finished(job).ending()
    assert ending is not None
    assert ending[0] in ("crashed", "lost")


def test_kill_9_of_torchrun_leaves_no_process(module_project: ProjectFolder) -> None:
    job = launch(module_project, 2, ENDLESS)
    wait_until(lambda: job.folder.points() or job.poll())
    assert len(psutil.Process(job.pid).children()) == 2
    os.kill(job.pid, signal.SIGKILL)
    assert finished(job).ending() == ("lost", "the process is gone and left no result")


def torchrun_by_hand(folder: RunFolder, directory: Path) -> "subprocess.Popen[bytes]":
    """Start the workers as a user does, without a launcher."""
    source = str(Path(hotlap.__file__).parents[1])
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "hotlap.worker"]
    with folder.stdout_path.open("wb") as log:
        return subprocess.Popen(
            [*words, str(folder.path)],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_torchrun_may_be_started_by_hand(module_project: ProjectFolder) -> None:
    folder = fill_run(module_project, {"training.max_steps": 5}, None)
    process = torchrun_by_hand(folder, module_project.project)
    assert process.wait(WALL_SECONDS) == 0, folder.log_tail(40)
    result = result_of(folder)
    assert (result["outcome"], result["step"]) == ("reached", 5)
    assert folder.ending() == ("reached", result["reason"])


def test_workers_end_with_a_torchrun_that_was_started_by_hand(module_project: ProjectFolder) -> None:
    folder = fill_run(module_project, ENDLESS, None)
    process = torchrun_by_hand(folder, module_project.project)
    ranks: list[psutil.Process] = []
    try:
        wait_until(lambda: folder.points() or process.poll() is not None)
        ranks = psutil.Process(process.pid).children()
        assert len(ranks) == 2
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(ranks, timeout=20)
        assert not [rank for rank in alive if rank.status() != psutil.STATUS_ZOMBIE]
    finally:
        process.kill()
        process.wait()
        for rank in ranks:
            if rank.is_running():
                rank.kill()
