"""Scripts that know nothing of hotlap, from `hotlap init` over a study to `hotlap apply`."""

import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hotlap.cli.main import app
from hotlap.cli.speedrun import StudyScreen
from hotlap.config.load import load_config
from hotlap.core.records import Decision, History
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.study.loop import run_study
from hotlap.study.study import Study, open_study
from hotlap.study.view import write_study_journal

ROOT = Path(__file__).parents[1] / "examples" / "own_script"
PYTHON = shlex.quote(sys.executable)
PROPOSALS = {"trainer": 1, "trl_sft": 1}
"""How many are decided, where it is not 3: a Trainer's run takes ten seconds, most of it imports."""
SLOW_TRAINER = """\
    from transformers import TrainerCallback
    class Slow(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            __import__('time').sleep(0.05)
    trainer.add_callback(Slow())
    trainer.train()"""
SLOWER = {
    "argparse_yaml": ("train.py", "        rate = ", "        __import__('time').sleep(0.01)\n        rate = "),
    "constants": ("train.py", "    rate = ", "    __import__('time').sleep(0.01)\n    rate = "),
    "shell_loop": ("train.sh", "    step=", "    sleep 0.01\n    step="),
    "trainer": ("train.py", "    trainer.train()", SLOW_TRAINER),
    "trl_sft": ("train.py", "    trainer.train()", SLOW_TRAINER),
}
"""What makes a step take a while, so that the number of steps decides on any machine."""
SCRIPTS = {
    "argparse_yaml": (f"{PYTHON} train.py --config config.yaml --lr 0.5", "eval_loss < 2.9", "params.lr"),
    "constants": (f"{PYTHON} train.py", "val_loss < 2.8", "params.learning_rate"),
    "shell_loop": ("sh train.sh", "eval_loss < 0.1", "params.LR"),
    "trainer": (f"{PYTHON} train.py config.yaml", "eval_loss < 2.4", "params.learning_rate"),
    "trl_sft": (f"{PYTHON} train.py --config config.yaml", "eval_loss < 2.7", "params.learning_rate"),
}
NEEDS = {"trainer": ("torch", "transformers"), "trl_sft": ("trl",)}
"""Packages without which an example cannot run."""
CHANGED = {
    "constants": "train.py",
    "shell_loop": "train.sh",
    "trainer": "config.yaml",
    "trl_sft": "config.yaml",
}
"""Which file of the user's the kept rate is written into."""


def missing(name: str) -> str:
    """Return the package that an example needs and that is not here; empty where there is none."""
    return next((package for package in NEEDS.get(name, ()) if importlib.util.find_spec(package) is None), "")


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of an example; it is the current folder."""
    if package := missing(request.param):
        pytest.skip(f"examples/own_script/{request.param} needs {package}: pip install {package}")
    shutil.copytree(ROOT / request.param, tmp_path / request.param)
    if change := SLOWER.get(request.param):
        script = tmp_path / request.param / change[0]
        script.write_text(script.read_text().replace(change[1], change[2], 1))
    if request.param in PROPOSALS:  # without a fault that would be tried first
        config = tmp_path / request.param / "config.yaml"
        config.write_text(config.read_text().replace("dropout: 0.1", "dropout: 0.0"))
    monkeypatch.chdir(tmp_path / request.param)
    return tmp_path / request.param


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def hotlap(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def studied(folder: Path, num_proposals: int, key: str) -> Study:
    """Return the folder's study after so many proposals were decided, one of them about the knob."""
    config = load_config(folder / "hotlap.yaml", ["budget.total=20m"])
    study = open_study(ProjectFolder(folder).create(), config)

    def is_done(history: History) -> bool:
        # A proposal that was kept may be withdrawn later, which is a second decision about it.
        decided = {decision.proposal for decision in history.decisions}
        return len(decided) >= num_proposals and any(key in history.proposal(number).patch for number in decided)

    run_study(study, StudyScreen(), write_study_journal, is_done=is_done)
    return study


def check_metrics(study: Study, target: str) -> None:
    """Check that each run that reached has the metric and the time of the evaluation at which it did."""
    metric, _, value = target.split()
    for run in study.history.runs:
        if run.outcome != "reached":
            continue
        points = [point for point in RunFolder(study.project.runs_path / run.run_id).points() if metric in point]
        values = [float(point[metric]) for point in points]
        assert values[-1] < float(value) and all(other >= float(value) for other in values[:-1])
        assert run.metrics[metric] == values[-1]
        assert run.time_to_target is not None
        assert run.time_to_target["step"] == points[-1]["step"] == run.steps
        assert 0 < run.time_to_target["wall"] <= run.wall_seconds


def with_a_kept_change(study: Study, key: str) -> History:
    """Return the study's history with something to apply, also where a busy machine's clock kept nothing."""
    history = study.history
    if not history.kept():
        number = next(proposal.number for proposal in history.proposals if key in proposal.patch)
        study.append(Decision(proposal=number, verdict="keep", reason="kept, so that there is something to apply"))
    return study.history


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("folder", SCRIPTS, indirect=True)
def test_from_init_over_a_study_to_apply(folder: Path) -> None:
    command, target, key = SCRIPTS[folder.name]
    hotlap("init", "-y", "--target", target, command)
    written = contents(folder)
    assert "reached" in hotlap("exec")
    num_proposals = PROPOSALS.get(folder.name, 3)
    study = studied(folder, num_proposals, key)
    history = study.history
    check_metrics(study, target)
    assert history.runs[0].outcome == "reached"
    assert history.runs[0].time_to_target is not None
    assert len(history.proposals) >= num_proposals and any(key in proposal.patch for proposal in history.proposals)
    history = with_a_kept_change(study, key)
    assert all(re.search(r"\d", proposal.observation) for proposal in history.proposals), "each gives its grounds"
    without_journal = {name: text for name, text in contents(folder).items() if not name.startswith("SPEEDRUN")}
    assert without_journal == written, "nothing of the user's is touched before apply"
    hotlap("apply", "ladder")
    config = load_config(folder / "hotlap.yaml")
    for name, value in history.config_of(history.incumbent).items():
        assert config.params[name.removeprefix("params.")] == value
    assert "has" in hotlap("apply", "ladder"), "the second time there is nothing left to write"
    if script := CHANGED.get(folder.name):
        assert contents(folder)[script] != written[script]
    assert "reached" in hotlap("exec")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("folder", ["trainer"], indirect=True)
def test_a_trainer_script_is_measured_with_its_own_names(folder: Path) -> None:
    pytest.importorskip("transformers")
    hotlap("init", "-y", "--no-probe", "--target", "eval_loss < 2.4", f"{PYTHON} train.py config.yaml")
    written = contents(folder)
    config = load_config(folder / "hotlap.yaml")
    assert {"learning_rate", "warmup_steps", "weight_decay", "dropout"} <= config.params.keys()
    assert "reached" in hotlap("exec", "-s", "params.learning_rate=0.003")
    (run,) = (folder / ".hotlap" / "runs").iterdir()
    (copy,) = [path for path in run.rglob("config.yaml") if path.parent != run]
    assert "learning_rate: 0.003        # at its peak" in copy.read_text()
    assert contents(folder) == written
