"""Corpora: documents, windows, split, cache and hash, and the bytes that windows stand for."""

import errno
import json
import os
import pickle
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotlap.config.schema import LanguageModelConfig
from hotlap.core.errors import DataError, StorageError
from hotlap.data import corpus, preparation, shards
from hotlap.data.corpus import chosen_windows, prepare_corpus, windows_of
from hotlap.data.encoding import encode_task
from hotlap.data.tokenizers import ByteTokenizer, CharacterTokenizer, SubwordTokenizer, Tokenizer, train_bpe
from hotlap.tasks.examples import TokenTask, TokenWindows, num_shared
from hotlap.tasks.language_model import load_language_model

TEXTS = [f"document {number} " * (number + 1) for number in range(100)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number:03}.txt").write_text(text)
    return tmp_path


def load(folder: Path, text: str | None = "*.txt", tokenizer: Tokenizer | None = None, **options: Any) -> TokenTask:
    task = load_language_model(LanguageModelConfig(text=text, **options), folder, folder / "cache")
    return prepare_corpus(task, tokenizer or ByteTokenizer(), folder / "cache")


def contents(windows: TokenWindows) -> list[bytes]:
    pairs = zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True)
    return [bytes(windows.tokens[start : start + length]) for start, length in pairs]


@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=8), block_size=st.integers(2, 50))
@settings(deadline=None)
def test_every_token_but_a_documents_first_is_a_target_once(lengths: list[int], block_size: int) -> None:
    sizes = np.array(lengths)
    starts, counts = windows_of(np.cumsum(sizes) - sizes, sizes, block_size)
    assert counts.min() >= 2
    assert counts.max() <= block_size + 1
    targets = np.concatenate([np.arange(a + 1, a + n) for a, n in zip(starts, counts, strict=True)])
    firsts = (np.cumsum(sizes) - sizes).tolist()
    assert targets.tolist() == [place for place in range(sum(lengths)) if place not in firsts]


def test_windows_stay_within_their_documents(folder: Path) -> None:
    task = load(folder, block_size=16)
    for part in (task.train, task.eval):
        for window in contents(part):
            assert any(window.decode() in text for text in TEXTS)
    assert not task.has_completions
    assert task.source == "*.txt"


def test_training_and_evaluation_share_no_document(folder: Path) -> None:
    task = load(folder, block_size=4096, max_eval_samples=99)
    train, evaluation = (set(contents(part)) for part in (task.train, task.eval))
    assert (len(train), len(evaluation)) == (99, 1)
    assert {window.decode() for window in train | evaluation} == set(TEXTS)
    assert dict(task.documents) == {
        "documents": 100,
        "duplicates": 0,
        "held_out": 1,
        "shared": 0,
        "bytes": sum(map(len, TEXTS)),
    }


def test_the_evaluation_is_spread_over_what_is_held_out(folder: Path) -> None:
    full, few = load(folder, block_size=8, max_eval_samples=10**6), load(folder, block_size=8, max_eval_samples=6)
    count = len(full.eval)
    assert len(few.eval) == 6 < count
    assert few.eval.starts.tolist() == full.eval.starts[[count * n // 6 for n in range(6)]].tolist()
    assert few.train.starts.tolist() == full.train.starts.tolist()


@pytest.mark.parametrize("size", [1, 6, 20, 10**6])
def test_audit_windows_are_held_out_and_not_evaluated_on(folder: Path, size: int) -> None:
    full, task = load(folder, block_size=8, max_eval_samples=10**6), load(folder, block_size=8, max_eval_samples=size)
    assert full.audit is None, "none are left"
    unseen = set() if task.audit is None else set(task.audit.starts.tolist())
    assert len(unseen) == min(len(task.eval), len(full.eval) - len(task.eval))
    assert unseen <= set(full.eval.starts.tolist()) - set(task.eval.starts.tolist())
    assert all(path.is_file() for path in task.files) and len(task.files) == 3


@given(count=st.integers(1, 50), wanted=st.integers(1, 60))
def test_windows_are_chosen_once(count: int, wanted: int) -> None:
    first, second = (part.tolist() for part in chosen_windows(count, wanted))
    assert len(first) == min(count, wanted)
    assert len(second) == min(len(first), count - len(first))
    assert len({*first, *second}) == len(first) + len(second)
    assert {*first, *second} <= set(range(count))


def test_windows_that_are_trained_on_are_counted(folder: Path) -> None:
    task = load(folder, block_size=8)
    assert num_shared(task) == 0
    leaking = replace(task, train=replace(task.train, starts=np.append(task.train.starts, task.eval.starts[:3]),
                                          lengths=np.append(task.train.lengths, task.eval.lengths[:3])))  # fmt: skip
    assert num_shared(leaking) == 3
    one_token = replace(task, train=replace(task.train, starts=task.eval.starts[1:2] + 2, lengths=np.array([2])))
    assert num_shared(one_token) == 1


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(2, 9)), min_size=1, max_size=8), st.integers(0, 60))
@settings(deadline=None)
def test_shared_windows_are_those_of_a_naive_loop(spans: list[tuple[int, int]], start: int) -> None:
    tokens = np.zeros(80, dtype=np.uint8)
    starts, lengths = (np.array(values) for values in zip(*spans, strict=True))
    train, evaluation = TokenWindows(tokens, starts, lengths), TokenWindows(tokens, np.array([start]), np.array([5]))
    targets = {place for begin, length in spans for place in range(begin + 1, begin + length)}
    expected = int(bool(targets & set(range(start + 1, start + 5))))
    assert num_shared(TokenTask(train=train, eval=evaluation, source="s", hash="h")) == expected


