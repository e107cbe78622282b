"""`hotlap.log` and `hotlap.HFCallback`: metrics from inside a script."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hotlap
from hotlap.capture.capture import Capture
from hotlap.core.errors import ConfigError
from hotlap.core.logged import METRICS_FILE

STATE = SimpleNamespace(is_world_process_zero=True, global_step=40)


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "metrics.jsonl"
    monkeypatch.setenv(METRICS_FILE, str(path))
    monkeypatch.delenv("RANK", raising=False)
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Scalar:
    """Stands for a tensor with one element, which knows how to become a float."""

    def __float__(self) -> float:
        return 0.5


class Several:
    def __float__(self) -> float:
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")


def test_a_call_is_a_line_with_its_time(logged: Path) -> None:
    hotlap.log({"val_loss": 3.280412345678901, "n": 3}, step=7)
    hotlap.log({"step": 8, "val_loss": 3.2})
    first, second = lines_of(logged)
    assert {**first, "unix_seconds": 0} == {"step": 7, "unix_seconds": 0, "val_loss": 3.280412345678901, "n": 3}
    assert first["unix_seconds"] <= second["unix_seconds"]
    assert second["step"] == 8


def test_what_is_logged_is_what_is_read(logged: Path) -> None:
    capture = Capture({"metrics_file": str(logged)})
    hotlap.log({"val_loss": 1 / 3, "deep": {"acc": 0.5}, "bad": math.nan}, step=7)
    (reading,) = capture.poll(1.0)
    assert reading.step == 7
    assert reading.metrics == pytest.approx({"val_loss": 1 / 3, "deep.acc": 0.5, "bad": math.nan}, nan_ok=True)
    assert reading.decimals == {}


def test_numbers_of_any_kind_are_taken_and_nothing_else(logged: Path) -> None:
    metrics = {"a": Scalar(), "b": True, "c": "3.5", "d": None, "e": Several(), "f": [1.0], 5: 2.0, "g": {"h": "x"}}
    hotlap.log(metrics, step=2.0)  # type: ignore[arg-type]
    (line,) = lines_of(logged)
    assert {**line, "unix_seconds": 0} == {"step": 2, "unix_seconds": 0, "a": 0.5, "b": 1, "5": 2.0}


@pytest.mark.parametrize(
    ("metrics", "step", "problem"),
    [
        (3.5, 1, r'hotlap.log: expected a mapping such as \{"val_loss": 3.2\}, got float'),
        ({"a": 1.0}, 1.5, "hotlap.log: step: expected a whole number, got 1.5"),
        ({"a": 1.0}, "1", "hotlap.log: step: expected a whole number, got '1'"),
    ],
)
def test_calls_that_mean_nothing_are_named(logged: Path, metrics: Any, step: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        hotlap.log(metrics, step=step)


def test_outside_of_a_run_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(METRICS_FILE, raising=False)
    hotlap.log(object(), step="x")  # type: ignore[arg-type]
    monkeypatch.setenv(METRICS_FILE, "")
    hotlap.log({"a": 1.0})


def test_only_the_first_of_several_processes_reports(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    hotlap.log({"a": 1.0})
    assert not logged.exists()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv(METRICS_FILE, f"{logged}.first")
    hotlap.log({"a": 1.0})
    assert Path(f"{logged}.first").exists()


def test_a_file_that_cannot_be_written_does_not_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nowhere" / "metrics.jsonl"
    monkeypatch.setenv(METRICS_FILE, str(path))
    hotlap.log({"a": 1.0})
    hotlap.log({"a": 2.0})
    assert (
        capsys.readouterr().err
        == f"hotlap.log: cannot write {path}: No such file or directory; nothing more is logged\n"
    )


def test_processes_that_are_forked_write_whole_lines(logged: Path) -> None:
    program = (
        "import os, hotlap\n"
        "hotlap.log({'before': 1.0})\n"
        "children = [os.fork() for _ in range(3)]\n"
        "for index in range(50):\n"
        "    hotlap.log({'value': 1.5}, step=index)\n"
        "for child in filter(None, children):\n"
        "    os.waitpid(child, 0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(hotlap.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert len(lines_of(logged)) == 1 + 8 * 50


def test_the_callback_reports_what_the_trainer_logs(logged: Path) -> None:
    callback = hotlap.HFCallback()
    assert callback.on_train_begin("args", STATE, "control", model=None) is None
    callback.on_log("args", STATE, "control", logs={"loss": 0.52341234, "epoch": 1.0})
    callback.on_log("args", STATE, "control", logs={"train_loss": 0.6, "train_runtime": 2.5})
    callback.on_log("args", SimpleNamespace(is_world_process_zero=False, global_step=41), "control", logs={"loss": 9.0})
    callback.on_log("args", STATE, "control")
    first, second = lines_of(logged)
    assert (first["step"], first["train_loss"], first["epoch"]) == (40, 0.52341234, 1.0)
    assert (second["train_loss_mean"], second["train_runtime"]) == (0.6, 2.5)


def test_the_callback_has_events_and_nothing_else() -> None:
    with pytest.raises(AttributeError, match="'HFCallback' object has no attribute 'close'"):
        hotlap.HFCallback().close  # noqa: B018


def test_logging_loads_nothing_but_the_standard_library() -> None:
    program = (
        "import sys, hotlap; hotlap.log({'a': 1.0}); hotlap.HFCallback()\n"
        "print(*{name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - {'__main__'})"
    )
    environment = {"PYTHONPATH": str(Path(hotlap.__file__).parents[1]), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-S", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert ended.stdout.split() == ["hotlap"]


@pytest.mark.slow
def test_the_real_trainer_takes_the_callback(logged: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=8, n_positions=8)
    rows = [{"input_ids": torch.arange(4), "labels": torch.arange(4)} for _ in range(8)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=4,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    model = transformers.GPT2LMHeadModel(config)
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=rows, callbacks=[hotlap.HFCallback()]
    )
    trainer.train()
    lines = lines_of(logged)
    assert [line["step"] for line in lines if "train_loss" in line] == [2, 4]
    assert [line["step"] for line in lines if "eval_loss" in line] == [4]
    history = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert [line["eval_loss"] for line in lines if "eval_loss" in line] == history
