"""From a config with a generator, a mixture or files of pairs to tokens."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotlap.config.load import config_from_values
from hotlap.core.errors import ConfigError, DataError
from hotlap.data.encoding import Examples, evaluation_facts
from hotlap.data.load import LoadedData, load_data, load_held_out, load_tokens
from hotlap.data.streams import EndlessExamples
from hotlap.tasks.examples import MixtureTask, TaskData, describe, num_shared

SUMS = {"name": "generator", "function": "my_tasks:sums", "max_eval_samples": 8}
PAIRS = {"name": "prompt_completion", "file": "pairs.jsonl", "max_eval_samples": 3}
TEXT = {"name": "language_model", "text": "*.txt", "block_size": 16, "max_eval_samples": 4}


def sums(seed: int) -> Iterator[tuple[str, str]]:
    draw = random.Random(seed)
    while True:
        a, b = draw.randrange(999), draw.randrange(999)
        yield f"{a}+{b}=", str(a + b)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_pairs(tmp_path, [(f"{number}? ", str(3 * number)) for number in range(200)])
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(f"text number {number} " * 20)
    return tmp_path


def write_pairs(project: Path, pairs: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"prompt": prompt, "completion": completion}) for prompt, completion in pairs]
    (project / "pairs.jsonl").write_text("\n".join(lines))


def config(task: dict[str, Any], **patch: Any) -> Any:
    return config_from_values({"task": task, "model": {"max_position_embeddings": 32}}, patch)


def functions(task: dict[str, Any]) -> dict[str, Any]:
    if task["name"] != "mixture":
        return {"task.function": sums}
    return {f"task.tasks.{name}.function": sums for name in task["tasks"]}


def load(project: Path, task: dict[str, Any], **patch: Any) -> LoadedData:
    return load_data(config(task, **patch), project, project / "cache", functions(task))


def mixture(**tasks: dict[str, Any]) -> dict[str, Any]:
    return {"name": "mixture", "tasks": tasks}


def test_a_generator_is_a_stream_with_an_evaluation_set(project: Path) -> None:
    data = load(project, SUMS)
    assert isinstance(data.train, EndlessExamples)
    assert (len(data.eval), data.eval.groups) == (8, ())
    assert data.train.bound == 33
    assert describe(data.task).startswith("endless training and 8 evaluation examples from my_tasks:sums (")


def test_a_mixture_is_evaluated_task_by_task(project: Path) -> None:
    task = mixture(sums=SUMS, pairs={**PAIRS, "weight": 2}, text=TEXT)
    data = load(project, task)
    assert isinstance(data.train, EndlessExamples)
    assert [(part.name, part.weight) for part in data.train.parts] == [("sums", 1), ("pairs", 2), ("text", 1)]
    assert data.eval.groups == (("sums", 8), ("pairs", 3), ("text", 4))
    assert len(data.eval) == 15
    assert not data.task.has_completions
    assert load(project, mixture(sums=SUMS, pairs=PAIRS)).task.has_completions
    assert num_shared(data.task) == 0
    assert {path.suffix for path in data.task.files} >= {".jsonl", ".tokens"}
    assert "pairs: " in describe(data.task)


def test_what_is_evaluated_again_is_what_was_evaluated(project: Path) -> None:
    for task in (SUMS, PAIRS, mixture(sums=SUMS, pairs=PAIRS), mixture(sums=SUMS, text=TEXT)):
        data = load(project, task)
        found, _, evaluation, audit = load_held_out(config(task), project, project / "cache", functions(task))
        assert found.hash == data.task.hash
        assert evaluation_facts(evaluation) == evaluation_facts(data.eval)
        assert evaluation.groups == data.eval.groups
        assert audit is None or audit.groups == () or [name for name, _ in audit.groups] == list(task["tasks"])


def test_the_hash_names_tasks_weights_and_shares(project: Path) -> None:
    tasks = [
        mixture(sums=SUMS, pairs=PAIRS),
        mixture(sums=SUMS, others=PAIRS),
        mixture(sums={**SUMS, "weight": 2}, pairs=PAIRS),
        {**mixture(sums=SUMS, pairs=PAIRS), "by": "samples"},
        mixture(sums=SUMS, pairs={**PAIRS, "max_eval_samples": 2}),
    ]
    assert len({load(project, task).task.hash for task in tasks}) == 5
    assert load(project, tasks[0]).task.hash == load(project, tasks[0]).task.hash


def test_the_hash_of_a_mixture_does_not_depend_on_the_seed(project: Path) -> None:
    task = mixture(sums=SUMS, text=TEXT)
    assert load(project, task).task.hash == load(project, task, **{"training.seed": 7}).task.hash


def test_a_tokenizer_is_trained_on_all_tasks(project: Path) -> None:
    task = mixture(sums=SUMS, pairs=PAIRS, text=TEXT)
    given = config(task, tokenizer="character")
    found, tokenizer = load_tokens(given, project, project / "cache", functions(task))
    assert isinstance(found, MixtureTask)
    assert tokenizer.decode(tokenizer.encode("12+3=? text").tolist()) == "12+3=? text"


def test_no_task_trains_on_what_another_is_evaluated_on(project: Path) -> None:
    (project / "again.jsonl").write_bytes(
        (project / "pairs.jsonl").read_bytes() + b'\n{"prompt": "n", "completion": "1"}'
    )
    held = load(project, PAIRS).task
    assert isinstance(held, TaskData)
    line = json.dumps({"prompt": held.eval[0].prefix, "completion": held.eval[0].completion})
    (project / "leak.jsonl").write_text(f'{line}\n{{"prompt": "a", "completion": "b"}}')
    (project / "other.jsonl").write_text('{"prompt": "never", "completion": "seen"}')
    leak = {"name": "prompt_completion", "file": "leak.jsonl", "validation_file": "other.jsonl"}
    with pytest.raises(
        DataError, match=r"task\.tasks\.pairs: 1 of its evaluation examples stand in .* task\.tasks\.leak"
    ):
        load(project, mixture(pairs=PAIRS, leak=leak))


def test_long_examples_are_told_cut_or_left_out(project: Path) -> None:
    pairs = [(f"{number}? ", "x" * (10 + number % 30)) for number in range(300)]
    write_pairs(project, pairs)
    with pytest.raises(
        DataError, match=r"\d+ of \d+ examples are longer than the model takes \(33 tokens .*pairs\.jsonl:\d+"
    ):
        load(project, PAIRS)
    cut = load(project, {**PAIRS, "max_length": 33}).train
    assert isinstance(cut, Examples)
    assert cut.lengths.max() == 33
    dropped = load(project, {**PAIRS, "max_length": 33, "too_long": "drop"}).train
    assert isinstance(dropped, Examples)
    assert dropped.lengths.max() <= 33
    assert len(dropped) < len(cut)
    assert np.all(cut.num_targets >= 1)
    write_pairs(project, [(f"{number}? " * 20, "x") for number in range(9)])
    with pytest.raises(DataError, match=r"no training examples left \(pairs\.jsonl\): every one is longer than .* 33"):
        load(project, {**PAIRS, "max_length": 33})


def test_a_weight_is_the_mixture_s_and_no_parameter_of_a_function(project: Path) -> None:
    def weighted(seed: int = 0, weight: float = 1.0) -> Iterator[tuple[str, str]]:
        return sums(seed)

    for section in ({"name": "generator", "function": "my_tasks:sums"}, {"name": "my_tasks:sums"}):
        key = "function" if "function" in section else "name"
        with pytest.raises(ConfigError, match=r"^task\.tasks\.one.* has a parameter weight, which is .*; rename it"):
            load_data(
                config(mixture(one={**section, "weight": 2})), project, project, {f"task.tasks.one.{key}": weighted}
            )
