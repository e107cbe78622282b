"""Building the parts of a training: what depends on which seed, and what does not fit."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hotlap.config.models import GPTConfig
from hotlap.core.errors import ConfigError
from hotlap.models.gpt import GPT
from hotlap.models.gpt2 import Vocabulary, write_gpt2
from hotlap.train import build
from hotlap.train import parts as parts_module
from hotlap.train.memory import MicroBatch, memory_estimate
from hotlap.train.memory_advice import target_ratio
from hotlap.train.model_size import size_of
from hotlap.train.parts import Parts, bf16_is_fast

MakeParts = Callable[..., Parts]


def weights(parts: Parts) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in parts.model.parameters()])


def rows_of(parts: Parts, number: int) -> list[int]:
    """Return the examples of a batch, one per row."""
    return [int(example) for row in parts.source.order.rows(number) for example in row]


def test_weights_follow_from_the_seed_and_the_order_from_its_own(make_parts: MakeParts) -> None:
    first, again = make_parts(), make_parts()
    assert torch.equal(weights(first), weights(again))
    assert rows_of(first, 3) == rows_of(again, 3)
    other = make_parts({"training.seed": 7})
    assert not torch.equal(weights(other), weights(first))
    assert rows_of(other, 3) != rows_of(first, 3)
    reordered = make_parts({"training.data_seed": 7})
    assert torch.equal(weights(reordered), weights(first))
    assert rows_of(reordered, 3) == rows_of(other, 3)


def test_the_order_is_bucketed_on_request(make_parts: MakeParts) -> None:
    spread = {
        padding: max(
            max(len(parts.train[row].ids) for row in rows_of(parts, number))
            - min(len(parts.train[row].ids) for row in rows_of(parts, number))
            for number in range(20)
        )
        for padding in ("longest", "bucketed")
        for parts in [make_parts({"training.padding": padding})]
    }
    assert spread["bucketed"] < spread["longest"]


def test_a_model_that_is_too_short_for_the_corpus_is_refused(make_parts: MakeParts) -> None:
    parts = make_parts()
    longest = max(len(example.ids) for example in [*parts.train, *parts.eval])
    make_parts({"model.max_position_embeddings": longest - 1})  # the last token is never an input
    message = f"max_position_embeddings is {longest - 2}, the longest example needs {longest - 1}; raise it or make"
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_parts({"model.max_position_embeddings": longest - 2})


def test_autocast_is_on_where_the_config_asks_for_it(make_parts: MakeParts) -> None:
    for bf16 in (False, True):
        with make_parts({"training.bf16": bf16}).autocast():
            assert torch.is_autocast_enabled("cpu") == bf16


@pytest.mark.parametrize(
    ("flags", "is_fast"),
    [("fpu avx2 avx512f", False), ("fpu avx512_bf16 sse", True), ("amx_bf16", True), ("", False)],
)
def test_bf16_is_fast_where_the_processor_says_so(
    flags: str, is_fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(parts_module, "Path", lambda _: tmp_path / "cpuinfo")
    assert bf16_is_fast(torch.device("cpu")) == is_fast
    (tmp_path / "cpuinfo").unlink()
    assert not bf16_is_fast(torch.device("cpu"))


def test_building_does_not_load_the_compiler(tmp_path: Path) -> None:
    """It takes a second, and most runs never compile anything."""
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"sentence number {n} is here" for n in range(200)))
    program = (
        "import sys; from pathlib import Path; from hotlap.config.load import config_from_values; "
        "from hotlap.train.build import build_parts; "
        "training = {'optim': 'muon', 'use_cpu': True}; "
        "config = config_from_values({'task': {'text': 'corpus.txt'}, 'training': training}); "
        "build_parts(config, Path(sys.argv[1]), Path(sys.argv[1]) / 'cache'); "
        "assert 'torch._dynamo' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_batch_in_tokens_sets_rows_and_passes(make_parts: MakeParts, tmp_path: Path) -> None:
    for number in range(8):
        text = f"the cat number {number} sat on the mat. " * 200
        (tmp_path / f"text{number}.txt").write_text(text, encoding="utf-8")
    task = {"task": {"name": "language_model", "text": "text*.txt", "block_size": 32}}
    fixed = make_parts({**task, "training.total_batch_tokens": 512, "training.per_device_train_batch_size": 4})
    assert (fixed.batch_size, fixed.accumulation_steps) == (4, 4)
    chosen = make_parts({**task, "training.total_batch_tokens": 512, "training.per_device_train_batch_size": "auto"})
    assert chosen.batch_size * chosen.accumulation_steps == 16
    assert [trial.batch_size for trial in chosen.batch_size_trials][:2] == [1, 2]
    with pytest.raises(ConfigError, match=r"total_batch_tokens is 500, expected a multiple of 32 tokens a row"):
        make_parts({**task, "training.total_batch_tokens": 500, "training.per_device_train_batch_size": "auto"})


def test_rows_of_many_lengths_have_no_batch_in_tokens(make_parts: MakeParts) -> None:
    with pytest.raises(ConfigError, match="needs rows of one length"):
        make_parts({"training.total_batch_tokens": 512, "training.per_device_train_batch_size": "auto"})


def test_a_share_of_memory_bounds_the_rows_on_a_cpu(make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = {
        "training.per_device_train_batch_size": "auto",
        "training.total_batch_size": 64,
        "training.device_memory_ratio": 0.5,
    }
    plain = make_parts({"training.per_device_train_batch_size": 1})
    size, longest = size_of(plain.model), int(plain.train.lengths.max()) - 1
    batches = (MicroBatch(rows, longest, target_ratio(plain.train)) for rows in (4, 8))
    needed = sum(memory_estimate(size, plain.config.training, batch, on_cpu=True).total for batch in batches)
    monkeypatch.setattr(build, "device_memory_bytes", lambda *_: needed)  # of which a half may be filled
    parts = make_parts(patch)
    assert [trial.batch_size for trial in parts.batch_size_trials] == [1, 2, 4]


def test_pretrained_weights_are_where_a_training_begins(make_parts: MakeParts, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    config = GPTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=72)
    torch.manual_seed(5)
    model = GPT(config, 256)
    write_gpt2(config, model.state_dict(), Vocabulary(256, 0, 3), folder)
    parts = make_parts({"model": {"model_name_or_path": str(folder)}})
    for one, other in zip(parts.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    rope = make_parts({"model": {"model_name_or_path": str(folder), "positions": "rope"}})
    assert torch.equal(rope.model.get_parameter("embedding.weight"), model.embedding.weight)
    with pytest.raises(ConfigError, match="the weights have a vocabulary of 256 tokens, the tokenizer has"):
        make_parts({"model": {"model_name_or_path": str(folder)}, "tokenizer": "character"})
