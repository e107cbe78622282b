"""Text that is still being prepared while it is trained on: the same batches however late a shard comes."""

import os
import pickle
import random
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from hotlap.config.load import config_from_values
from hotlap.config.schema import LanguageModelConfig
from hotlap.core.errors import ConfigError, DataError, RunFailedError
from hotlap.core.progress import Progress
from hotlap.data import load, streaming
from hotlap.data.corpus import job_for
from hotlap.data.loader import BatchSource
from hotlap.data.preparation import num_shards, prepare_shards
from hotlap.data.shards import index_path, tokens_path
from hotlap.data.streaming import ShardOrder, ShardStream, order_of, stream_corpus
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.tasks.examples import TextTask, TokenTask, num_shared
from hotlap.tasks.language_model import load_language_model
from hotlap.tasks.text_files import TextFiles

BYTES = ByteTokenizer()
LINES = 3000


def in_short_stretches(task: TextTask) -> TextTask:
    assert isinstance(task.text, TextFiles)
    return replace(task, text=replace(task.text, options=replace(task.text.options, chunk_bytes=8000)))


@pytest.fixture
def task(tmp_path: Path) -> TextTask:
    draw = random.Random(1)
    rows = ["".join(draw.choices("abcdefghij ", k=draw.randint(20, 60))) for _ in range(LINES)]
    (tmp_path / "corpus.txt").write_text("\n".join([*rows, *rows[:50]]))
    config = LanguageModelConfig(
        text="corpus.txt", document_separator="\n", block_size=16, max_eval_samples=20, streaming=True
    )
    return in_short_stretches(load_language_model(config, tmp_path, tmp_path / "cache"))


@pytest.fixture
def open_stream(task: TextTask, tmp_path: Path) -> Iterator[Any]:
    opened: list[TokenTask] = []

    def open_it(one: TextTask = task) -> TokenTask:
        opened.append(stream_corpus(one, BYTES, tmp_path / "cache"))
        return opened[-1]

    yield open_it
    for found in opened:
        found.stream.close()


def batches(found: TokenTask, count: int, first: int = 0, seed: int = 5) -> list[list[list[int]]]:
    order = ShardOrder(found.stream, 7, seed, "random")
    examples = found.stream.examples
    return [[examples[row[0]].ids.tolist() for row in order.rows(first + number)] for number in range(count)]


def test_training_starts_before_the_text_is_prepared(open_stream: Any, task: TextTask, tmp_path: Path) -> None:
    found = open_stream()
    chunks = len(list(task.text.chunks()))
    assert len(found.stream.ends) < chunks, "not all shards were waited for"
    assert len(found.train) == len(found.stream.examples) > 0
    assert len(found.eval) == 20
    assert found.audit is not None and len(found.audit) == 20
    assert num_shared(found) == 0
    found.stream.reach(10**9)
    assert found.stream.is_all and len(found.stream.ends) == chunks
    folder = job_for(task.text, BYTES, tmp_path / "cache", "held_out").folder
    assert num_shards(folder) == chunks


