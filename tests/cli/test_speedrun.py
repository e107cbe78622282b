"""`hotlap speedrun` and `hotlap demo` in this process, with the fake worker in the place of the trainer."""

import importlib.util
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotlap.cli import demo, main, progress
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import prepare
from hotlap.launch.local import LocalLauncher
from hotlap.launch.locks import study_lock
from hotlap.study import runner, view
from hotlap.study.study import read_study

FAKE_WORKER = Path(__file__).parents[1] / "study" / "fake_worker.py"
PREPARE_DATA = prepare.prepare_data
CONFIG = """\
name: toy
model: {num_hidden_layers: 1, positions: rope, norm: rms_norm, qk_norm: true, hidden_act: relu_squared, smear: true,
        zero_init_projections: true, tie_word_embeddings: false, use_bias: false, embd_pdrop: 0.1}
training: {learning_rate: 3.0e-3, optim: muon, per_device_train_batch_size: 16, max_grad_norm: 0.0, adam_beta2: 0.95,
           lr_scheduler_type: constant, max_steps: 100000, padding: bucketed}
targets: [eval_loss < 0.76, eval_byte_accuracy > 0.75, eval_sacrebleu > 0.3]
budget: {run: 1h, total: 1000h}
bench: {budget_ratio: 0}
calibrate: {runs: 2}
record: {runs: 2, alpha: 0.5}
patience: 1
"""
"""Only its dropout is a fault."""

Start = Callable[..., int]


