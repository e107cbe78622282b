"""Compiling before the training: once, for every shape that is to come, and without a trace in the weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hotlap.core.clock import TrainClock
from hotlap.train.loop import Signs, StepTimer, train_steps
from hotlap.train.parts import Parts

MakeParts = Callable[..., Parts]


def odd_batches(parts: Parts) -> list[int]:
    """Return the first epoch's batches whose rows are not all of the usual length."""
    usual = int(np.median(parts.train.lengths))
    order = parts.source.order
    numbers = range(order.batches_per_epoch())
    return [n for n in numbers if any(parts.train.lengths[row[0]] != usual for row in order.rows(n))]


def losses(parts: Parts) -> list[float]:
    signs = Signs(wall_seconds=lambda: 0.0, is_interrupted=lambda: False)
    return [step.loss for step in train_steps(parts, TrainClock(), StepTimer(), signs)]


@pytest.mark.parametrize("padding", ["longest", "bucketed", "packed", "max_length"])
def test_no_step_compiles_anything(padding: str, make_parts: MakeParts) -> None:
    from torch._dynamo import config  # loads the compiler

    patch: dict[str, Any] = {"training.padding": padding, "training.max_steps": 60}
    plain = make_parts(patch)
    torch.compiler.reset()
    compiled = make_parts(patch | {"training.torch_compile_backend": "aot_eager"})
    for one, other in zip(plain.parameters, compiled.parameters, strict=True):
        assert torch.equal(one, other)
    with config.patch(error_on_recompile=True):
        assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)


def test_words_of_constant_shapes_compile_once(make_parts: MakeParts) -> None:
    from torch._dynamo import config

    part = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = {"name": "word_latent", "max_word_length": 8, "encoder": part, "latent": part, "decoder": part}
    patch: dict[str, Any] = {"model": model, "training.padding": "max_length", "training.max_steps": 10}
    plain = make_parts(patch)
    torch.compiler.reset()
    compiled = make_parts(patch | {"training.torch_compile": True, "training.torch_compile_backend": "aot_eager"})
    with config.patch(error_on_recompile=True):
        assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)


def test_a_shape_that_comes_late_compiles_nothing_either(make_parts: MakeParts, tmp_path: Path) -> None:
    from torch._dynamo import config

    sentences = [f"the cat sat on mat {number:04d}" for number in range(300)]
    (tmp_path / "corpus.txt").write_text("\n\n".join([*sentences, "a dog", "not a dog"]), encoding="utf-8")
    patch = {"training.max_steps": 80, "model.max_position_embeddings": 100, "task.max_length_bytes": 40}
    late = (seed for seed in range(200) if (odd := odd_batches(make_parts(patch | seeded(seed)))) and odd[0] >= 50)
    patch |= seeded(next(late))
    torch.compiler.reset()
    compiled = make_parts(patch | {"training.torch_compile_backend": "aot_eager"})
    with config.patch(error_on_recompile=True):
        assert len(losses(compiled)) == 80


def seeded(seed: int) -> dict[str, Any]:
    return {"training.data_seed": seed}
