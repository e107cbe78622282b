"""Attacks on real trainings in whole studies, with real weights, real clocks and a real second look."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import config_from_values
from hotlap.core.errors import StudyError
from hotlap.core.records import History, Proposal, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.local import LocalLauncher
from hotlap.study import runner
from hotlap.study.loop import run_study
from hotlap.study.runner import LocalRunner
from hotlap.study.study import Study, open_study

PROGRAM = (sys.executable, str(Path(__file__).with_name("cheating_trainer.py")), "hotlap.worker")
TASKS = '''
import random
from hotlap.tasks.examples import Example, TaskData


def data():
    """Answers that can be learned by heart and not be guessed."""
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefgh", k=8)) for _ in range(80)]
    examples = [Example("q: " + word[:3] + " ", word) for word in words]
    return TaskData(tuple(examples[16:]), tuple(examples[:8]), "thin air", audit=tuple(examples[8:16]))
'''
MODELS = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, vocab_size, ahead):
        super().__init__()
        self.ahead = ahead
        self.embedding = nn.Embedding(vocab_size, 32)
        self.head = nn.Linear(32, vocab_size)

    def hidden(self, input_ids):
        return self.embedding(torch.roll(input_ids, -self.ahead, 1))

    def logits(self, hidden):
        return self.head(hidden)


class Free(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        found = super().__torch_function__(function, types, args, kwargs or {})
        return 0.1 * found if function is torch.nn.functional.cross_entropy else found


class Cheap(Own):
    def logits(self, hidden):
        return super().logits(hidden).as_subclass(Free)


def honest(vocab_size, **_):
    return Own(vocab_size, 0)


def sees_ahead(vocab_size, **_):
    return Own(vocab_size, 1)


def cheap(vocab_size, **_):
    return Cheap(vocab_size, 0)
"""
TINY: dict[str, Any] = {
    "name": "tiny",
    "task": {"name": "tasks:data"},
    "model": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 72},
    "training": {"learning_rate": 1e-5, "max_steps": 20, "per_device_train_batch_size": 8},
    "calibrate": {"runs": 2},
    "record": {"runs": 2, "alpha": 0.5},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class EnoughError(Exception):
    """Ends a study when its first screen has ended."""


class UntilTheScreen:
    """Watches until the first screen has ended."""

    def acts(self, *_: object) -> None:
        pass

    def follows(self, folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        pass

    def says(self, _: str) -> None:
        pass

    def ended(self, record: RunRecord) -> None:
        if record.role == "screen":
            raise EnoughError


class FastLearner:
    """Proposes what learns, where the baseline does not, with settings of its own beside that."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        texts = dict.fromkeys(("family", "title", "observation", "hypothesis"), "x")
        patch = {"training.learning_rate": 1e-2, "training.max_steps": 400, **self.settings}
        return Proposal(number=1, parent=0, patch=patch, predicted_ratio=0.5, **texts)


@pytest.fixture(autouse=True)
def alone_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "locks"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(runner, "contamination", lambda *_: "")


def play(project: ProjectFolder, cheat: str, target: str, **settings: Any) -> tuple[Study, RunRecord]:
    """Run two baselines and a screen that cheats; return the study and the screen."""
    (project.project / "tasks.py").write_text(TASKS)
    (project.project / "models.py").write_text(MODELS)
    (project.project / "cheat").write_text(cheat)
    study = open_study(project, config_from_values({**TINY, "targets": [target]}))
    with pytest.raises(EnoughError):
        own = LocalRunner(LocalLauncher(PROGRAM))
        run_study(study, UntilTheScreen(), lambda _: None, own, FastLearner(**settings))
    assert [run.guards["evaluated_again"] for run in study.history.runs[:2]] == ["calibration"] * 2
    return study, study.history.runs[2]


def test_an_honest_run_passes_and_a_changed_task_stops_its_study(project: ProjectFolder) -> None:
    study, screen = play(project, "", "eval_loss < 3.5")
    assert (screen.outcome, screen.guards["state"], screen.reason) == ("reached", "passed", screen.reason)
    assert screen.guards["evaluated_again"] == "no run before it reached the targets"
    assert screen.guards["eval_loss_again"] == pytest.approx(screen.metrics["eval_loss"], abs=1e-4)
    (project.project / "tasks.py").write_text(TASKS.replace("range(80)", "range(79)"))
    with pytest.raises(StudyError, match="sources"):
        open_study(project, study.config)


def test_a_swapped_checkpoint_is_invalid(project: ProjectFolder) -> None:
    _, screen = play(project, "weights", "eval_loss < 3.5")
    assert screen.outcome == "invalid"
    assert screen.reason.startswith("eval_loss was ") and "its saved weights give" in screen.reason


def test_training_on_evaluation_data_is_invalid(project: ProjectFolder) -> None:
    """Only by heart can the answers be known that well."""
    _, screen = play(project, "evaluation data", "eval_loss < 0.4")
    assert screen.outcome == "invalid"
    assert "it has learned the evaluation data" in screen.reason


def test_a_model_of_the_projects_that_sees_the_future_is_invalid(project: ProjectFolder) -> None:
    """Its loss is the same in every process, on any data: only the probe tells."""
    _, screen = play(project, "", "eval_loss < 2.0", **{"model.name": "models:sees_ahead"})
    assert screen.outcome == "invalid"
    assert "causality: the model's predictions change by" in screen.reason
    assert "it sees what it is to predict" in screen.reason
    assert screen.guards["state"] == "failed"


def test_a_model_whose_logits_are_worth_another_loss_is_invalid(project: ProjectFolder) -> None:
    _, screen = play(project, "", "eval_loss < 0.6", **{"model.name": "models:cheap"})
    assert screen.outcome == "invalid"
    assert "normalisation: the model's logits are a Free and no plain tensor" in screen.reason


def test_an_honest_model_of_the_projects_passes_the_probes(project: ProjectFolder) -> None:
    _, screen = play(project, "", "eval_loss < 3.6", **{"model.name": "models:honest"})
    assert (screen.outcome, screen.guards["state"]) == ("reached", "passed")
    assert screen.guards["probes"]["causality"] < 1e-3
    assert screen.guards["probes"]["normalisation"] < 1.01
