"""Which weights are taken, what is said where there are none, and a process that ends with whoever reads it."""

import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotlap.config.load import config_from_values, config_text
from hotlap.core.errors import ConfigError, DataError, HotlapError, NotSupportedError, RunFailedError, StorageError
from hotlap.core.files import write_json
from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch import generate
from hotlap.launch.generate import choose_weights, generated

MakeRun = Callable[..., RunFolder]
OWN = {"argv": ["python", "-m", "hotlap.worker", "x"]}


@pytest.fixture
def make_run(project: ProjectFolder) -> MakeRun:
    def make(outcome: str | None = "reached", patch: dict[str, Any] | None = None, weights: bool = True) -> RunFolder:
        folder = RunFolder.create(project.runs_path)
        folder.write_config(config_text(config_from_values({}, patch)))
        folder.write("command", {**OWN, "directory": str(project.project)})
        if outcome is not None:
            folder.write("result", {"outcome": outcome, "step": 40, "metrics": {}})
        if weights:
            folder.weights_path.write_bytes(b"weights")
        return folder

    return make


def add_checkpoint(folder: RunFolder, step: int, best: int = 0) -> None:
    path = folder.checkpoint_path(step)
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights")
    write_json(path / "state.json", {"step": step, "best_step": best, "files": {"model.safetensors": 7}})


