"""The tokenizer of a run is found again without its text, and another one is never taken for it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.errors import DataError
from hotlap.data import saved_tokenizer
from hotlap.data.load import load_tokens
from hotlap.data.saved_tokenizer import load_saved_tokenizer
from hotlap.data.tokenizers import SubwordTokenizer, Tokenizer

TEXTS = ("In the beginning there was a text about cats and hats.", "And another one, about fish and dishes: ¿qué?")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    for number, content in enumerate(TEXTS * 3):
        (tmp_path / f"{number}.txt").write_text(f"{content} {number}", encoding="utf-8")
    return tmp_path


def load(folder: Path, tokenizer: Any, known_hash: str | None) -> Tokenizer:
    return load_saved_tokenizer(config_with(tokenizer), folder, folder / "cache", known_hash, dict)


def train(folder: Path, tokenizer: Any) -> Tokenizer:
    return load_tokens(config_with(tokenizer), folder, folder / "cache")[1]


def config_with(tokenizer: Any) -> RunConfig:
    task = {"name": "language_model", "text": "*.txt", "block_size": 8}
    return config_from_values({"task": task, "tokenizer": tokenizer})


@pytest.mark.parametrize("section", ["byte", "character", {"name": "bpe", "vocab_size": 280}])
def test_the_text_is_not_looked_at(text: Path, section: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train(text, section)
    for path in text.glob("*.txt"):
        path.unlink()
    monkeypatch.setattr(saved_tokenizer, "load_tokens", None)  # calling it would fail
    found = load(text, section, trained.hash)
    assert found.hash == trained.hash
    assert found.decode(found.encode(TEXTS[1]).tolist()) == TEXTS[1]


@pytest.mark.parametrize("section", ["character", {"name": "bpe", "vocab_size": 280}])
def test_of_several_in_the_cache_it_is_the_runs_own(text: Path, section: Any) -> None:
    first = train(text, section)
    (text / "more.txt").write_text("Något annat, på svenska: åäö, åäö, åäö.", encoding="utf-8")
    second = train(text, section)
    assert first.hash != second.hash
    assert [load(text, section, one.hash).hash for one in (first, second)] == [first.hash, second.hash]


def test_one_that_is_gone_is_trained_again(text: Path) -> None:
    trained = train(text, "character")
    shutil.rmtree(text / "cache")
    (text / "cache").mkdir()
    assert load(text, "character", trained.hash).hash == trained.hash
    assert load(text, "character", None).hash == trained.hash, "an older run wrote no hash down"


def test_another_one_is_told(text: Path) -> None:
    train(text, "character")
    with pytest.raises(DataError, match=r"the tokenizer is another one than the run was trained with \(0123 is now "):
        load(text, "character", "0123")


def test_a_file_that_has_changed_is_told(text: Path) -> None:
    trained = train(text, {"name": "bpe", "vocab_size": 280})
    assert isinstance(trained, SubwordTokenizer)
    (text / "own.json").write_text(trained.content, encoding="utf-8")
    section = {"name": "pretrained", "path": "own.json"}
    known = load(text, section, None).hash
    assert load(text, section, known).hash == known
    other = train(text, {"name": "bpe", "vocab_size": 270})
    assert isinstance(other, SubwordTokenizer)
    (text / "own.json").write_text(other.content, encoding="utf-8")
    with pytest.raises(DataError, match="put the old one back"):
        load(text, section, known)
