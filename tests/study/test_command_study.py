"""A study of somebody else's command, with real processes: noise, decisions, journal, and what stays as it is."""

import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hotlap.cli.main import app
from hotlap.config.load import load_config
from hotlap.core.records import History, Proposal
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.rerun import plan_rerun
from hotlap.study.apply import plan_application
from hotlap.study.loop import run_study
from hotlap.study.plan import Action
from hotlap.study.study import Study, open_study
from hotlap.study.view import write_study_journal

SCRIPT = """\
import argparse, random, time
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--seed", type=int)
options = parser.parse_args()
random.seed(options.seed)
loss = 2.0
for step in range(1, 400):
    time.sleep(0.01)
    loss *= 1 - min(options.lr, 1 / options.lr) * 0.05 * random.uniform(0.95, 1.05)
    if step % 2 == 0:
        print(f"step {step}: train loss {loss * 0.9:.5f}, val loss {loss:.5f}")
    if loss > 5 or options.lr > 50:
        raise SystemExit("it broke")
"""
CONFIG = """\
name: own
command: {run: "PYTHON train.py --lr {learning_rate} --seed {seed}"}
params: {learning_rate: 0.2, seed: 1}  # mine
targets: [val_loss < 1]
budget: {run: 20s, total: 5m}
calibrate: {runs: 2}
"""
PATCHES = (
    {"params.learning_rate": 0.8},
    {"params.learning_rate": 0.05},
    {"params.learning_rate": 100.0},
)


class Silent:
    """A watcher that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def acts(self, action: Action, study: Study) -> None:
        """Note nothing."""

    def follows(self, folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        """Note nothing."""

    def ended(self, record: object) -> None:
        """Note nothing."""

    def says(self, text: str) -> None:
        """Keep a line."""
        self.told.append(text)


class Listed:
    """Proposes a list of patches, one after the other."""

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        """Return the next one."""
        number = len(history.proposals)
        if is_ablation or number == len(PATCHES):
            return None
        return Proposal(
            number=number + 1,
            parent=history.incumbent,
            family="learning_rate",
            title=str(PATCHES[number]),
            observation="It is slow.",
            hypothesis="Another rate is faster.",
            patch=PATCHES[number],
            predicted_ratio=0.6,
        )


def digests(project: Path) -> dict[str, str]:
    own = (path for path in project.iterdir() if path.is_file() and not path.name.startswith("SPEEDRUN"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in own}


@pytest.fixture
def studied(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Run a whole study."""
    for name, text in (
        ("train.py", SCRIPT),
        ("hotlap.yaml", CONFIG.replace("PYTHON", sys.executable)),
        ("notes.txt", "mine\n"),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("locks")))
    before = digests(tmp_path)
    study = open_study(ProjectFolder(tmp_path).create(), load_config(tmp_path / "hotlap.yaml"))
    run_study(study, Silent(), write_study_journal, policy=Listed())
    assert digests(tmp_path) == before
    return study


def test_a_study_of_a_command(studied: Study, tmp_path: Path) -> None:
    history = studied.history
    verdicts = {decision.proposal: decision.verdict for decision in history.decisions}
    assert verdicts == {1: "keep", 2: "discard", 3: "crash"}
    assert {run.outcome for run in history.runs_of(0, "baseline")} == {"reached"}
    seeds = [run.seed for run in history.runs]
    assert len(set(seeds)) == len(seeds)
    assert [run.config["params"]["seed"] for run in history.runs] == seeds
    assert all("training" not in run.config for run in history.runs)
    steps = [run.time_to_target["step"] for run in history.runs_of(1) if run.time_to_target]
    assert all(14 <= step <= 20 for step in steps)
    journal = (tmp_path / "SPEEDRUN.md").read_text()
    assert "train.py --lr {learning_rate}" in journal
    assert re.search(r"\| val_loss 0\.\d+", journal), "the runs with their metric"
    picture = (tmp_path / "speedrun" / "own.svg").read_text()
    assert "val_loss" in picture and "eval_loss" not in picture
    assert "it broke" in journal
    application = plan_application(ProjectFolder(tmp_path), tmp_path / "hotlap.yaml", "ladder")
    assert "params: {learning_rate: 0.8, seed: 1}  # mine" in application.after
    assert "hotlap exec" in journal and "hotlap train" not in journal
    first = next(iter(history.runs_of(0, "baseline")))
    plan = plan_rerun(RunFolder(studied.project.runs_path / first.run_id), tmp_path)
    assert plan.facts.seed == first.seed and plan.config.params["seed"] == first.seed
    told = CliRunner().invoke(app, ["runs", "ls"])
    head, *rows = told.output.splitlines()
    assert "val_loss" in head and "eval_loss" not in head
    assert f"{first.metrics['val_loss']:.4g}"[:4] in next(row for row in rows if row.startswith(first.run_id))
    shown = CliRunner().invoke(app, ["runs", "show", first.run_id])
    assert "  val_loss █" in shown.output