def test_every_window_comes_once_an_epoch_and_none_that_is_held_out(open_stream: Any, tmp_path: Path) -> None:
    found = open_stream()
    found.stream.reach(10**9)
    total = found.stream.ends[-1]
    order = ShardOrder(found.stream, 7, 3, "random")
    rows = np.concatenate([np.concatenate(order.rows(number)) for number in range(2 * total // 7 + 1)])
    for epoch in (0, 1):
        assert sorted(rows[epoch * total : (epoch + 1) * total].tolist()) == list(range(total))
    assert rows[:total].tolist() != rows[total : 2 * total].tolist()
    held = {found.eval.tokens[a : a + n].tobytes() for a, n in zip(found.eval.starts, found.eval.lengths, strict=True)}
    whole = {bytes(example.ids) for example in found.stream.examples if len(example.ids) == 17}
    assert not {one for one in held if len(one) == 17} & whole


def test_the_batches_are_the_same_however_late_a_shard_comes(open_stream: Any) -> None:
    early = open_stream()
    first = batches(early, 40)
    late = open_stream()
    late.stream.reach(10**9)
    assert batches(late, 40) == first
    assert batches(late, 10, first=30) == first[30:], "a resumed run goes on with the same ones"
    assert batches(late, 40, seed=6) != first
    assert late.hash == early.hash


def test_processes_that_make_batches_wait_for_shards_too(open_stream: Any) -> None:
    found = open_stream()
    plain = batches(found, 30)
    order = order_of(found.stream.examples, 7, 5, "random", row_length=17, drop_last=False)
    source = BatchSource(found.stream.examples, order, None, workers=2)
    try:
        source.start(0)
        for number in range(30):
            source.wait_for(number, 1)
            (batch,), num_targets = source.micro_batches(number, 1)
            assert num_targets == sum(len(row) - 1 for row in plain[number]) == len(batch.targets)
            assert torch.equal(batch.input_ids[0, : len(plain[number][0]) - 1], torch.tensor(plain[number][0][:-1]))
    finally:
        source.close()
    assert found.stream._process is None, "closing the source ends the preparation"


def test_a_stream_that_is_sent_goes_on_there(open_stream: Any) -> None:
    found = open_stream()
    copied: ShardStream = pickle.loads(pickle.dumps(found.stream))
    assert copied.examples.stream is copied
    found.stream.reach(10**9)
    copied.reach(10**9)
    assert [one.ids.tolist() for one in copied.examples] == [one.ids.tolist() for one in found.stream.examples]


def test_what_is_prepared_is_streamed_without_another_process(open_stream: Any, task: TextTask, tmp_path: Path) -> None:
    prepare_shards(task.text, job_for(task.text, BYTES, tmp_path / "cache", "held_out"), 1, Progress(None, None))
    found = open_stream()
    found.stream.reach(10**9)
    assert found.stream._process is None


def test_the_preparation_ends_with_the_stream(open_stream: Any) -> None:
    found = open_stream()
    process = found.stream._process
    if process is None:
        pytest.skip("it was over before anybody looked")
    found.stream.close()
    assert not psutil.pid_exists(process.pid)


def die(*_: Any) -> None:
    """What the kernel does to a process when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_preparation_that_is_ended_from_outside_is_told(open_stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "prepare_ahead", die)
    with pytest.raises(RunFailedError, match="beside the training was ended from outside"):
        open_stream()


def test_a_missing_shard_is_made_again(open_stream: Any, task: TextTask, tmp_path: Path) -> None:
    job = job_for(task.text, BYTES, tmp_path / "cache", "held_out")
    prepare_shards(task.text, job, 1, Progress(None, None))
    expected = batches(open_stream(), 1000)
    index_path(job.folder, 6).unlink()
    tokens_path(job.folder, 9).unlink()
    assert batches(open_stream(), 1000) == expected


def test_bad_text_is_told_when_it_comes(tmp_path: Path) -> None:
    rows = [f"line {number} of the text".encode() for number in range(4000)]
    rows[3500] = b"\xff"
    (tmp_path / "corpus.txt").write_bytes(b"\n".join(rows))
    config = LanguageModelConfig(text="corpus.txt", document_separator="\n", max_eval_samples=5, streaming=True)
    task = in_short_stretches(load_language_model(config, tmp_path, tmp_path / "cache"))
    found = stream_corpus(task, BYTES, tmp_path / "cache")
    with pytest.raises(DataError, match=r"corpus\.txt: not UTF-8 at byte \d+ \(0xff\)"):
        found.stream.reach(10**9)
    found.stream.close()


def test_text_to_evaluate_on_may_be_named(tmp_path: Path) -> None:
    rows = [f"line {number} of the text" for number in range(2000)]
    (tmp_path / "corpus.txt").write_text("\n".join(rows))
    (tmp_path / "held.txt").write_text("\n".join(rows[100:130]))
    config = LanguageModelConfig(
        text="corpus.txt", validation_text="held.txt", document_separator="\n", block_size=64, streaming=True
    )
    task = in_short_stretches(load_language_model(config, tmp_path, tmp_path / "cache"))
    found = stream_corpus(task, BYTES, tmp_path / "cache")
    found.stream.reach(10**9)
    assert len(found.eval) == 30
    assert {bytes(one.ids).decode() for one in found.stream.examples} == set(rows) - set(rows[100:130])
    found.stream.close()


def test_too_little_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("one document\nand another")
    config = LanguageModelConfig(text="corpus.txt", document_separator="\n", streaming=True)
    task = load_language_model(config, tmp_path, tmp_path / "cache")
    with pytest.raises(DataError, match="the corpus is too small to be streamed"):
        stream_corpus(task, BYTES, tmp_path / "cache")


def test_the_order_in_turn(open_stream: Any) -> None:
    order = ShardOrder(open_stream().stream, 5, 0, "sequential")
    assert [row[0] for number in range(4) for row in order.rows(number)] == list(range(20))
    order.wait_for(0, 3)
    assert order.batches_per_epoch() >= 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"num_train_epochs": 1}}, "num_train_epochs counts passes over a text that is not all there"),
        ({"training": {"eval_strategy": "epoch"}}, "training.eval_strategy: epoch counts passes"),
        ({"training": {"padding": "packed"}}, "sorts or packs examples that are not all there"),
        ({"training": {"group_by_length": True}}, "sorts or packs examples that are not all there"),
        (
            {"training": {"per_device_train_batch_size": "auto", "total_batch_size": 8}},
            "auto tries batches of text that is not there yet",
        ),
        ({"backend": "hf"}, "backend hf needs the whole text before it starts"),
    ],
)
def test_settings_that_need_the_whole_text_are_refused(values: dict[str, Any], message: str) -> None:
    task = {"name": "language_model", "text": "a.txt"}
    config_from_values({"task": task, **values})
    with pytest.raises(ConfigError, match=message):
        config_from_values({"task": task | {"streaming": True}, **values})


def test_a_tokenizer_of_the_first_stretch_is_not_taken_for_the_whole_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_FIRST_CHARACTERS", 500)
    (tmp_path / "corpus.txt").write_text("\n".join([*(f"number {number}" for number in range(400)), "жук"]))
    sizes = []
    for is_streamed in (True, False):
        task = {"name": "language_model", "text": "corpus.txt", "document_separator": "\n", "streaming": is_streamed}
        config = config_from_values({"task": task | {"max_eval_samples": 2}, "tokenizer": "character"})
        found, tokenizer = load.load_tokens(config, tmp_path, tmp_path / "cache")
        assert isinstance(found, TokenTask)
        if found.stream is not None:
            found.stream.close()
        sizes.append(tokenizer.vocab_size)
    assert sizes[1] == sizes[0] + len(set("жук"))


def test_the_wait_is_short(open_stream: Any) -> None:
    assert streaming._POLL_SECONDS <= 0.05
    open_stream()