def test_split_and_order_depend_on_the_contents_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for number, text in enumerate(reversed(TEXTS)):
        (other / f"{number}.txt").write_text(text)
    (other / "again.txt").write_text(TEXTS[7])  # a document that comes twice counts once
    (other / "empty.txt").write_text("")
    (other / "letter.txt").write_text("a")
    first, second = load(folder), load(other)
    assert first.hash == second.hash
    assert contents(first.train) == contents(second.train)
    assert contents(first.eval) == contents(second.eval)
    assert second.documents["duplicates"] == 1


def test_the_hash_names_text_windows_evaluation_and_tokenizer(folder: Path) -> None:
    hashes = {load(folder).hash, load(folder, block_size=8).hash, load(folder, max_eval_samples=3).hash}
    hashes.add(load(folder, tokenizer=CharacterTokenizer("documentabcdefghijklmnopqrstuvwxyz 0123456789")).hash)
    (folder / "new.txt").write_text("one more")
    assert len(hashes | {load(folder).hash}) == 5


def test_the_corpus_is_prepared_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(folder)
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "prepare_shards", None)  # calling it would fail
        for options in ({}, {"block_size": 32}, {"max_eval_samples": 2}):
            load(folder, "*.txt", **options)
        assert contents(load(folder).train) == contents(first.train)
    (folder / "000.txt").write_text("something else")
    assert load(folder).hash != first.hash


@pytest.mark.parametrize(
    "name", ["language_model-*.json", "language_model-*.npz", "*.tokens", "000000.npz", "complete.json"]
)
@pytest.mark.parametrize("is_cut", [False, True])
def test_half_a_cache_is_made_again(folder: Path, name: str, is_cut: bool) -> None:
    first = load(folder)
    expected = contents(first.train), contents(first.eval)
    (path,) = (folder / "cache").rglob(name)
    content = path.read_bytes()
    path.unlink()
    if is_cut and path.suffix == ".tokens":
        path.write_bytes(content[:-1])
    again = load(folder)
    assert (contents(again.train), contents(again.eval)) == expected
    assert again.hash == first.hash
    assert all(path.is_file() for path in first.files)


def test_windows_can_be_sent_to_another_process(folder: Path) -> None:
    train, evaluation = encode_task(load(folder), ByteTokenizer())
    for part in (train, evaluation):
        data = pickle.dumps(part)
        assert [one.ids.tolist() for one in pickle.loads(data)] == [one.ids.tolist() for one in part]
    assert len(pickle.dumps(evaluation)) < 4000, "the tokens stay in their file"


@pytest.mark.parametrize("texts", [["one document"], ["same", "same"], ["a", "b", "two"], ["a"]])
def test_a_corpus_without_two_documents_is_too_small(tmp_path: Path, texts: list[str]) -> None:
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text)
    message = r"the corpus is too small: 1 document\(s\) that differ" if texts != ["a"] else "holds no document of two"
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_corpus_smaller_than_one_sequence_is_told(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(f"only ten {number}")
    with pytest.raises(
        DataError, match=r"smaller than one sequence: 36 token\(s\) to predict, task\.block_size is 256; give more text"
    ):
        load(tmp_path)
    assert len(load(tmp_path, block_size=36).train) == 4


def test_a_cache_that_cannot_be_written_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shards.os, "fsync", fail)
    with pytest.raises(StorageError, match=r"cannot write .*000000\.tokens: No space left on device; free space"):
        load(folder)
    assert [path.name for path in (folder / "cache").rglob("*") if path.is_file()] in ([], ["lock"])


def test_a_few_long_files_are_cut_so_that_they_can_be_split(tmp_path: Path) -> None:
    draw = random.Random(3)
    lines = [" ".join(draw.choices("abcdefghij", k=9)) + "\n" for _ in range(20_000)]
    (tmp_path / "book.txt").write_text("".join(lines))
    task = load(tmp_path, "book.txt", block_size=64)
    assert 90 < task.documents["documents"] < 120
    assert 0 < task.documents["held_out"] < 10
    again = load(tmp_path, "book.txt", document_separator="\n")
    assert again.documents["documents"] == len(lines)