@pytest.fixture
def start(project: ProjectFolder, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Call the entry point in a project with a config, as a shell would; return the exit code."""
    (project.project / "hotlap.yaml").write_text(CONFIG)
    monkeypatch.chdir(project.project)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
    monkeypatch.setattr(LocalLauncher.__init__, "__defaults__", ((sys.executable, str(FAKE_WORKER)),))
    monkeypatch.setattr(prepare, "prepare_data", lambda folder, config: "40 training examples")
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "contamination", lambda *_: "")
    monkeypatch.setattr(view, "draw_progress", draw)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hotlap", *words])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return int(ended.value.code or 0)

    return call


def draw(info: Any, path: Path) -> None:
    """Write a picture faster than matplotlib would."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("<svg/>")


def fake(*cases: dict[str, Any]) -> None:
    Path("fake.json").write_text(json.dumps({"cases": cases}))


def test_a_speedrun_tells_its_way_and_ends_with_the_ladder(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start("speedrun") == 0
    told = capsys.readouterr()
    assert told.err == ""
    lines = told.out.splitlines()
    _, history, _ = read_study(project)
    assert lines[0] == "task string_repetition: 40 training examples"
    assert [line.split()[0] for line in lines if " seed " in line] == [run.run_id for run in history.runs]
    first = lines.index(next(line for line in lines if line.startswith("#1 no dropout ")))
    assert "of budget left)" in lines[first]
    assert lines[first + 1] == f"   observation: {history.proposal(1).observation}"
    assert lines[first + 2] == f"   hypothesis:  {history.proposal(1).hypothesis}"
    assert lines[first + 3].startswith("   r0003 screen    seed 44: ") and " to target in " in lines[first + 3]
    assert any(line.startswith(" ✓ #1 keep: screen and confirmation took ") for line in lines)
    assert any(line.startswith(" ★ record look 1: ") for line in lines)
    ladder = lines.index(next(line for line in lines if line.split()[:3] == ["#", "change", "time"]))
    assert [line.split()[0] for line in lines[ladder + 1 : ladder + 3]] == ["0", "1"]
    assert lines[ladder + 2].rstrip().endswith("keep")
    assert any(line.startswith("ended: the last proposal was not kept") for line in lines)
    assert lines[-1] == f"journal {project.project / 'SPEEDRUN.md'}"
    assert "faster, a record (90 % interval" in Path("SPEEDRUN.md").read_text()
    assert "](speedrun/toy.svg)" in Path("SPEEDRUN.md").read_text()
    runs = len(history.runs)
    assert start("speedrun") == 0
    told = capsys.readouterr()
    assert f"going on with toy: {runs} runs so far" in told.out
    assert len(read_study(project)[1].runs) == runs
    assert start("status", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kept"], document["runs"]) == (1, runs)
    assert document["speedup"] == pytest.approx(2.0, rel=0.15)


def test_a_changed_protocol_is_one_message(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    fake({"when": {"role": "baseline"}, "does": "crash"})
    assert start("speedrun") == 5
    out = capsys.readouterr().out
    assert "r0001 baseline  seed 42: crashed after 0.00 s: RuntimeError: toy trouble" in out
    assert "ended: the baseline run r0001 crashed" in out
    assert start("speedrun", "-s", "training.learning_rate=1e-3") == 2
    told = capsys.readouterr().err
    assert "  training.learning_rate: 0.003 → 0.001" in told
    assert start("speedrun", "-s", "training.learning_rate=1e-3", "-s", "name=other") == 5


def test_ctrl_c_ends_with_130_and_the_study_can_go_on(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake({"when": {"run": "r0001"}, "does": "hang"})

    def press(run_id: str, config: Any, points: Any) -> str:
        if points:
            signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.setattr(progress, "progress_text", press)
    assert start("speedrun") == 130
    out = capsys.readouterr().out
    assert out.count("finishing the current run, then stopping") == 1
    assert "r0001 baseline  seed 42: interrupted after " in out and "stopped by the user" in out
    assert "ended: interrupted" in out
    assert Path("SPEEDRUN.md").exists()
    fake({"when": {"role": "baseline"}, "does": "crash"})
    assert start("speedrun") == 5
    assert "going on with toy: 1 runs so far" in capsys.readouterr().out
    assert [run.outcome for run in read_study(project)[1].runs] == ["interrupted", "crashed"]


def test_a_study_that_is_driven_already_is_left_alone(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with study_lock(project.study("toy").create()):
        assert start("speedrun") == 2
    assert "already being driven by process" in capsys.readouterr().err
    assert not project.study("toy").ledger_path.exists()


def test_what_is_missing_is_told_before_the_study_begins(
    start: Start, project: ProjectFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its protocol would say `torch: None`, and refuse to go on once torch is there."""
    find_spec = importlib.util.find_spec
    names = ("torch", "safetensors", "sacrebleu")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in names else find_spec(name, *rest)
    )
    monkeypatch.setattr(prepare, "prepare_data", PREPARE_DATA)
    assert start("speedrun") == 7
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "hotlap: error: torch, safetensors, sacrebleu not installed; run: pip install 'hotlap[train]'\n"
    assert project.study("toy").protocol() is None


def test_targets_are_needed(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("speedrun", "-s", "targets=[]") == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "a study needs targets; add for example" in told


def test_a_typo_is_told_with_its_line(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("hotlap.yaml")
    path.write_text(f"{CONFIG}patiense: 3\n")
    assert start("speedrun") == 2
    line = len(CONFIG.splitlines()) + 1
    assert f"hotlap.yaml:{line}: patiense: unknown key; did you mean 'patience'?" in capsys.readouterr().err
    assert not Path(".hotlap/studies").exists()


def test_the_demo_writes_its_config_once_and_speeds_it_up(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driven: list[tuple[str, Path]] = []

    def drive(config: Any, project: Path, patches: Path | None) -> int:
        assert patches is None
        driven.append((config.name, project))
        return 3

    monkeypatch.setattr("hotlap.cli.speedrun.drive", drive)
    assert start("demo", "new/place") == 3
    config = Path("new/place/hotlap.yaml")
    assert config.read_bytes() == demo.DEMO_CONFIG.read_bytes()
    assert str(Path("new/place/SPEEDRUN.md")) in capsys.readouterr().out
    config.write_text("name: mine\n")
    assert start("demo", "new/place") == 3
    assert driven == [("demo", Path("new/place")), ("mine", Path("new/place"))], "what the user changed stays"


def test_a_demo_below_a_file_cannot_be_written(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("demo", "hotlap.yaml/demo") == 125
    told = capsys.readouterr().err
    assert told.startswith("hotlap: error: cannot write in ") and "name another folder" in told
