"""Text from the weights of real runs: by the command, by its worker, and as the training's samples had it."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import fill_run, make_project, run_worker

import hotlap
from hotlap.core.errors import ConfigError, DataError, StorageError
from hotlap.core.files import read_json_lines
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.data import saved_tokenizer
from hotlap.worker import asked, generate

PROMPTS = ["the cat", "über"]
PATCH: dict[str, Any] = {
    "training.max_steps": 30,
    "training.eval_steps": 30,
    "training.save_steps": 20,
    "samples": {"prompts": PROMPTS, "max_new_tokens": 12, "temperature": 1.0, "seed": 5, "every": "10 steps"},
}
TEXT: dict[str, Any] = {
    "task.name": "language_model",
    "task.block_size": 16,
    "tokenizer": {"name": "bpe", "vocab_size": 300},
    "model.positions": "rope",
    "model.max_position_embeddings": 16,
}

OWN_MODEL = """
import torch
from torch import nn


class Recurrent(nn.Module):
    def __init__(self, vocab_size, width):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.core = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, vocab_size)

    def hidden(self, input_ids):
        return self.core(self.embedding(input_ids))[0]

    def logits(self, hidden):
        return self.head(hidden)


def recurrent(vocab_size, width=8):
    print("code of the project's own may print")
    return Recurrent(vocab_size, width)
