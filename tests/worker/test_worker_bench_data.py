"""The measurements of a tiny training's data, in this process."""

from typing import Any

import pytest
from tiny_runs import CONFIG

from hotlap.config.load import config_from_values, config_text
from hotlap.core.errors import NotSupportedError
from hotlap.core.study_folder import ProjectFolder
from hotlap.worker import bench_data, profile

GENERATOR = """
import random


def samples(seed, words=4):
    draw = random.Random(seed)
    while True:
        word = "".join(draw.choices("abcdef", k=words))
        yield f"{word} =", word
"""


def said(project: ProjectFolder, patch: dict[str, Any], workers: list[int]) -> dict[str, list[Any]]:
    """Return what the worker says of the tiny config with a patch, by event."""
    task = {"text": str(project.project / "corpus.txt"), "max_length_bytes": 24}
    text = config_text(config_from_values({"task": task, **CONFIG}, patch))
    request = {"config": text, "workers": workers, "seconds": 0.02}
    found: dict[str, list[Any]] = {}
    for event in bench_data.events(project.project, project.cache_path, request):
        found.setdefault(event["event"], []).append(event[next(key for key in event if key != "event")])
    return found


@pytest.mark.parametrize(
    ("patch", "parts"),
    [
        ({}, ["tokenising", "ordering", "collating"]),
        ({"training.padding": "packed"}, ["tokenising", "packing", "collating"]),
        (
            {"task": {"name": "generator", "function": "own:samples", "max_eval_samples": 4}},
            ["sampling", "tokenising", "collating"],
        ),
        (
            {
                "task": {"name": "generator", "function": "own:samples", "max_eval_samples": 4, "max_length": 16},
                "training.padding": "packed",
            },
            ["sampling", "tokenising", "packing", "collating"],
        ),
        (
            {"task": {"name": "language_model", "text": "corpus.txt", "document_separator": "\n\n", "block_size": 16}},
            ["reading text", "tokenising", "ordering", "collating"],
        ),
    ],
)
def test_each_part_of_a_pipeline_is_measured(project: ProjectFolder, patch: dict[str, Any], parts: list[str]) -> None:
    (project.project / "own.py").write_text(GENERATOR, encoding="utf-8")
    if patch.get("task", {}).get("name") == "language_model":
        patch["task"]["text"] = str(project.project / "corpus.txt")
    found = said(project, patch, [0])
    assert [part["name"] for part in found["part"]] == parts
    assert all(part["rate"] > 0 for part in found["part"])
    assert found["need"][0]["step_seconds"] > 0 and found["need"][0]["samples_per_step"] >= 4
    assert found["loader"][0]["workers"] == 0 and found["loader"][0]["seconds_per_step"] > 0
    assert not [check for check in found["check"] if check["passed"] is False]


def test_workers_are_measured_and_compared(project: ProjectFolder) -> None:
    found = said(project, {}, [0, 1])
    assert [loader["workers"] for loader in found["loader"]] == [0, 1]
    assert found["loader"][1]["startup_seconds"] > 0 and not found["loader"][1]["is_computed"]
    assert next(check for check in found["check"] if "workers" in check["name"])["passed"]


def test_workers_of_a_generator_are_measured_in_rounds(project: ProjectFolder) -> None:
    (project.project / "own.py").write_text(GENERATOR, encoding="utf-8")
    found = said(project, {"task": {"name": "generator", "function": "own:samples", "max_eval_samples": 4}}, [1])
    assert found["loader"][0]["is_computed"]
    assert found["loader"][0]["step_seconds"] >= found["need"][0]["step_seconds"]


def test_a_function_of_the_project_is_measured(project: ProjectFolder) -> None:
    (project.project / "own.py").write_text(GENERATOR, encoding="utf-8")
    request = {"function": "own:samples", "workers": [0], "seconds": 0.02, "batch_size": 4, "seed": 1}
    events = list(bench_data.events(project.project, project.cache_path, request))
    assert [event["event"] for event in events] == ["stage", "stage", "loader", "stage", "check", "check", "check"]


def test_a_loader_of_the_projects_own_is_measured_once_under_its_own_workers(project: ProjectFolder) -> None:
    code = (
        "from torch.utils.data import DataLoader\n\n\ndef loader():\n    return DataLoader(range(60), batch_size=4)\n"
    )
    (project.project / "own.py").write_text(code, encoding="utf-8")
    request = {"function": "own:loader", "workers": [1, 2], "seconds": 0.02, "batch_size": 32, "seed": 1}
    events = list(bench_data.events(project.project, project.cache_path, request))
    assert [event["loader"]["workers"] for event in events if event["event"] == "loader"] == [0]


@pytest.mark.parametrize("verb", [bench_data, profile])
def test_the_trainers_own_loop_is_refused(project: ProjectFolder, verb: Any) -> None:
    text = config_text(config_from_values({**CONFIG, "backend": "hf"}))
    places = [project.project, project.cache_path, *([project.path] if verb is profile else [])]
    with pytest.raises(NotSupportedError, match="backend=fast"):
        list(verb.events(*places, {"config": text, "workers": [0], "seconds": 0.1, "steps": 1, "warmup": 0}))
