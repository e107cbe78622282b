"""Whole runs in processes of their own: how they end, what they leave behind, and that they repeat themselves."""

import ast
import errno
import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file
from tiny_runs import fill_run, make_project, run_worker, wait_until

from hotlap.core.errors import StorageError
from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder
from hotlap.worker import run as worker

MakeRun = Callable[..., RunFolder]
Start = Callable[[RunFolder], "subprocess.Popen[str]"]

CONTRACT = Path(__file__).parents[2] / "docs" / "run-folder.md"
DROPOUT = {"model.embd_pdrop": 0.1, "model.attn_pdrop": 0.1, "model.resid_pdrop": 0.1}
REACHED = {**DROPOUT, "targets": ["eval_loss < 5.5", "eval_exact_match >= 0"], "training.max_steps": 50}
ENDLESS = {"training.max_steps": 10**7, "training.lr_scheduler_type": "constant"}
UNWATCHED = {**ENDLESS, "targets": ["eval_loss < 99"], "training.eval_steps": 10**6}
FAR_TOO_FAST = {"training.learning_rate": 1e30, "training.max_grad_norm": 0.0, "training.eval_steps": 100}
TIMED = ("train_seconds", "wall_seconds", "tokens_per_second")


def documented(name: str) -> dict[str, Any]:
    """Return the example of a JSON file from the contract."""
    section = CONTRACT.read_text().partition(f"`{name}`\n```json\n")[2].partition("```")[0]
    example: dict[str, Any] = json.loads(section)
    return example


def result_of(folder: RunFolder) -> dict[str, Any]:
    result = folder.read("result")
    assert result is not None, folder.log_tail()
    return result