"""


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def trained(project: ProjectFolder, patch: dict[str, Any]) -> RunFolder:
    folder = fill_run(project, patch, {"argv": ["python", "-m", "hotlap.worker"]})
    assert run_worker(folder) == 0, folder.log_tail()
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    """A project with a run on sentences in bytes, and one on running text in byte pairs."""
    project = make_project(tmp_path_factory.mktemp("original"))
    trained(project, PATCH)
    texts = project.project / "texts"
    texts.mkdir()
    for number in range(4):
        (texts / f"{number}.txt").write_text(f"the cat sat on the mat under the hill {number} " * 9, encoding="utf-8")
    patch = {key: value for key, value in PATCH.items() if key != "samples"}
    text = {"task": {"name": "language_model", "text": str(texts / "*.txt"), "block_size": 16}}
    trained(project, {**patch, **text, **{key: value for key, value in TEXT.items() if not key.startswith("task")}})
    return project


@pytest.fixture
def bytes_run(original: ProjectFolder) -> RunFolder:
    return RunFolder(original.runs_path / "r0001")


@pytest.fixture
def text_run(original: ProjectFolder) -> RunFolder:
    return RunFolder(original.runs_path / "r0002")


def said(
    folder: RunFolder, prompts: Sequence[str] = (), weights: Path | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """Return what the worker says, put together by prompt."""
    project = ProjectFolder(folder.path.parents[2])
    request = {"prompts": list(prompts), "settings": settings}
    found: list[dict[str, Any]] = []
    for event in generate.events(folder.path, weights or folder.weights_path, project.cache_path, request):
        if event["event"] == "prompt":
            found.append({"prompt": event["text"], "generated": ""})
        elif event["event"] == "text":
            found[-1]["generated"] += event["text"]
        elif event["event"] == "end":
            found[-1] |= event
    return found


def test_saved_weights_say_what_the_training_wrote_down(bytes_run: RunFolder) -> None:
    """The settings and prompts that are left out are those of the run."""
    samples = [line for line in read_json_lines(bytes_run.samples_path) if "prompt_index" in line]
    assert sorted({line["step"] for line in samples}) == [0, 10, 20, 30]
    for step, weights in ((30, bytes_run.weights_path), (20, bytes_run.checkpoint_path(20) / "model.safetensors")):
        expected = [(line["prompt"], line["generated"]) for line in samples if line["step"] == step]
        assert [(one["prompt"], one["generated"]) for one in said(bytes_run, weights=weights)] == expected


def test_prompts_and_settings_that_are_given_count(bytes_run: RunFolder) -> None:
    first = said(bytes_run, ["the dog"], max_new_tokens=20, seed=1)
    assert [one["prompt"] for one in first] == ["the dog"]
    assert said(bytes_run, ["the dog"], max_new_tokens=20, seed=1)[0]["generated"] == first[0]["generated"]
    assert said(bytes_run, ["the dog"], max_new_tokens=20, seed=2)[0]["generated"] != first[0]["generated"]
    both = said(bytes_run, ["a", "the dog"], max_new_tokens=20, seed=1)
    assert both[1]["generated"] == first[0]["generated"]
    assert first[0]["tokens"] <= 20
    assert (first[0]["tokens"] == 20) == (first[0]["ended_by"] == "max_new_tokens")


def test_learned_positions_are_left_behind_with_a_note(bytes_run: RunFolder) -> None:
    (short,) = said(bytes_run, ["the cat"], max_new_tokens=9)
    (long,) = said(bytes_run, ["the cat " * 8], max_new_tokens=60)
    assert short["notice"] == ""
    assert long["ended_by"] == "end_of_text" or "longer than the model's 72 positions" in long["notice"]
    (over,) = said(bytes_run, ["the cat " * 10], max_new_tokens=1)
    assert "longer than the model's 72 positions" in over["notice"]


def test_running_text_begins_by_itself_and_rotary_positions_go_on(text_run: RunFolder) -> None:
    (found,) = said(text_run, max_new_tokens=25, temperature=1.0)
    assert found["prompt"] == "" and found["generated"]
    (found,) = said(text_run, ["the cat sat on the mat " * 6], max_new_tokens=5)
    assert "longer than the 16 tokens that the model was trained on" in found["notice"]


def test_no_text_is_looked_at(text_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_tokenizer, "load_tokens", None)  # calling it would fail
    assert said(text_run, ["the"], max_new_tokens=3)


@pytest.fixture
def copied(bytes_run: RunFolder, project: ProjectFolder) -> RunFolder:
    shutil.copytree(bytes_run.path, project.runs_path / "r0001")
    return RunFolder(project.runs_path / "r0001")


def test_a_run_that_wrote_nothing_down_of_its_tokens_is_taken_by_its_task(text_run: RunFolder, tmp_path: Path) -> None:
    project = ProjectFolder(tmp_path).create()
    shutil.copytree(text_run.path, project.runs_path / "r0002")
    copy = RunFolder(project.runs_path / "r0002")
    (copy.path / "environment.json").unlink()
    assert said(copy, max_new_tokens=5)[0]["generated"] == said(text_run, max_new_tokens=5)[0]["generated"]


def test_what_does_not_fit_is_told(copied: RunFolder, text_run: RunFolder) -> None:
    with pytest.raises(ConfigError, match="a prompt is empty"):
        said(copied, [""])
    whole = copied.weights_path.read_bytes()
    copied.weights_path.write_bytes(whole[:-10])
    with pytest.raises(StorageError, match=r"model\.safetensors: cannot be read"):
        said(copied)
    copied.weights_path.write_bytes(text_run.weights_path.read_bytes())
    with pytest.raises(ConfigError, match="does not fit the model of the config"):
        said(copied)
    facts = copied.read("environment")
    assert facts is not None
    copied.write("environment", {**facts, "data": {**facts["data"], "tokenizer": "another"}})
    with pytest.raises(DataError, match="the tokenizer is another one than the run was trained with"):
        said(copied)


def call(monkeypatch: pytest.MonkeyPatch, folder: RunFolder, request: dict[str, Any]) -> int:
    cache = folder.path.parent.parent / "cache"
    words = ["generate", str(folder.path), str(folder.weights_path), str(cache), str(os.getppid())]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    monkeypatch.setattr(asked, "watch_parent", lambda _: None)
    return generate.main()


def test_the_process_answers_with_a_line_for_each_event(
    bytes_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, bytes_run, {"prompts": ["a"], "settings": {"max_new_tokens": 4}}) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in told[:2]] == ["start", "prompt"] and told[-1]["event"] == "end"
    assert told[0]["settings"]["temperature"] == 1.0 and told[0]["device"] == "cpu"
    assert told[-1].keys() == {"event", "tokens", "ended_by", "seconds", "notice"}


def test_the_process_tells_its_errors_in_a_line(
    bytes_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, bytes_run, {"prompts": [""], "settings": {}}) == 2
    monkeypatch.setattr(generate, "load_speaker", out_of_memory)
    assert call(monkeypatch, bytes_run, {"prompts": ["a"], "settings": {}}) == 5
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in told] == ["error", "error"]
    assert told[0]["text"].startswith("a prompt is empty")
    assert told[1]["text"].startswith("out of memory: CUDA out of memory; give fewer --max-new-tokens")


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def hotlap_command(project: ProjectFolder, *words: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    source = str(Path(hotlap.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "CUDA_VISIBLE_DEVICES": "", "XDG_RUNTIME_DIR": str(project.path)}
    command = [sys.executable, "-m", "hotlap", *words]
    return subprocess.run(
        command, cwd=project.project, env=environment, input=text, capture_output=True, text=True, check=False
    )


def test_the_command_shows_the_text_of_a_run(original: ProjectFolder, bytes_run: RunFolder) -> None:
    ended = hotlap_command(original, "generate", "r1", "--prompt-file", "-", "--max-new-tokens", "8", text="the dog\n")
    assert ended.returncode == 0, ended.stderr
    (expected,) = said(bytes_run, ["the dog"], max_new_tokens=8)
    assert ended.stdout == f"the dog{expected['generated']}\n"
    assert ended.stderr.startswith("r0001 at step 30 (model.safetensors): ")
    ended = hotlap_command(original, "generate", "r1", "--checkpoint", "20", "--json")
    document = json.loads(ended.stdout)
    assert (document["weights"], document["step"]) == ("checkpoint-20", 20)
    assert [sample["prompt"] for sample in document["samples"]] == PROMPTS
    ended = hotlap_command(original, "runs", "samples", "r1", "--json")
    told = {answers["prompt"]: answers["trained"][0]["generated"] for answers in json.loads(ended.stdout)["prompts"]}
    assert told.keys() >= set(PROMPTS)


def test_a_model_of_the_projects_own_generates_without_a_cache(project: ProjectFolder) -> None:
    (project.project / "own.py").write_text(OWN_MODEL)
    model = {"model": {"name": "own:recurrent", "width": 12}}
    folder = trained(project, {**PATCH, **model, "training.save_steps": None})
    samples = [line["generated"] for line in read_json_lines(folder.samples_path) if line["step"] == 30]
    ended = hotlap_command(project, "generate", "r1", "--json")
    assert ended.returncode == 0, ended.stderr
    assert [sample["generated"] for sample in json.loads(ended.stdout)["samples"]] == samples[-2:]
    refused = hotlap_command(project, "generate", "r1", "--prompt", "")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("hotlap: error: a prompt is empty"), "what the model printed is no error"
