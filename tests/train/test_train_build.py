"""Building the parts of a training: what depends on which seed, and what does not fit."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hotlap.core.errors import ConfigError
from hotlap.train import parts as parts_module
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
