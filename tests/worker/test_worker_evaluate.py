"""A second look at real weights, in a process of its own: it gives the run's metrics again, or tells that it cannot."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import fill_run, make_project, run_worker

from hotlap.config.load import load_config
from hotlap.core.errors import ConfigError, RunFailedError, StorageError
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.evaluate import evaluate_again
from hotlap.search.trust import audit_gap, believed_sigma, gap_problem, reproduction_problems
from hotlap.train.reevaluate import reevaluate
from hotlap.worker import evaluate

PATCH: dict[str, Any] = {
    "task.max_eval_samples": 4,
    "training.eval_steps": None,
    "training.max_steps": 60,
    "targets": ["eval_loss < 5.4", "eval_chrf >= 0"],
}

TASKS = '''
import random
from hotlap.tasks.examples import Example, TaskData


def passwords(count, seed):
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefgh", k=8)) for _ in range(count)]


def data(leak="none"):
    """Answers that can be learned by heart and not be guessed."""
    secret, unseen, open_ones = passwords(8, 1), passwords(8, 2), passwords(64, 3)
    learned = {"none": open_ones, "plain": secret, "hidden": secret}[leak]
    prompt = "q! " if leak == "hidden" else "q: "  # no example is the same, every answer is
    ask = lambda text, start="q: ": Example(start + text[:3] + " ", text)
    return TaskData(
        train=tuple(ask(text, prompt) for text in learned),
        eval=tuple(map(ask, secret)),
        audit=tuple(map(ask, unseen)),
        source="thin air",
    )
'''


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def trained(project: ProjectFolder, patch: dict[str, Any] | None = None) -> RunFolder:
    folder = fill_run(project, {**PATCH, **(patch or {})}, {})
    assert run_worker(folder) in (0, 3), folder.log_tail()
    return folder


def metrics_of(folder: RunFolder) -> dict[str, float]:
    result = folder.read("result")
    assert result is not None
    return dict(result["metrics"])


def data_of(folder: RunFolder) -> dict[str, Any]:
    environment = folder.read("environment")
    assert environment is not None
    return dict(environment["data"])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(make_project(tmp_path_factory.mktemp("original")))


@pytest.fixture
def run(original: RunFolder, project: ProjectFolder) -> RunFolder:
    """A copy of a run that has ended, with a cache of its own."""
    shutil.copytree(original.path, project.runs_path / original.run_id)
    shutil.copytree(original.path.parents[1] / "cache", project.cache_path)
    return RunFolder(project.runs_path / original.run_id)


def look_again(folder: RunFolder) -> dict[str, Any]:
    """Do in this process what the second one does."""
    directory, cache = folder.path.parents[2], folder.path.parents[1] / "cache"
    return reevaluate(load_config(folder.config_path), directory, cache, folder.weights_path)


def test_the_weights_give_the_metrics_again(run: RunFolder) -> None:
    found = evaluate_again(run)
    assert metrics_of(run).keys() >= found["eval"]["metrics"].keys()
    assert "eval_chrf" in found["eval"]["metrics"], "what was generated is generated again"
    assert found["eval"]["metrics"]["eval_loss"] == pytest.approx(metrics_of(run)["eval_loss"], abs=1e-5)
    assert list(reproduction_problems(metrics_of(run), found["eval"])) == []
    assert {key: found["eval"][key] for key in data_of(run)["eval"]} == data_of(run)["eval"]
    assert (run.read("result") or {})["evaluated_tokens"] == found["eval"]["num_targets"]
    assert found["shared"] == 0
    assert 0 < found["audit"]["num_examples"] <= 4
    assert found["audit"]["hash"] != found["eval"]["hash"]
    assert 0.5 < found["audit"]["metrics"]["eval_loss"] / found["eval"]["metrics"]["eval_loss"] < 2


def test_a_swapped_checkpoint_is_found(run: RunFolder, project: ProjectFolder) -> None:
    other = trained(project, {"training.seed": 7})
    run.weights_path.write_bytes(other.weights_path.read_bytes())
    problems = list(reproduction_problems(metrics_of(run), look_again(run)["eval"]))
    assert problems and problems[0].startswith("eval_loss was ")


def test_weights_that_are_damaged_or_do_not_fit_are_told(run: RunFolder, project: ProjectFolder) -> None:
    whole = run.weights_path.read_bytes()
    run.weights_path.write_bytes(whole[:-10])
    with pytest.raises(StorageError, match=r"model\.safetensors: cannot be read"):
        look_again(run)
    with pytest.raises(RunFailedError, match=r"model\.safetensors: cannot be read"):
        evaluate_again(run)
    run.weights_path.unlink()
    with pytest.raises(StorageError, match=r"model\.safetensors: cannot be read"):
        look_again(run)
    run.weights_path.write_bytes(whole)
    run.write_config(run.config_path.read_text().replace("hidden_size: 16", "hidden_size: 32"))
    with pytest.raises(ConfigError, match="does not fit the model of the config"):
        look_again(run)


def test_an_evaluation_set_that_was_changed_since_has_another_hash(run: RunFolder, project: ProjectFolder) -> None:
    (path,) = (run.path.parents[1] / "cache" / Path(name).name for name in data_of(run)["files"])
    cached = json.loads(path.read_text())
    path.write_text(json.dumps({**cached, "eval": cached["eval"][:2]}))
    found = look_again(run)["eval"]
    assert found["hash"] != data_of(run)["eval"]["hash"]
    assert (found["num_examples"], data_of(run)["eval"]["num_examples"]) == (2, 4)


@pytest.mark.slow
def test_training_on_evaluation_data_is_found(project: ProjectFolder) -> None:
    """Once as a plain overlap, once hidden behind other prompts: then the audit data tell."""
    (project.project / "leaks.py").write_text(TASKS)
    gaps: dict[str, float] = {}
    for leak in ("none", "plain", "hidden"):
        task = {"name": "leaks:data", "leak": leak}
        training = {"training.learning_rate": 1e-2, "training.max_steps": 200, "targets": []}
        found = look_again(trained(project, {"task": task, **training}))
        gap = audit_gap(found)
        assert gap is not None
        gaps[leak] = gap
        assert found["shared"] == (8 if leak == "plain" else 0)
    believed = believed_sigma(found)
    calibration = [gaps["none"] - 0.005, gaps["none"], gaps["none"] + 0.005]
    assert gap_problem(gaps["none"], calibration, believed) == ""
    assert "it has learned the evaluation data" in gap_problem(gaps["hidden"], calibration, believed)
    assert all(math.isfinite(gap) for gap in gaps.values())


def test_a_machine_without_room_says_nothing_of_the_weights(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", str(run.path), "ticket"])
    monkeypatch.setattr(evaluate, "_end_with", lambda _: None)
    monkeypatch.setattr(evaluate, "reevaluate", fails_with(torch.OutOfMemoryError("CUDA out of memory")))
    assert evaluate.main() == 75
    monkeypatch.setattr(evaluate, "reevaluate", lambda *_, **__: {})
    monkeypatch.setattr(RunFolder, "write", fails_with(StorageError("no space left on device")))
    assert evaluate.main() == 75
    monkeypatch.setattr(evaluate, "reevaluate", fails_with(StorageError("model.safetensors: cannot be read")))
    assert evaluate.main() == StorageError.exit_code != 75


def test_the_project_is_where_the_evaluation_is_started(
    run: RunFolder, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been moved since the run was made."""
    places: list[Path] = []
    run.write("command", {**(run.read("command") or {}), "directory": "/where/it/was"})
    monkeypatch.chdir(project.project)
    monkeypatch.setattr("sys.argv", ["evaluate", str(run.path), "ticket"])
    monkeypatch.setattr(evaluate, "_end_with", lambda _: None)
    monkeypatch.setattr(evaluate, "reevaluate", lambda _, directory, *__, **___: places.append(directory) or {})
    assert evaluate.main() == 0
    assert places == [project.project.resolve()]


def fails_with(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
