"""The task language_model: documents, windows, split, cache and hash."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.config.schema import LanguageModelConfig
from hotlap.core.errors import DataError, StorageError
from hotlap.tasks import language_model
from hotlap.tasks.examples import TokenTask, TokenWindows, num_shared
from hotlap.tasks.language_model import load_language_model, windows_of

TEXTS = [f"document {number} " * (number + 1) for number in range(100)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number:03}.txt").write_text(text)
    return tmp_path


def load(folder: Path, text: str | None = "*.txt", **settings: int) -> TokenTask:
    return load_language_model(LanguageModelConfig(text=text, **settings), folder, folder / "cache")


def contents(windows: TokenWindows) -> list[bytes]:
    pairs = zip(windows.starts, windows.lengths, strict=True)
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


def test_windows_stay_within_their_documents(corpus: Path) -> None:
    task = load(corpus, block_size=16)
    for part in (task.train, task.eval):
        for window in contents(part):
            assert any(window.decode() in text for text in TEXTS)
    assert not task.has_completions
    assert task.source == "*.txt"
    assert task.train.path == task.eval.path


def test_training_and_evaluation_share_no_document(corpus: Path) -> None:
    task = load(corpus, block_size=4096, max_eval_samples=99)
    train, evaluation = (set(contents(part)) for part in (task.train, task.eval))
    assert (len(train), len(evaluation)) == (98, 2)
    assert {window.decode() for window in train | evaluation} == set(TEXTS)


def test_the_evaluation_is_spread_over_what_is_held_out(corpus: Path) -> None:
    full, few = load(corpus, block_size=8, max_eval_samples=10**6), load(corpus, block_size=8, max_eval_samples=6)
    count = len(full.eval)
    assert len(few.eval) == 6 < count
    assert few.eval.starts.tolist() == full.eval.starts[[count * n // 6 for n in range(6)]].tolist()
    assert few.train.starts.tolist() == full.train.starts.tolist()


@pytest.mark.parametrize("size", [1, 6, 20, 10**6])
def test_audit_windows_are_held_out_and_not_evaluated_on(corpus: Path, size: int) -> None:
    full, task = load(corpus, block_size=8, max_eval_samples=10**6), load(corpus, block_size=8, max_eval_samples=size)
    assert full.audit is None, "none are left"
    unseen = set() if task.audit is None else set(task.audit.starts.tolist())
    assert len(unseen) == min(len(task.eval), len(full.eval) - len(task.eval))
    assert unseen <= set(full.eval.starts.tolist()) - set(task.eval.starts.tolist())
    assert all(path.is_file() for path in task.files) and len(task.files) == 2


def test_windows_that_are_trained_on_are_counted(corpus: Path) -> None:
    task = load(corpus, block_size=8)
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


def test_the_split_depends_on_the_contents_alone(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for number, text in enumerate(reversed(TEXTS)):
        (other / f"{number}.txt").write_text(text)
    (other / "again.txt").write_text(TEXTS[7])  # a document that comes twice counts once
    (other / "empty.txt").write_text("")
    (other / "letter.txt").write_text("a")
    first, second = load(corpus), load(other)
    assert first.hash == second.hash
    assert contents(first.train) == contents(second.train)
    assert contents(first.eval) == contents(second.eval)


def test_the_hash_names_text_windows_and_evaluation(corpus: Path) -> None:
    hashes = {load(corpus).hash, load(corpus, block_size=8).hash, load(corpus, max_eval_samples=3).hash}
    (corpus / "new.txt").write_text("one more")
    assert len(hashes | {load(corpus).hash}) == 4


def test_the_corpus_is_prepared_once(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(corpus)
    names = sorted(path.name for path in (corpus / "cache").iterdir())
    assert [Path(name).suffix for name in names] == [".bytes", ".json"]
    with monkeypatch.context() as patch:
        patch.setattr(language_model, "_prepare", None)  # calling it would fail
        for settings in ({}, {"block_size": 32}, {"max_eval_samples": 2}):
            load(corpus, "*.txt", **settings)
        assert contents(load(corpus).train) == contents(first.train)
    (corpus / "000.txt").write_text("something else")
    assert load(corpus).hash != first.hash


@pytest.mark.parametrize("suffix", [".bytes", ".json"])
def test_half_a_cache_is_made_again(corpus: Path, suffix: str) -> None:
    first = load(corpus)
    expected = contents(first.train)
    (path,) = (corpus / "cache").glob(f"*{suffix}")
    if suffix == ".json":
        path.unlink()
    else:
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:-1])
    assert contents(load(corpus).train) == expected


def test_the_library_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Path(language_model.__file__), Path(np.__file__)]
    monkeypatch.setattr(language_model, "library_files", lambda: iter([files.pop(), files.pop()]))
    first = load(tmp_path, None)
    assert files == []
    assert contents(load(tmp_path, None).train) == contents(first.train)
    assert first.source.startswith("source code of Python 3.")


@pytest.mark.parametrize("texts", [[], ["one document"], ["same", "same"], ["a", "b", "two"]])
def test_a_corpus_without_two_documents_is_too_small(tmp_path: Path, texts: list[str]) -> None:
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text)
    message = r"the corpus is too small: 1 file\(s\)" if texts else "no file matches"
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_cache_that_cannot_be_written_is_told(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(language_model.os, "fsync", fail)
    with pytest.raises(StorageError, match=r"cannot write .*language_model-.*: No space left on device"):
        load(corpus)
    assert list((corpus / "cache").iterdir()) == []
