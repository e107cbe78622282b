"""The task language_model: where its text comes from, and how it is cut."""

import platform
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hotlap.config.schema import LanguageModelConfig
from hotlap.core.errors import DataError
from hotlap.tasks import language_model
from hotlap.tasks.documents import LONGEST
from hotlap.tasks.examples import TextTask
from hotlap.tasks.language_model import load_language_model


def load(folder: Path, **options: Any) -> TextTask:
    return load_language_model(LanguageModelConfig(**options), folder, folder / "cache")


def test_text_comes_from_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.jsonl").write_text('{"body": "two"}\n{"body": "three"}')
    task = load(tmp_path, text=["a.txt", "*.jsonl"], text_key="body", block_size=9, max_eval_samples=3)
    assert list(task.documents()) == list(task.documents()) == ["one", "two", "three"]
    assert task.source == "a.txt, *.jsonl"
    assert (task.block_size, task.max_eval_samples, task.validation, task.streaming) == (9, 3, None, False)


def test_text_to_evaluate_on_is_read_alike(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two%three")
    task = load(tmp_path, text="a.txt", validation_text="b.txt", document_separator="%")
    assert task.validation is not None
    assert [text for chunk in task.validation.chunks() for text in chunk.documents()] == ["two", "three"]
    with pytest.raises(DataError, match=r"task\.validation_text: no file matches"):
        load(tmp_path, text="a.txt", validation_text="c.txt")


def test_without_text_it_is_the_librarys_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(b'"""Doc \xff."""\ndef f():\n    "Inner."\n')
    monkeypatch.setattr(language_model, "library_files", lambda: iter([path]))
    source, docstrings = load(tmp_path), load(tmp_path, text="docstrings")
    assert list(source.documents()) == ['"""Doc \ufffd."""\ndef f():\n    "Inner."\n']
    assert source.source == source.identity == f"source code of Python {platform.python_version()}"
    path.write_text('"""Doc."""\ndef f():\n    "Inner."\n')
    assert list(docstrings.documents()) == ["Doc.", "Inner."]
    assert docstrings.source == f"docstrings of Python {platform.python_version()}"


@pytest.mark.parametrize(
    ("names", "options", "longest"),
    [
        (["a.txt"], {}, 10_000),
        (["a.txt", "b.txt"], {}, 20_000),
        (["a.txt"], {"document_separator": "\n"}, LONGEST),
        (["a.txt"], {"validation_text": "b.txt"}, LONGEST),
        (["a.txt", "c.jsonl"], {}, LONGEST),
        (["small.txt"], {}, 2048),
    ],
)
def test_few_files_are_cut_into_a_hundred_where_they_are_to_be_split(
    tmp_path: Path, names: list[str], options: dict[str, str], longest: int
) -> None:
    for name, size in {"a.txt": 1_000_000, "b.txt": 1_000_000, "c.jsonl": 1_000_000, "small.txt": 50}.items():
        (tmp_path / name).write_text("x" * size)
    task = load(tmp_path, text=names, **options)
    assert task.text.options.longest == longest  # type: ignore[attr-defined]


def test_many_files_are_documents(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.txt").write_text("x" * 5000)
    assert [len(text) for text in load(tmp_path, text="*.txt").documents()] == [5000] * 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "a", "dataset_name": "b"}, "text and dataset_name are two sources of text"),
        ({"text": []}, "name a file at least"),
        ({"validation_split": "test"}, "validation_split needs dataset_name"),
        ({"dataset_config_name": "c"}, "dataset_config_name needs dataset_name"),
        ({"dataset_name": "b", "validation_split": "train"}, "validation_split and dataset_split are both train"),
        ({"dataset_name": "b", "validation_split": "v", "validation_text": "t"}, "two evaluation sets"),
        ({"encoding": "utf8000"}, "encoding: Python knows no 'utf8000'; write utf-8"),
        ({"encoding": "base64"}, "encoding: base64 is not one that a text can be cut in"),
        ({"encoding": "latin-1", "document_separator": "\u2028"}, r"document_separator: .* in the encoding latin-1"),
        ({"encoding": "utf-7"}, "encoding: utf-7 is not one that a text can be cut in"),
    ],
)
def test_settings_that_do_not_go_together_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LanguageModelConfig(**options)