def untimed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMED}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Run every case to its end, two at a time, and check the exit codes."""
    project, empty = (make_project(tmp_path_factory.mktemp(name)) for name in ("project", "empty"))
    (empty.project / "corpus.txt").write_text("")
    folders = {
        "reached": fill_run(project, REACHED, {}),
        "reached again": fill_run(project, REACHED, None),
        "missed": fill_run(project, {"targets": ["eval_loss < 0.001"]}, {}),
        "out_of_budget": fill_run(project, UNWATCHED, {"limits": {"train_seconds": 0.05, "wall_seconds": None}}),
        "diverged": fill_run(project, FAR_TOO_FAST, {}),
        "crashed": fill_run(empty, None, {}),
    }
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(run_worker, folders.values()))
    assert codes == [0, 0, 3, 124, 4, 5], {name: folder.log_tail() for name, folder in folders.items()}
    return folders


@pytest.fixture
def reached(runs: dict[str, RunFolder]) -> RunFolder:
    return runs["reached"]


def test_a_run_that_reaches_its_targets_says_when(reached: RunFolder) -> None:
    result = result_of(reached)
    assert reached.ending() == ("reached", f"all targets held at step {result['step']}")
    assert result["step"] % 10 == 0
    assert result["step"] < 50
    times = result["time_to_target"]
    assert (times["step"], times["train"]) == (result["step"], result["train_seconds"])
    assert result["train_seconds"] < times["wall"] <= result["wall_seconds"]
    assert result["metrics"]["eval_loss"] < 5.5
    assert result["metrics"]["eval_exact_match"] >= 0


def test_a_result_has_the_form_of_the_contract(reached: RunFolder) -> None:
    result, example = result_of(reached), documented("result.json")
    assert result.keys() == example.keys()
    assert result["seconds"].keys() == example["seconds"].keys()
    assert result["time_to_target"].keys() == example["time_to_target"].keys()
    assert result["metrics"].keys() >= example["metrics"].keys()
    assert result["schema"] == example["schema"]
    seconds = result["seconds"]
    assert seconds["steps"] == result["train_seconds"]
    parts = sum(seconds[part] for part in ("data", "forward", "backward", "optimizer"))
    assert 0 < parts <= seconds["steps"]
    assert sum(seconds[part] for part in ("setup", "steps", "evaluation", "saving")) <= result["wall_seconds"]
    assert result["peak_memory_bytes"] > 10**7


def test_points_have_the_fields_of_the_contract(reached: RunFolder) -> None:
    points = reached.points()
    position = {"step", "train_seconds", "wall_seconds", "tokens"}
    training = {"train_loss", "grad_norm", "learning_rate", "tokens_per_second", "padding_ratio"}
    cheap = {"eval_loss", "perplexity", "eval_byte_accuracy", "eval_word_accuracy"}
    generated = {"eval_chrf", "eval_sacrebleu", "eval_exact_match"}
    for point in points:
        figures = point.keys() - position
        assert point.keys() > position
        assert figures in (training, cheap, cheap | generated)
    assert points[-1].keys() - position == cheap | generated
    assert [point["step"] for point in points if "train_loss" in point] == list(range(5, points[-1]["step"] + 1, 5))
    assert [point["step"] for point in points if "eval_loss" in point] == list(range(10, points[-1]["step"] + 1, 10))
    for key in position:
        values = [point[key] for point in points]
        assert values == sorted(values)


def test_a_run_leaves_the_files_of_the_contract_and_no_others(reached: RunFolder) -> None:
    assert {path.name for path in reached.path.iterdir()} == {
        *("config.yaml", "command.json", "stdout.log"),  # what it was given
        *("worker.json", "environment.json", "metrics.jsonl", "samples.jsonl", "model.safetensors", "result.json"),
    }
    samples = [json.loads(line) for line in reached.samples_path.read_text().splitlines()]
    assert {frozenset(sample) for sample in samples} == {
        frozenset({"step", "train_seconds", "prompt", "generated", "expected"})
    }


def test_the_console_has_the_trainers_form(reached: RunFolder) -> None:
    lines = reached.stdout_path.read_text().splitlines()
    steps = result_of(reached)["step"]
    logs = [ast.literal_eval(line) for line in lines if line.startswith("{")]
    training = [log for log in logs if "loss" in log]
    assert {tuple(log) for log in training} == {("loss", "grad_norm", "learning_rate", "epoch")}
    assert len(training) == steps // 5
    assert len([log for log in logs if "eval_loss" in log]) == steps // 10
    start = lines.index("***** eval metrics *****")
    assert lines[start - 1] == f"reached: all targets held at step {steps}"
    block = lines[start + 1 :]
    keys = [line.split("=")[0].strip() for line in block]
    assert keys == sorted(keys)
    assert {"eval_loss", "eval_runtime", "eval_samples", "num_input_tokens_seen", "perplexity"} <= set(keys)
    assert len({line.index("=") for line in block}) == len({len(line) for line in block}) == 1


def test_two_runs_of_one_config_are_equal_but_for_their_times(runs: dict[str, RunFolder]) -> None:
    twins = runs["reached"], runs["reached again"]
    first, second = twins
    assert list(map(untimed, first.points())) == list(map(untimed, second.points()))
    assert first.weights_path.read_bytes() == second.weights_path.read_bytes()
    results = [result_of(folder) for folder in twins]
    assert untimed(results[0]["metrics"]) == untimed(results[1]["metrics"])
    assert results[0]["tokens"] == results[1]["tokens"]
    texts = [[untimed(json.loads(line)) for line in f.samples_path.read_text().splitlines()] for f in twins]
    assert texts[0] == texts[1]


def test_the_weights_are_finite_and_complete(reached: RunFolder) -> None:
    weights = load_file(reached.weights_path)
    environment = reached.read("environment")
    assert environment is not None
    assert sum(tensor.numel() for tensor in weights.values()) == environment["num_parameters"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_schedule_that_ends_first_is_a_miss(runs: dict[str, RunFolder]) -> None:
    folder = runs["missed"]
    result = result_of(folder)
    assert (result["outcome"], result["step"], result["time_to_target"]) == ("missed", 12, None)
    assert "schedule ended at step 12" in result["reason"]
    assert folder.points()[-1]["step"] == 12
    assert folder.weights_path.exists()


def test_a_limit_on_the_training_clock_ends_the_run(runs: dict[str, RunFolder]) -> None:
    """The targets hold at the final evaluation, but that is not on the grid, so it is no time to target."""
    folder = runs["out_of_budget"]
    result = result_of(folder)
    assert (result["outcome"], result["time_to_target"]) == ("out_of_budget", None)
    assert re.fullmatch(r"[\d.]+ s on the train clock, the limit is 0\.1 s", result["reason"])
    assert 0.02 <= result["train_seconds"] < 0.5  # the step that would not fit is not taken
    assert result["metrics"]["eval_loss"] < 99
    assert folder.weights_path.exists()


def test_a_learning_rate_that_is_far_too_high_diverges(runs: dict[str, RunFolder]) -> None:
    result = result_of(runs["diverged"])
    assert result["outcome"] == "diverged"
    assert "lower the learning rate" in result["reason"]
    assert result["step"] < 12
    assert not runs["diverged"].weights_path.exists()


def test_an_empty_corpus_is_a_crash_with_a_reason_and_no_traceback(runs: dict[str, RunFolder]) -> None:
    folder = runs["crashed"]
    result = result_of(folder)
    assert (result["outcome"], result["step"], result["metrics"]) == ("crashed", 0, {})
    assert result["reason"].startswith("the corpus is empty: 0 sentence(s)")
    assert folder.log_tail(1) == f"crashed: {result['reason']}"
    assert "DataError" not in folder.log_tail(100)
    assert result.keys() | {"peak_memory_bytes", "base_memory_bytes"} == documented("result.json").keys()


def test_a_signal_ends_the_run_at_the_next_step(make_run: MakeRun, start: Start) -> None:
    folder = make_run(ENDLESS)
    process = start(folder)
    wait_until(folder.points)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    result = result_of(folder)
    assert result["outcome"] == "interrupted"
    assert result["reason"] == f"SIGTERM at step {result['step']}"
    assert result["metrics"]["train_loss"] > 0
    assert not folder.weights_path.exists()


def test_a_killed_run_leaves_readable_points_and_no_result(make_run: MakeRun, start: Start) -> None:
    """A driver that goes away takes its run along: the worker kills its own process group, as `kill -9` would."""
    driver = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        folder = make_run(ENDLESS, {"driver": process_identity(driver.pid)})
        process = start(folder)
        wait_until(folder.points)
        assert process.poll() is None
        assert folder.ending() is None
    finally:
        driver.kill()
        driver.communicate()
    assert process.wait(60) == -signal.SIGKILL
    assert folder.ending() == ("lost", "the process is gone and left no result")
    assert folder.read("result") is None
    assert not list(folder.path.glob("*.tmp"))
    assert all({"step", "tokens"} < point.keys() for point in folder.points())


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunFolder], int]:
    """Run the worker's entry point in this process, without its signal handlers."""

    def run(folder: RunFolder) -> int:
        monkeypatch.setattr(sys, "argv", ["worker", str(folder.path)])
        monkeypatch.setattr(worker.Session, "listen", lambda _: None)
        return worker.main()

    return run


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (ZeroDivisionError("division by zero"), "crashed", "ZeroDivisionError: division by zero"),
        (MemoryError(), "out_of_memory", "MemoryError: "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory", "RuntimeError: DefaultCPUAlloc"),
    ],
)
def test_whatever_goes_wrong_becomes_a_recorded_outcome(
    make_run: MakeRun,
    main: Callable[[RunFolder], int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    outcome: str,
    reason: str,
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(worker.TrainingRun, "train", fail)
    folder = make_run()
    assert main(folder) == 5
    result = result_of(folder)
    assert result["outcome"] == outcome
    assert result["reason"].startswith(reason)
    assert ("Traceback" in capfd.readouterr().err) == (outcome == "crashed")


def test_a_config_that_cannot_be_used_is_a_crash(make_run: MakeRun, main: Callable[[RunFolder], int]) -> None:
    folder = make_run()
    folder.config_path.write_text("training: {learning_rat: 1}\n")
    assert main(folder) == 5
    assert "did you mean 'learning_rate'?" in result_of(folder)["reason"]


def test_one_folder_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["worker"])
    assert worker.main() == 2
    assert capsys.readouterr().err == "usage: python -m hotlap.worker RUN_FOLDER\n"


@pytest.mark.parametrize(
    "error", [StorageError("cannot append to metrics.jsonl: No space left on device"), OSError(errno.ENOSPC, "no room")]
)
def test_a_full_disk_is_no_fault_of_the_run(
    make_run: MakeRun,
    main: Callable[[RunFolder], int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    """A study makes the run again; as a crash it would count against what was being tried."""

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(worker.TrainingRun, "train", fail)
    folder = make_run()
    assert main(folder) == 130
    assert (result_of(folder)["outcome"], result_of(folder)["reason"]) == ("interrupted", str(error))
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_that_cannot_write_its_result_says_so_with_its_exit_code(
    make_run: MakeRun, main: Callable[[RunFolder], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run({"training.max_steps": 1})
    write = RunFolder.write

    def is_full_at_the_end(self: RunFolder, name: str, value: dict[str, object]) -> None:
        if name == "result":
            raise StorageError("cannot write result.json: No space left on device")
        write(self, name, value)

    monkeypatch.setattr(RunFolder, "write", is_full_at_the_end)
    assert main(folder) == 125
    assert folder.read("result") is None


@pytest.mark.parametrize("most_bytes", [100, 700, 3000])
def test_a_run_whose_files_may_not_grow_ends_without_a_verdict(
    make_run: MakeRun, start: Start, most_bytes: int
) -> None:
    """A limit on the size of files is met in the middle of a line, as a full disk is."""
    folder = make_run({"training.max_steps": 2000, "training.logging_steps": 1})
    process = start(folder)
    psutil.Process(process.pid).rlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    assert process.wait(60) in (120, 125, 130)
    ending = folder.ending()
    assert ending is not None
    assert ending[0] in ("lost", "interrupted")
    assert all({"step", "tokens"} < point.keys() for point in folder.points())