def test_text_to_evaluate_on_is_never_trained_on(folder: Path) -> None:
    (folder / "held").mkdir()
    held = [TEXTS[3], TEXTS[50], "a document that is nowhere else", TEXTS[3]]
    for number, text in enumerate(held):
        (folder / "held" / f"{number}.txt").write_text(text)
    task = load(folder, "*.txt", validation_text="held", block_size=4096)
    assert {window.decode() for window in contents(task.eval)} == set(held)
    assert {window.decode() for window in contents(task.train)} == set(TEXTS) - set(held)
    assert num_shared(task) == 0
    assert dict(task.documents) | {"bytes": 0} == {
        "documents": 104,
        "duplicates": 3,
        "held_out": 3,
        "shared": 0,
        "bytes": 0,
    }
    (folder / "held" / "4.txt").write_text("one more to evaluate on")
    assert load(folder, "*.txt", validation_text="held", block_size=4096).hash != task.hash


def test_nothing_left_to_learn_from_is_told(folder: Path) -> None:
    with pytest.raises(DataError, match=r"too small: 0 document\(s\) to learn from and 100 to be evaluated on"):
        load(folder, "*.txt", validation_text="*.txt")


WORDS = ["Wasser", "ель", "水", "🦊", "and", "é", "\n", " ", "  ", "x" * 30]
DOCUMENTS = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join), min_size=3, max_size=12, unique=True
)


def bpe() -> Tokenizer:
    return SubwordTokenizer(train_bpe(lambda: [" ".join(WORDS) * 3], 290, 10**6))


@pytest.mark.parametrize(
    "make", [ByteTokenizer, lambda: CharacterTokenizer(" abnsé"), bpe], ids=["byte", "character", "bpe"]
)
@given(texts=DOCUMENTS, block_size=st.integers(2, 40))
@settings(deadline=None, max_examples=40)
def test_the_bytes_of_all_windows_are_those_of_the_text(
    tmp_path_factory: pytest.TempPathFactory, make: Callable[[], Tokenizer], texts: list[str], block_size: int
) -> None:
    kept = [text for text in texts if not text.isspace()]
    assume(kept)
    folder, tokenizer = tmp_path_factory.mktemp("corpus"), make()
    (folder / "held").mkdir()
    for number, text in enumerate(texts):
        (folder / "held" / f"{number}.txt").write_text(text, newline="")
    (folder / "train.txt").write_text("to learn from " * 20)
    options = {"validation_text": "held", "block_size": block_size, "max_eval_samples": 10**6}
    task = load(folder, "train.txt", tokenizer, **options)
    _, evaluation = encode_task(task, tokenizer)
    assert evaluation.num_bytes is not None
    unseen = 0 if tokenizer.document_start is not None else len(kept)  # a first byte that nothing stands before
    assert int(evaluation.num_bytes.sum()) == sum(len(text.encode()) for text in kept) - unseen
    whole = sorted(tokenizer.decode(ids) for ids in _documents(task, tokenizer))
    if not isinstance(tokenizer, CharacterTokenizer):
        assert whole == sorted(kept)


def _documents(task: TokenTask, tokenizer: Tokenizer) -> list[list[int]]:
    """Put the windows of each document back together."""
    found: list[list[int]] = []
    end = -1
    for start, length in sorted(zip(task.eval.starts.tolist(), task.eval.lengths.tolist(), strict=True)):
        ids = task.eval.tokens[start : start + length].tolist()
        if start == end:
            found[-1] += ids[1:]
        else:
            found.append(ids if tokenizer.document_start is None else ids[1:])
        end = start + length - 1
    return found


def test_the_bytes_of_a_split_by_hash_are_exact_too(folder: Path) -> None:
    characters = CharacterTokenizer("".join(sorted(set("".join(TEXTS)))))
    task = load(folder, tokenizer=characters, block_size=7, max_eval_samples=10**6)
    held = [characters.decode(ids) for ids in _documents(task, characters)]
    assert set(held) <= set(TEXTS)
    assert task.eval.num_bytes is not None
    assert int(task.eval.num_bytes.sum()) == sum(map(len, held))
    plain = load(folder, block_size=7, max_eval_samples=10**6)
    assert len(held) == plain.documents["held_out"]


def test_progress_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotlap.core.progress._SHOWN_EVERY_SECONDS", 0.0)
    said: list[str] = []
    task = load_language_model(LanguageModelConfig(text="*.txt"), folder, folder / "cache")
    prepare_corpus(task, ByteTokenizer(), folder / "cache", said.append)
    assert said and said[-1].startswith("100%, ")
    prepare_corpus(task, ByteTokenizer(), folder / "cache", said.append)
    assert len(said) == 1, "nothing is to be done"


def test_facts_are_plain_json(folder: Path) -> None:
    task = load(folder)
    (path,) = (path for path in task.files if path.suffix == ".json")
    assert json.loads(path.read_text())["documents"] == task.documents
    assert preparation.num_shards(next((folder / "cache").glob("tokens-*"))) == 1
