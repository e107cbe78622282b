"""The task string_repetition: template, split, cache and hash."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hotlap.config.schema import StringRepetitionConfig
from hotlap.core.errors import DataError
from hotlap.tasks import string_repetition, text_pieces
from hotlap.tasks.examples import Example, TaskData, num_shared
from hotlap.tasks.string_repetition import example_for, load_string_repetition

SENTENCES = [f"sentence number {number} says hello" for number in range(200)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus.txt").write_text(". ".join(SENTENCES))
    return tmp_path


def load(folder: Path, text: str | None = "*.txt", **settings: int) -> TaskData:
    return load_string_repetition(StringRepetitionConfig(text=text, **settings), folder, folder / "cache")


def test_the_template_brackets_the_sentence() -> None:
    assert example_for("a b") == Example("<text>\x0ea b\x0f<repeat> ", "a b")


def test_training_and_evaluation_share_no_sentence(corpus: Path) -> None:
    data = load(corpus)
    train, evaluation = set(data.train), set(data.eval)
    assert (len(data.train), len(data.eval)) == (196, 4)
    assert len(train) == 196
    assert not train & evaluation
    assert {example.completion.rstrip(".") for example in train | evaluation} == set(SENTENCES)
    assert data.source == "*.txt"


def test_a_sentence_that_comes_twice_counts_once(corpus: Path) -> None:
    before = load(corpus)
    (corpus / "again.txt").write_text(". ".join(reversed(SENTENCES)) + ".")
    after = load(corpus)
    assert len({*after.train, *after.eval}) == len(after.train) + len(after.eval)
    assert len(after.train) + len(after.eval) <= len(before.train) + len(before.eval) + 1  # the last one with a stop


def test_the_evaluation_set_has_at_most_the_size_that_was_asked_for(corpus: Path) -> None:
    small, full = load(corpus, max_eval_samples=2), load(corpus)
    assert small.eval == full.eval[:2]
    assert small.train == full.train


def test_audit_sentences_are_those_that_are_held_out_behind_the_evaluation_set(corpus: Path) -> None:
    full, half = load(corpus), load(corpus, max_eval_samples=2)
    assert full.audit == (), "none are left"
    assert half.audit == full.eval[2:]
    assert not {*half.audit} & {*half.eval, *half.train}
    assert load(corpus, max_eval_samples=3).audit == full.eval[3:]
    assert load(corpus, max_eval_samples=2) == half, "from the cache, too"
    assert half.files == tuple(path for path in (corpus / "cache").iterdir() if path in half.files)
    assert len(half.files) == 1


def test_shared_examples_are_counted(corpus: Path) -> None:
    data = load(corpus)
    assert num_shared(data) == 0
    assert num_shared(TaskData(train=(*data.train, *data.eval[:3]), eval=data.eval, source="s")) == 3


@pytest.mark.parametrize("text", ["", "short. a b. c d.", "only this one sentence is long enough"])
def test_a_corpus_without_two_sentences_is_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "corpus.txt").write_text(text)
    with pytest.raises(DataError, match=r"the corpus is empty: [01] sentence\(s\) .* task\.min_length_bytes"):
        load(tmp_path)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands for the docstrings; reading it a second time fails."""
    texts = [". ".join(SENTENCES)]

    def read() -> Iterator[str]:
        assert texts, "the text was read again"
        yield texts.pop()

    monkeypatch.setattr(text_pieces, "docstring_texts", read)
    return texts


def test_the_second_load_takes_the_examples_from_the_cache(tmp_path: Path, library: list[str]) -> None:
    first = load(tmp_path, None)
    assert library == []
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert load(tmp_path, None) == first
    assert first.source.startswith("docstrings of Python 3.")


def test_files_are_split_once_and_again_after_a_change(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(corpus)

    def must_not_be_called(*_: object) -> Iterator[str]:
        raise AssertionError("the sentences were split again")

    with monkeypatch.context() as patch:
        patch.setattr(string_repetition, "split_sentences", must_not_be_called)
        assert load(corpus) == first
        for change in ({"max_length_bytes": 47}, {"min_length_bytes": 9}, {"max_eval_samples": 3}):
            with pytest.raises(AssertionError):
                load(corpus, "*.txt", **change)
    with (corpus / "corpus.txt").open("a") as file:
        file.write(" And one more sentence.")
    assert load(corpus).hash != first.hash


def test_the_hash_names_the_examples_and_their_sides(corpus: Path) -> None:
    data = load(corpus)
    assert load(corpus).hash == data.hash == load_string_repetition(
        StringRepetitionConfig(text=str(corpus / "corpus.txt")), Path("/nowhere"), corpus / "other"
    ).hash  # fmt: skip
    a, b = Example("p", "a"), Example("p", "b")
    hashes = [
        TaskData(train=train, eval=evaluation, source="s").hash
        for train, evaluation in [((a,), (b,)), ((b,), (a,)), ((a, b), ()), ((), (a, b)), ((Example("pa", ""),), (b,))]
    ]
    assert len(set(hashes)) == len(hashes)
    assert TaskData(train=(a,), eval=(b,), source="elsewhere").hash == hashes[0]
