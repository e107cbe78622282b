"""Hugging Face data sets: their rows are documents. A stand-in takes the package's place, once the real one reads."""

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hotlap.config.schema import LanguageModelConfig
from hotlap.core.errors import DataError, MissingExtraError
from hotlap.tasks import hub_datasets
from hotlap.tasks.documents import TextSource
from hotlap.tasks.hub_datasets import DatasetTexts
from hotlap.tasks.language_model import load_language_model

TEXTS = [f"row {number} é" for number in range(1000)]


class Rows(list[dict[str, Any]]):
    """A split of a data set, as the package gives it."""

    column_names = ("id", "text")
    info = SimpleNamespace(dataset_size=12345)
    _fingerprint = "f00"

    def __getitem__(self, place: Any) -> Any:
        return {"text": [row["text"] for row in list.__getitem__(self, place)]}


class Stream:
    """A split that is read as it comes."""

    column_names = None
    info = SimpleNamespace(dataset_size=None)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({"id": 1, "text": text} for text in TEXTS)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put a package `datasets` in the real one's place that knows one data set."""

    def load(name: str, config: str | None, *, split: str, streaming: bool) -> Any:
        if name != "owner/texts" or split not in ("train", "test"):
            raise ValueError(f"no {name} with {config} and {split}\nand more lines")
        rows = TEXTS if split == "train" else TEXTS[:3]
        return Stream() if streaming else Rows({"id": 1, "text": text} for text in rows)

    module = ModuleType("datasets")
    module.load_dataset, module.disable_progress_bars = load, lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setattr(hub_datasets, "CHUNK_BYTES", 2000)
    hub_datasets._load.cache_clear()
    return module


def texts(
    name: str = "owner/texts", split: str = "train", key: str = "text", *, streamed: bool = False
) -> DatasetTexts:
    return DatasetTexts(name, None, split, key, is_streamed=streamed)


def read(source: TextSource) -> list[str]:
    return [text for chunk in source.chunks() for text in pickle.loads(pickle.dumps(chunk)).documents()]


@pytest.mark.parametrize("streamed", [False, True])
def test_each_row_is_a_document(library: ModuleType, streamed: bool) -> None:
    source = texts(streamed=streamed)
    assert read(source) == TEXTS
    assert len(list(source.chunks())) > 4
    assert source.num_bytes == (None if streamed else 12345)


def test_a_data_set_is_named_by_its_content_or_by_what_it_was_asked_for(library: ModuleType) -> None:
    names = {texts().identity, texts(key="id").identity, texts(streamed=True).identity}
    names |= {texts(split="test", streamed=True).identity}
    assert len(names) == 4
    assert texts().identity == texts(split="test").identity, "the same fingerprint: the same content"


def test_the_settings_name_splits(library: ModuleType, tmp_path: Path) -> None:
    config = LanguageModelConfig(dataset_name="owner/texts", validation_split="test")
    task = load_language_model(config, tmp_path, tmp_path)
    assert task.source == "owner/texts, train"
    assert list(task.documents()) == TEXTS
    assert task.validation is not None and read(task.validation) == TEXTS[:3]


def test_what_cannot_be_had_is_told_in_one_line(library: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(texts("owner/nothing"))
    assert str(caught.value) == (
        "task.dataset_name: owner/nothing, default, train: cannot be loaded; it is no folder here: no owner/nothing "
        "with None and train"
    )
    with pytest.raises(DataError, match=r"has no column 'body'; it has id, text; name it with task\.text_key"):
        read(texts(key="body"))


def test_a_row_without_text_is_told(library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "__iter__", lambda _: iter([{"text": "a"}, {"text": None}]))
    with pytest.raises(DataError, match=r"owner/texts, train: row 1: 'text' is empty, expected text"):
        read(texts(streamed=True))


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    hub_datasets._load.cache_clear()
    with pytest.raises(MissingExtraError, match=r"datasets is not installed; run: pip install 'hotlap\[hf\]'"):
        read(texts())


@pytest.mark.parametrize("streamed", [False, True])
def test_the_real_package_reads_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    pytest.importorskip("datasets", exc_type=ImportError)
    hub_datasets._load.cache_clear()
    folder = tmp_path / "own"
    folder.mkdir()
    rows = "\n".join(json.dumps({"text": text}) for text in TEXTS)
    (folder / "train.jsonl").write_text(rows, encoding="utf-8")
    source = texts(str(folder), streamed=streamed)
    assert read(source) == TEXTS
    assert source.identity == texts(str(folder), streamed=streamed).identity
