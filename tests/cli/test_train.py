"""`hotlap train` in this process, with the fake worker in the place of the trainer."""

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hotlap.cli import main, progress
from hotlap.cli.train import config_and_run
from hotlap.config import load
from hotlap.core.errors import ConfigError
from hotlap.core.files import read_json_lines
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import locks, prepare
from hotlap.launch.local import Job, LocalLauncher

FAKE_WORKER = Path(__file__).parents[1] / "study" / "fake_worker.py"
CONFIG = """\
name: toy
training:
  learning_rate: 3.0e-3
  per_device_train_batch_size: 32
  lr_scheduler_type: constant
  max_steps: 100000
targets: [eval_loss < 0.76, eval_byte_accuracy > 0.75, eval_sacrebleu > 0.3]
budget: {run: 1h, total: 1000h}
"""
CASES = [
    {"when": {"training.weight_decay": 0.5}, "does": "crash"},
    {"when": {"training.weight_decay": 0.25}, "does": "vanish"},
    {"when": {"training.weight_decay": 0.125}, "does": "exit"},
    {"when": {"training.weight_decay": 0.75}, "does": "hang"},
]
CRASH, VANISH, EXIT, HANG = (f"training.weight_decay={case['when']['training.weight_decay']}" for case in CASES)  # type: ignore[index]

Start = Callable[..., int]