def refusal(folder: RunFolder, checkpoint: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        choose_weights(folder, checkpoint)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_weights_of_the_end_are_taken(make_run: MakeRun) -> None:
    folder = make_run()
    add_checkpoint(folder, 20)
    chosen = choose_weights(folder)
    assert (chosen.path, chosen.name, chosen.step) == (folder.weights_path, "model.safetensors", 40)


def test_a_folder_with_a_config_and_weights_is_enough(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    copy = RunFolder(tmp_path / "elsewhere")
    copy.path.mkdir()
    for name in ("config.yaml", "model.safetensors"):
        (copy.path / name).write_bytes((folder.path / name).read_bytes())
    assert choose_weights(copy).step is None


@pytest.mark.parametrize("outcome", ["interrupted", "crashed"])
def test_a_run_that_was_broken_off_has_its_newest_checkpoint(make_run: MakeRun, outcome: str) -> None:
    """Also where an earlier end left weights behind, before the run was resumed."""
    folder = make_run(outcome)
    for step in (20, 100, 60):
        add_checkpoint(folder, step)
    assert (choose_weights(folder).name, choose_weights(folder).step) == ("checkpoint-100", 100)


@pytest.mark.parametrize(
    ("wanted", "step"), [("20", 20), ("checkpoint-20", 20), ("last", 60), ("best", 20), ("060", 60)]
)
def test_a_checkpoint_is_named_by_its_step_or_by_what_it_is(make_run: MakeRun, wanted: str, step: int) -> None:
    folder = make_run()
    add_checkpoint(folder, 20)
    add_checkpoint(folder, 60, best=20)
    chosen = choose_weights(folder, wanted)
    assert chosen.path == folder.checkpoint_path(step) / "model.safetensors"
    assert (chosen.name, chosen.step) == (f"checkpoint-{step}", step)


def test_a_checkpoint_that_is_not_there_is_told_with_those_that_are(make_run: MakeRun) -> None:
    folder = make_run()
    assert refusal(folder, "20").startswith("r0001 has no complete checkpoint; leave --checkpoint out")
    add_checkpoint(folder, 20)
    add_checkpoint(folder, 60)
    assert refusal(folder, "30") == "r0001 has no checkpoint of step 30; there are: 20, 60"
    assert refusal(folder, "first") == "--checkpoint first: expected a step, best or last"
    assert "trained without training.metric_for_best_model; name a step (20, 60)" in refusal(folder, "best")


def test_a_run_that_is_going_has_no_weights_but_its_checkpoints(make_run: MakeRun) -> None:
    folder = make_run(None)
    folder.write("worker", process_identity())
    told = refusal(folder)
    assert told.startswith("r0001 is still running and saves its weights at its end") and "it has none yet" in told
    add_checkpoint(folder, 20)
    assert "--checkpoint (20)" in refusal(folder)
    assert choose_weights(folder, "last").step == 20


def test_weights_that_were_not_kept_are_told_with_the_reason(make_run: MakeRun, tmp_path: Path) -> None:
    told = refusal(make_run("reached", {"training.save_model": False}, weights=False))
    assert told == "r0001 has no weights: it was trained with training.save_model: false; train again without that"
    told = refusal(make_run("diverged", weights=False))
    assert told.startswith("r0002 has no weights: its outcome is diverged; weights are saved when the targets hold")
    assert "its outcome is lost" in refusal(make_run(None, weights=False))
    foreign = make_run()
    foreign.write("command", {"argv": ["python", "train.py"]})
    assert "was a command of your own" in refusal(foreign)
    imported = make_run(weights=False)
    imported.write("import", {"source": "export.csv"})
    assert "it was imported from export.csv" in refusal(imported)
    assert refusal(RunFolder(tmp_path)).endswith("is no run: there is no config.yaml in it")


SAYS = """
import json, os, sys, time
request = json.load(sys.stdin)
folder, weights, cache, parent = sys.argv[1:]
facts = {"request": request, "folder": folder, "weights": weights, "cache": cache, "cwd": os.getcwd()}
print(json.dumps({"event": "start", "pid": os.getpid(), "parent": int(parent) == os.getppid(), **facts}), flush=True)
"""


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program in the place of the one that generates; it begins by saying how it was started."""

    def set_program(rest: str) -> None:
        monkeypatch.setattr(generate, "GENERATOR", (sys.executable, "-c", SAYS + rest))

    return set_program


def test_the_process_is_told_where_everything_lies(
    make_run: MakeRun, project: ProjectFolder, says: Callable[[str], None]
) -> None:
    says("print(json.dumps({'event': 'end'}), flush=True)")
    folder = make_run()
    project.cache_path.mkdir()
    request = {"prompts": ["Жил-был", "a\nb"], "settings": {"seed": 3}}
    first, last = generated(folder, folder.weights_path, request, project)
    assert last == {"event": "end"}
    assert first["request"] == request and first["parent"]
    assert (first["folder"], first["weights"]) == (str(folder.path), str(folder.weights_path))
    assert (first["cache"], first["cwd"]) == (str(project.cache_path), str(project.project))


def test_a_run_that_was_moved_uses_the_project_it_is_in_now(
    make_run: MakeRun, project: ProjectFolder, says: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    says("")
    folder = make_run()
    folder.write("command", {**OWN, "directory": "/where/it/was"})
    elsewhere = ProjectFolder(tmp_path_factory.mktemp("other"))
    (event,) = generated(folder, folder.weights_path, {}, elsewhere)
    assert event["cwd"] == str(project.project)
    away = RunFolder(folder.path.rename(elsewhere.project / "r0001"))
    (event,) = generated(away, away.weights_path, {}, project)
    assert (event["cwd"], event["cache"]) == (str(project.project), str(project.cache_path))


@pytest.mark.parametrize(
    ("code", "kind"),
    [(2, ConfigError), (7, NotSupportedError), (125, StorageError), (5, RunFailedError), (1, RunFailedError)],
)
def test_an_error_of_the_process_becomes_one_of_ours(
    make_run: MakeRun, project: ProjectFolder, says: Callable[[str], None], code: int, kind: type[HotlapError]
) -> None:
    says(f"print('the weights do not fit', file=sys.stderr); sys.exit({code})")
    folder = make_run()
    with pytest.raises(kind, match="the weights do not fit"):
        list(generated(folder, folder.weights_path, {}, project))
    assert kind is not DataError


def test_the_words_of_an_error_are_those_that_were_meant_for_people(
    make_run: MakeRun, project: ProjectFolder, says: Callable[[str], None]
) -> None:
    error = {"event": "error", "text": "the weights do not fit"}
    says(f"print('some warning', file=sys.stderr); print(json.dumps({error}), flush=True); sys.exit(2)")
    folder, told = make_run(), []
    with pytest.raises(ConfigError) as caught:
        told.extend(generated(folder, folder.weights_path, {}, project))
    assert str(caught.value) == "the weights do not fit"


def test_a_process_that_breaks_at_once_is_told(
    make_run: MakeRun, project: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "GENERATOR", (sys.executable, "-c", "raise ValueError('a bug')"))
    folder = make_run()
    large = {"prompts": ["x" * 1_000_000]}  # more than a pipe holds
    with pytest.raises(RunFailedError, match="ValueError: a bug"):
        list(generated(folder, folder.weights_path, large, project))
    monkeypatch.setattr(generate, "GENERATOR", ("/no/such/program",))
    with pytest.raises(RunFailedError, match="cannot start /no/such/program"):
        list(generated(folder, folder.weights_path, {}, project))


def test_the_process_ends_when_nobody_reads_on(
    make_run: MakeRun, project: ProjectFolder, says: Callable[[str], None]
) -> None:
    says("time.sleep(1000)")
    folder = make_run()
    start = time.monotonic()
    with closing(generated(folder, folder.weights_path, {}, project)) as events:
        process = psutil.Process(next(events)["pid"])
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    with closing(generated(folder, folder.weights_path, {}, project)) as events, pytest.raises(KeyboardInterrupt):
        process = psutil.Process(next(events)["pid"])
        raise KeyboardInterrupt
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert time.monotonic() - start < 30
