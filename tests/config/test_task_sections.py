"""The sections of prompts and completions, generators and mixtures."""

import re
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import config_from_values, config_text, load_config
from hotlap.config.parts import custom_parts
from hotlap.config.schema import GeneratorConfig, LanguageModelConfig, MixtureConfig, RunConfig, StringRepetitionConfig
from hotlap.core.errors import ConfigError

SUMS = {"name": "generator", "function": "my_tasks:sums", "largest": 9}
MIXTURE = {
    "name": "mixture",
    "by": "samples",
    "tasks": {
        "sums": {**SUMS, "weight": 2},
        "pairs": {"name": "prompt_completion", "file": "pairs/*.jsonl"},
        "text": {"name": "language_model", "text": "text/*.txt", "weight": 0.5},
        "own": {"name": "parts.own:make", "task": "a keyword of it"},
    },
}


def config(task: dict[str, Any], **patch: Any) -> RunConfig:
    return config_from_values({"task": task}, {"training.max_steps": 10, **patch})


def refusal(task: dict[str, Any], **patch: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        config(task, **patch)
    return str(raised.value)


def test_a_mixture_has_sections_with_weights() -> None:
    task = config(MIXTURE).task
    assert isinstance(task, MixtureConfig)
    assert {name: sub.weight for name, sub in task.tasks.items()} == {"sums": 2, "pairs": 1, "text": 0.5, "own": 1}
    sums = task.tasks["sums"].task
    assert isinstance(sums, GeneratorConfig)
    assert (sums.function, sums.model_extra) == ("my_tasks:sums", {"largest": 9})
    assert task.tasks["own"].task.model_extra == {"task": "a keyword of it"}
    assert isinstance(config({"name": "mixture", "tasks": {"a": {}}}).task.tasks["a"].task, StringRepetitionConfig)


def test_a_mixture_is_written_as_it_is_read() -> None:
    before = config(MIXTURE)
    values = before.model_dump(mode="json")
    assert values["task"]["tasks"]["sums"]["weight"] == 2
    assert values["task"]["tasks"]["sums"]["largest"] == 9
    assert config_from_values(values) == before
    assert "function: my_tasks:sums" in config_text(before)
    assert config_from_values(values, {"task.tasks.sums.weight": 3}).task.tasks["sums"].weight == 3


def test_functions_of_the_project_are_named_by_their_keys() -> None:
    assert custom_parts(config(SUMS)) == {"task.function": "my_tasks:sums"}
    expected = {"task.tasks.sums.function": "my_tasks:sums", "task.tasks.own.name": "parts.own:make"}
    assert custom_parts(config(MIXTURE)) == expected


def test_files_are_named_from_the_config_on(tmp_path: Path) -> None:
    path = tmp_path / "hotlap.yaml"
    path.write_text(
        "task:\n  name: mixture\n  tasks:\n"
        "    a: {name: prompt_completion, file: a.jsonl, validation_file: v.jsonl, chat_template: chat.jinja}\n"
        "    b: {name: prompt_completion, file: b.tsv, chat_template: '{{ messages }}'}\n"
        "    c: {name: 'mine:make', file: stays.txt}\n"
        "    d: {name: generator, function: 'mine:draw', file: stays.txt}\n"
    )
    tasks = load_config(path).task.tasks
    a, b = tasks["a"].task, tasks["b"].task
    assert [a.file, a.validation_file, a.chat_template] == [
        str(tmp_path / name) for name in ("a.jsonl", "v.jsonl", "chat.jinja")
    ]
    assert (b.file, b.validation_file, b.chat_template) == (str(tmp_path / "b.tsv"), None, "{{ messages }}")
    assert [tasks[name].task.model_extra["file"] for name in "cd"] == ["stays.txt"] * 2
    path.write_text("task: {name: language_model, text: '*.txt'}\n")
    found = load_config(path).task
    assert isinstance(found, LanguageModelConfig)
    assert found.text == str(tmp_path / "*.txt")


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, r"task\.tasks: .*at least 1"),
        ({"a": {"name": "generator"}}, r"task\.tasks\.a\.function: Field required"),
        (
            {"a": {"name": "language_model", "block": 3}},
            r"task\.tasks\.a\.block: unknown key; did you mean 'block_size'",
        ),
        ({"a": {"name": "language_model", "wieght": 3}}, r"task\.tasks\.a\.wieght: unknown key; did you mean 'weight'"),
        ({"a": {"weight": 0}}, r"task\.tasks\.a\.weight: .*greater than 0, got 0"),
        (
            {"a": {"name": "languge_model"}},
            r"task\.tasks\.a: unknown task 'languge_model'\. Did you mean 'language_model'",
        ),
        ({"a": {"name": "mixture", "tasks": {}}}, r"task\.tasks\.a: a mixture holds no mixtures"),
        ({"byte": {}}, r"task\.tasks\.byte: a task cannot be called byte: eval_byte_accuracy is a metric of all"),
        ({"a-b": {}}, r"task\.tasks\.a-b: .*pattern"),
    ],
)
def test_what_is_wrong_in_a_mixture_is_told_with_its_place(tasks: dict[str, Any], message: str) -> None:
    assert re.search(message, refusal({"name": "mixture", "tasks": tasks}))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"name": "prompt_completion"}, r"task\.file: Field required"),
        ({"name": "prompt_completion", "file": "a.jsonl", "promt_key": "q"}, "did you mean 'prompt_key'"),
        ({"name": "prompt_completion", "file": "a.jsonl", "max_length": 1}, "greater than or equal to 2"),
        ({"name": "generator", "function": "samples"}, r"task\.function: .*pattern"),
    ],
)
def test_bad_settings_are_told(task: dict[str, Any], message: str) -> None:
    assert re.search(message, refusal(task))


@pytest.mark.parametrize("task", [SUMS, MIXTURE])
def test_endless_data_have_no_epochs(task: dict[str, Any]) -> None:
    told = refusal(task, **{"training.max_steps": -1, "training.save_strategy": "epoch"})
    assert (
        f"training.num_train_epochs (max_steps -1), training.save_strategy: epoch: task {task['name']} never ends, so "
        "there are no epochs; set training.max_steps" in told
    )
    assert config(task, **{"training.schedule_by": "tokens", "training.max_tokens": 1000})


def test_targets_may_name_the_tasks_of_a_mixture() -> None:
    found = config(MIXTURE, targets=["eval_sums_loss < 0.5", "eval_text_byte_accuracy > 0.4"])
    assert [target.metric for target in found.parsed_targets()] == ["eval_sums_loss", "eval_text_byte_accuracy"]
    assert found.task_metrics[0] == "eval_sums_loss"
    assert config(MIXTURE, **{"training.metric_for_best_model": "eval_text_loss"}).training.greater_is_better is False
    assert "unknown metric 'eval_sum_loss'. Did you mean 'eval_sums_loss'?" in refusal(
        MIXTURE, targets=["eval_sum_loss < 0.5"]
    )
    assert "eval_NAME_loss is for the tasks of a mixture" in refusal(SUMS, targets=["eval_sums_loss < 0.5"])
    assert "unknown metric in a target 'eval_los'" in refusal(MIXTURE, targets=["eval_los < 0.5"])


def test_a_mixture_needs_whole_texts() -> None:
    task = {"name": "mixture", "tasks": {"books": {"name": "language_model", "streaming": True}}}
    with pytest.raises(ConfigError, match=r"tasks\.books\.streaming: a mixture needs the whole text"):
        config_from_values({"task": task, "training": {"max_steps": 5}})