@pytest.fixture
def start(project: ProjectFolder, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Call the entry point in a project with a config, as a shell would; return the exit code."""
    (project.project / "hotlap.yaml").write_text(CONFIG)
    (project.project / "fake.json").write_text(json.dumps({"sigma": 0.0, "cases": CASES}))
    monkeypatch.chdir(project.project)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setattr(LocalLauncher.__init__, "__defaults__", ((sys.executable, str(FAKE_WORKER)),))
    monkeypatch.setattr(prepare, "prepare_data", lambda folder, config: "40 training examples")

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hotlap", *words])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return int(ended.value.code or 0)

    return call


def record_of(project: ProjectFolder, run_id: str = "r0001") -> tuple[str, str]:
    ending = RunFolder(project.runs_path / run_id).ending()
    assert ending is not None
    return ending


@pytest.mark.parametrize(
    ("setting", "code", "first_line"),
    [
        ("training.warmup_steps=0", 0, "✓ reached: reached at step 2000"),
        ("training.max_steps=100", 3, "✗ missed: missed at step 100"),
        ("training.learning_rate=2", 4, "✗ diverged: "),
        (CRASH, 5, "✗ crashed: RuntimeError: toy trouble"),
        (EXIT, 5, "✗ crashed: the process ended with exit code 7"),
        (VANISH, 5, "✗ lost: the process is gone and left no result"),
        ("budget.run=5s", 124, "✗ out of budget: out of budget at step 100"),
    ],
)
def test_the_exit_code_and_the_summary_tell_how_it_ended(
    start: Start, capsys: pytest.CaptureFixture[str], setting: str, code: int, first_line: str
) -> None:
    assert start("train", "-s", setting) == code
    told = capsys.readouterr()
    assert told.err == ""
    assert any(line.startswith(first_line) for line in told.out.splitlines())
    assert told.out.splitlines()[-1].endswith("next: hotlap speedrun · hotlap runs show r0001")
    assert ("time to target" in told.out) == (code == 0)


def test_the_closing_summary_and_the_log_of_a_run(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("train") == 0
    task, *lines = capsys.readouterr().out.splitlines()
    assert task == "task string_repetition: 40 training examples"
    printed = (project.runs_path / "r0001" / "stdout.log").read_text().splitlines()
    assert len(printed) == 20
    assert lines[: len(printed)] == printed, "what the run prints is shown, all of it and once"
    summary = dict(enumerate(lines[len(printed) :]))
    assert len(summary) == 7
    assert summary[1] == "  time to target  1:40 (train clock) · 1:42 (wall clock)"
    assert summary[2].split()[0] == "train_loss" and summary[2].split()[1] == "█▇▆▆▅▄▃▃▂▁"
    assert summary[3].split()[::2] == ["eval_loss", "0.75"]
    assert summary[4].split()[::2] == ["eval_byte_accuracy", "0.76"]
    assert "setup 2.00 s · steps 1:40 · evaluation 0.00 s · saving 0.00 s · wall 1:42" in summary[5]
    assert str(project.runs_path / "r0001") in summary[6]


def test_a_run_is_stored_with_its_settings_and_limits(start: Start, project: ProjectFolder) -> None:
    assert start("train", "hotlap.yaml", "-s", "training.seed=7", "--set", "budget.run=2m") == 0
    folder = RunFolder(project.runs_path / "r0001")
    assert "seed: 7" in folder.config_path.read_text()
    command = folder.read("command")
    assert command is not None
    assert (command["role"], command["seed"], command["study"]) == ("manual", 7, "")
    assert command["limits"] == {"train_seconds": 120.0, "wall_seconds": None}
    assert start("train") == 0
    assert sorted(path.name for path in project.runs_path.iterdir()) == ["r0001", "r0002"]


def test_the_limit_is_on_the_clock_that_the_config_names(start: Start, project: ProjectFolder) -> None:
    assert start("train", "-s", "clock=wall", "-s", "budget.run=50s") == 124
    result = RunFolder(project.runs_path / "r0001").read("result")
    assert result is not None
    assert result["wall_seconds"] == pytest.approx(50.0)


@contextmanager
def busy(device: str, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    if on_wait is not None:
        on_wait(f"waiting for {device}: process 1 is running on it")
    yield


@pytest.mark.parametrize(
    ("setting", "code", "outcome"), [("training.warmup_steps=0", 0, "reached"), (VANISH, 5, "lost")]
)
def test_json_is_one_document_and_nothing_else(
    start: Start,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    code: int,
    outcome: str,
) -> None:
    monkeypatch.setattr(locks, "device_lock", busy)
    assert start("train", "--json", "-s", setting) == code
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["run"], document["outcome"]) == ("hotlap/run/1", "r0001", outcome)
    assert document["reason"]
    if outcome == "reached":
        assert document["time_to_target"] == {"train": 100.0, "wall": 102.0, "step": 2000}
        assert document["metrics"]["eval_loss"] == pytest.approx(0.75)


def test_a_busy_device_is_told(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "device_lock", busy)
    assert start("train") == 0
    assert capsys.readouterr().out.count("waiting for ") == 1


def interrupt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C when the run shows its first points."""
    pressed = []

    def text(run_id: str, config: Any, points: Sequence[Any]) -> str:
        if points and not pressed:
            pressed.append(run_id)
            signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.setattr(progress, "progress_text", text)


def test_ctrl_c_stops_the_run_and_still_sums_up(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_once(monkeypatch)
    assert start("train", "-s", HANG) == 130
    assert record_of(project) == ("interrupted", "stopped by the user")
    assert not RunFolder(project.runs_path / "r0001").is_running()
    assert "✗ interrupted: stopped by the user" in capsys.readouterr().out


def test_ctrl_c_leaves_nothing_running_wherever_it_comes(
    start: Start, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll, calls = Job.poll, []

    def press(job: Job) -> bool:
        calls.append(job)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return poll(job)

    monkeypatch.setattr(Job, "poll", press)
    assert start("train", "-s", HANG) == 130
    assert record_of(project)[0] == "interrupted"
    assert not RunFolder(project.runs_path / "r0001").is_running()


def test_a_typo_is_told_with_its_line_and_the_right_name(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("hotlap.yaml")
    path.write_text(path.read_text().replace("learning_rate:", "learning_rat:"))
    assert start("train") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "hotlap: error: hotlap.yaml has 1 problem(s):",
        "  hotlap.yaml:3: training.learning_rat: unknown key; did you mean 'learning_rate'?",
    ]
    assert not Path(".hotlap/runs").exists()


def test_missing_torch_is_one_line_with_the_command(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_torch(monkeypatch)
    assert start("train") == 7
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "hotlap: error: torch not installed; run: pip install 'hotlap[train]'\n")
    assert not Path(".hotlap/runs").exists()


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch, and only torch, be missing; the corpus is prepared as always."""
    find_spec = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        if name == "torch":
            return None
        return "found" if name in ("safetensors", "sacrebleu") else find_spec(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(prepare, "prepare_data", PREPARE_DATA)


PREPARE_DATA = prepare.prepare_data


@pytest.mark.parametrize("command", ["train", "speedrun"])
def test_a_project_below_a_file_cannot_be_made(start: Start, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert start(command, "-p", "hotlap.yaml/below") == 125
    told = capsys.readouterr().err
    assert told.startswith("hotlap: error: cannot write in ") and len(told.splitlines()) == 1
    assert "choose another folder with -p" in told


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_project_is_told(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert start("train", "-p", str(closed)) == 125
    assert "choose another folder with -p" in capsys.readouterr().err


def test_the_corpus_is_prepared_before_the_run(
    start: Start, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real preparation, in its own process: it needs no torch."""
    monkeypatch.setattr(prepare, "require_training_side", lambda: None)
    monkeypatch.setattr(prepare, "prepare_data", PREPARE_DATA)
    assert start("train", "-s", "task.text=corpus/*.txt") == 2
    assert "no file matches" in capsys.readouterr().err
    assert not project.runs_path.exists(), "no run id is wasted on a corpus that is not there"
    Path("corpus").mkdir()
    sentences = (f"Sentence {number} tells nothing new." for number in range(60))
    Path("corpus/text.txt").write_text("\n".join(sentences))
    assert start("train", "-s", "task.text=corpus/*.txt") == 0
    (cached,) = project.cache_path.glob("string_repetition-*.json")
    content = json.loads(cached.read_text())
    assert (len(content["train"]), len(content["eval"])) == (59, 1)
    assert read_json_lines(project.runs_path / "r0001" / "metrics.jsonl")


def add_checkpoint(project: ProjectFolder, step: int, run_id: str = "r0001") -> None:
    """Put a complete checkpoint into a run's folder, as the trainer would have saved it."""
    path = RunFolder(project.runs_path / run_id).checkpoint_path(step)
    path.mkdir()
    files = {"model.safetensors": 4, "optimizer.pt": 4}
    for name in files:
        (path / name).write_text("full")
    state = {"step": step, "train_seconds": 0.05 * step, "wall_seconds": 0.05 * step + 2, "tokens": 250 * step}
    (path / "state.json").write_text(json.dumps({**state, "files": files}))


def test_a_run_goes_on_in_its_own_folder(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("train", "-s", "training.max_steps=100") == 3
    add_checkpoint(project, 60)
    first_log = (project.runs_path / "r0001" / "stdout.log").read_text().splitlines()
    capsys.readouterr()
    assert start("train", "--resume", "r1", "-s", "training.max_steps=100000") == 0
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "resume: r0001 goes on from step 60; the 40 steps after it are taken again",
        "resume: training.max_steps: 100 → 100000",
    ]
    assert not set(first_log) & set(told.out.splitlines()), "what the first attempt printed is not shown again"
    assert "✓ reached: reached at step 2000" in told.out
    folder = RunFolder(project.runs_path / "r0001")
    command = folder.read("command")
    assert command is not None
    assert (command["resume"], command["wall_before_seconds"], command["seed"]) == ("checkpoint-60", 7.0, 42)
    assert json.loads((folder.path / "result.1.json").read_text())["outcome"] == "missed"
    assert "max_steps: 100\n" in (folder.path / "config.1.yaml").read_text()
    assert "max_steps: 100000\n" in folder.config_path.read_text()
    assert {point["step"] for point in read_json_lines(folder.lost_metrics_path)} == {70, 80, 90, 100}
    assert [point["step"] for point in folder.points()][:14:2] == [10, 20, 30, 40, 50, 60, 200]
    assert sorted(path.name for path in project.runs_path.iterdir()) == ["r0001"]


def test_without_a_name_the_last_run_that_can_go_on_does(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        assert start("train", "-s", "training.max_steps=100") == 3
    add_checkpoint(project, 100, "r0002")
    capsys.readouterr()
    assert start("train", "hotlap.yaml", "--resume", "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["run"] == "r0002"
    assert told.err.startswith("resume: r0002 goes on from step 100\n")


def test_by_its_own_config_a_run_goes_on_as_it_was(start: Start, project: ProjectFolder) -> None:
    assert start("train", "-s", VANISH, "-s", "training.seed=7") == 5
    add_checkpoint(project, 60)
    assert start("train", "--resume", "@last") == 5, "and so it vanishes again"
    folder = RunFolder(project.runs_path / "r0001")
    command = folder.read("command")
    assert command is not None
    assert (command["resume"], command["seed"]) == ("checkpoint-60", 7)
    assert not (folder.path / "config.1.yaml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--resume",), "there is no run to go on with: r0001 has finished (missed at step 100); to train longer"),
        (("--resume", "r0001"), "r0001 has finished"),
        (("--resume", "r0009"), "unknown run 'r0009'; there are r0001 to r0001"),
        (("--resume", "@newest"), "unknown alias '@newest'"),
        (("--resume", "-s", "training.seed=1"), "training.seed: 42 in the run, 1 now"),
        (("hotlap.yaml", "--resume", "r1", "-s", "training.learning_rate=1"), "training.learning_rate: 0.003 in the"),
        (("a.yaml", "b.yaml"), "cannot read 'a.yaml b.yaml': expected at most one config file"),
        (("r0001",), "r0001: no such config"),
    ],
)
def test_what_cannot_go_on_is_told_and_left_as_it_is(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str], words: Sequence[str], message: str
) -> None:
    assert start("train", "-s", "training.max_steps=100") == 3
    add_checkpoint(project, 60)
    before = (project.runs_path / "r0001" / "command.json").read_bytes()
    capsys.readouterr()
    assert start("train", *words) == 2
    assert message in capsys.readouterr().err
    assert (project.runs_path / "r0001" / "command.json").read_bytes() == before
    assert sorted(path.name for path in project.runs_path.iterdir()) == ["r0001"]


def test_where_nothing_ran_nothing_goes_on(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("train", "--resume") == 2
    assert "there is no run to go on with: this project has none yet" in capsys.readouterr().err


def test_the_plan_is_made_again_once_the_device_is_free(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start("train", "-s", VANISH) == 5
    add_checkpoint(project, 60)

    @contextmanager
    def held(*_: Any) -> Iterator[None]:
        RunFolder(project.runs_path / "r0001").write("result", {"outcome": "reached", "reason": "by somebody else"})
        yield

    monkeypatch.setattr(locks, "device_lock", held)
    assert start("train", "--resume", "r0001") == 2
    assert "has finished (by somebody else)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "is_resume", "expected"),
    [
        ([], True, (None, None)),
        (["r0007"], True, (None, "r0007")),
        (["7"], True, (None, "7")),
        (["@last"], True, (None, "@last")),
        (["my.yaml"], True, (Path("my.yaml"), None)),
        (["my.yaml", "r7"], True, (Path("my.yaml"), "r7")),
        (["r7", "my.yaml"], True, (Path("my.yaml"), "r7")),
        (["r7"], False, (Path("r7"), None)),
    ],
)
def test_config_and_run_are_told_apart(words: list[str], is_resume: bool, expected: tuple[Any, Any]) -> None:
    assert config_and_run(words, is_resume=is_resume) == expected


@pytest.mark.parametrize("words", [["r1", "r2"], ["a.yaml", "b.yaml"], ["a.yaml", "b.yaml", "r1"]])
def test_too_many_words_are_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="at most one config file"):
        config_and_run(words, is_resume=True)


def test_an_interrupted_run_says_how_it_goes_on(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def text(run_id: str, config: Any, points: Sequence[Any]) -> str:
        if points and not RunFolder(project.runs_path / run_id).checkpoints():
            add_checkpoint(project, 60)
            signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.setattr(progress, "progress_text", text)
    assert start("train", "-s", HANG) == 130
    assert "next: hotlap train --resume r0001 · hotlap runs show r0001" in capsys.readouterr().out


def test_a_second_ctrl_c_does_not_wait_for_the_state_to_be_saved(
    start: Start, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, graces = Job.stop, []

    def press_again(job: Job, outcome: Any, reason: str, grace_seconds: float) -> None:
        graces.append(grace_seconds)
        if len(graces) == 1:
            raise KeyboardInterrupt
        stop(job, outcome, reason, grace_seconds)

    interrupt_once(monkeypatch)
    monkeypatch.setattr(Job, "stop", press_again)
    assert start("train", "-s", HANG) == 130
    assert graces == [30.0, 0.0]
    assert record_of(project) == ("interrupted", "stopped by the user")


def test_a_notice_is_told_once_beside_the_output(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_config = load.load_config

    def with_notices(path: Path, overrides: Sequence[str], notices: list[str]) -> Any:
        notices += ["report_to has no effect here", "report_to has no effect here"]
        return load_config(path, overrides)

    monkeypatch.setattr(load, "load_config", with_notices)
    assert start("train", "--plot-schedule") == 0
    assert capsys.readouterr().err == "note: report_to has no effect here\n"


def test_the_schedule_is_drawn_and_nothing_is_trained(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("train", "--plot-schedule", "-s", "training.lr_scheduler_type=linear") == 0
    curve, picture = capsys.readouterr().out.splitlines()
    assert curve.startswith("linear  █") and curve.endswith("▁  100,000 steps, peak 0.003")
    assert picture == f"picture {project.project / 'schedule.png'}"
    assert (project.project / "schedule.png").read_bytes().startswith(b"\x89PNG")
    assert not project.runs_path.exists()


def test_without_matplotlib_the_curve_is_still_told(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert start("train", "--plot-schedule") == 7
    told = capsys.readouterr()
    assert told.out.startswith("constant  ")
    assert "pip install 'hotlap[report]'" in told.err
