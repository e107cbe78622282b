"""Tasks by name, among them functions of the project."""

from pathlib import Path
from typing import Any

import pytest

from hotlap.config.schema import CustomTaskConfig, LanguageModelConfig, StringRepetitionConfig
from hotlap.core.errors import ConfigError
from hotlap.tasks.examples import Example, TaskData, TextTask
from hotlap.tasks.registry import load_task
from hotlap.tasks.string_repetition import load_string_repetition


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"this is text number {number}. here is another sentence {number}.")
    return tmp_path


def test_hotlaps_own_tasks(corpus: Path) -> None:
    cache = corpus / "cache"
    repetition = StringRepetitionConfig(text="*.txt")
    assert load_task(repetition, corpus, cache) == load_string_repetition(repetition, corpus, cache)
    assert isinstance(load_task(LanguageModelConfig(text="*.txt"), corpus, cache), TextTask)


def letters(count: int, start: str = "a") -> TaskData:
    """Stand for a function of the project."""
    examples = tuple(Example(start, start * n) for n in range(count))
    return TaskData(train=examples[1:], eval=examples[:1], source="letters")


def custom(**values: Any) -> CustomTaskConfig:
    return CustomTaskConfig(name="project:letters", **values)


def test_a_task_of_the_project_gets_the_keys_of_its_section(tmp_path: Path) -> None:
    assert load_task(custom(count=5, start="b"), tmp_path, tmp_path, {"task.name": letters}) == letters(5, "b")


@pytest.mark.parametrize("values", [{}, {"count": 5, "size": 1}])
def test_keys_that_the_function_does_not_take_are_told(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"project:letters cannot be called with the keys of the section: .*argument"):
        load_task(custom(**values), tmp_path, tmp_path, {"task.name": letters})


def test_anything_but_a_task_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"project:letters has to return a TaskData or a TokenTask .*, got list"):
        load_task(custom(), tmp_path, tmp_path, {"task.name": list})
    with pytest.raises(ConfigError, match="was not loaded"):
        load_task(custom(), tmp_path, tmp_path)
