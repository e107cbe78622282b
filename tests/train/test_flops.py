"""FLOPs by arithmetic, held against a count by hand; padding counts nothing."""

import numpy as np
import pytest
import torch

from hotlap.config.schema import GPTConfig
from hotlap.data.batches import Batch, collate
from hotlap.data.encoding import EncodedExample
from hotlap.models.gpt import GPT
from hotlap.train.flops import model_flops, row_lengths

WIDTH, LAYERS, VOCABULARY = 16, 2, 64
SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "use_bias": False}
MATRICES = LAYERS * (4 * WIDTH**2 + 8 * WIDTH**2)


def example(length: int, prefix: int = 1) -> EncodedExample:
    return EncodedExample(ids=np.arange(length + 1) % 7, prefix_length=prefix)


def batch(*lengths: int, prefix: int = 1) -> Batch:
    return collate([example(length, prefix) for length in lengths])


@pytest.mark.parametrize("tied", [True, False])
def test_a_gpt_counts_its_matrices_its_head_and_its_attention(tied: bool) -> None:
    model = GPT(GPTConfig(**SHAPE, tie_word_embeddings=tied), VOCABULARY)
    flops = model_flops(model)
    assert flops.per_token == 6 * MATRICES
    assert flops.per_target == 6 * model.head_weight.numel()
    assert flops.per_pair == 12 * LAYERS * WIDTH
    rows = batch(5, 9, prefix=3)
    expected = 6 * MATRICES * 14 + flops.per_target * len(rows.targets) + 12 * LAYERS * WIDTH * (5**2 + 9**2)
    assert flops.of_batch(rows) == pytest.approx(expected)


def test_frozen_matrices_have_no_gradient_to_compute() -> None:
    model = GPT(GPTConfig(**SHAPE), VOCABULARY)
    for block in model.blocks:
        block.requires_grad_(False)
    assert model_flops(model).per_token == 4 * MATRICES


def test_lengths_are_those_without_padding() -> None:
    rows = batch(5, 9, 2)
    assert row_lengths(rows).tolist() == [5, 9, 2]
    assert int(row_lengths(rows).sum()) == rows.num_tokens


def test_packed_rows_count_each_document() -> None:
    packed = collate([[example(3), example(4)], [example(6)]])
    assert sorted(row_lengths(packed).tolist()) == [3, 4, 6]
    assert isinstance(packed.document_ids, torch.Tensor)
