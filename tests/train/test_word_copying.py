"""Copying words that stand some way back is learned, and soon: what the model is for."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from hotlap.config.training import TrainingConfig
from hotlap.config.word_latent import WordLatentConfig
from hotlap.data.encoding import EncodedExample
from hotlap.data.word_arrays import WordLayout, arrange_words
from hotlap.data.word_batches import WordBatch, word_batch_of
from hotlap.models.word_latent import WordLatent
from hotlap.optim.build import build_optimizers

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def batch_of(words: list[str], rows: int, draw: random.Random) -> WordBatch:
    """Draw rows of eight words in a shift block, to be said again behind it."""
    examples = []
    for _ in range(rows):
        text = "".join(draw.choices(words, k=8))
        ids = np.frombuffer(f"\x0e{text}\x0f{text}\x03".encode(), dtype=np.uint8)
        examples.append(EncodedExample(ids, len(text) + 2))
    return word_batch_of(arrange_words(examples, WordLayout(16)))


def word_accuracy(model: WordLatent, batch: WordBatch) -> float:
    """Return the share of words that are right in every byte, the empty last ones left out."""
    right = total = 0
    with torch.inference_mode():
        for logits, group in model.predictions(batch):
            if group.targets.shape[1] > 1:
                right += int((logits.argmax(-1) == group.targets).all(1).sum())
                total += len(group.targets)
    return right / total


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_words_are_copied_after_some_hundred_steps(precision: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    draw, steps = random.Random(0), 250
    words = ["".join(draw.choices(LETTERS, k=draw.randint(1, 6))) + " " for _ in range(200)]
    model = WordLatent(WordLatentConfig(preset="micro"))
    settings: dict[str, Any] = {"optim": "muon", "muon_learning_rate": 0.05, "learning_rate": 2e-2}
    optimizers = build_optimizers(model, TrainingConfig(**settings), bf16_is_fast=False)
    for step in range(steps):
        optimizers.set_learning_rate(min(1.0, (step + 1) / 12) * (1 - step / steps))
        batch = batch_of(words, 16, draw)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss(batch) / batch.num_targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step()
        optimizers.zero_grad()
    assert word_accuracy(model, batch_of(words, 32, random.Random(99))) > 0.8
