"""Evaluation on held-out examples: one forward pass for the cheap metrics, generation for the others.

It takes no random numbers and leaves the training state as it was.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hotlap.data.batches import Batch, collate
from hotlap.data.encoding import EncodedExample, decode, word_numbers
from hotlap.tasks.scoring import generation_scores
from hotlap.train.generate import generate
from hotlap.train.loop import target_loss
from hotlap.train.parts import Parts

_NUM_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One generation beside what was asked for."""

    prompt: str
    generated: str
    expected: str


class Evaluator:
    """Holds the evaluation batches, so that each evaluation starts at once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._examples = sorted(parts.eval, key=lambda example: len(example.ids))
        size = parts.config.training.per_device_eval_batch_size
        chunks = [self._examples[start : start + size] for start in range(0, len(self._examples), size)]
        self._batches: list[tuple[Batch, NDArray[np.int64]]] = [(collate(chunk), _words(chunk)) for chunk in chunks]

    def cheap_metrics(self) -> dict[str, float]:
        """Return eval_loss (nats, mean over target tokens), perplexity, byte and word accuracy.

        Byte accuracy: share of targets whose most likely byte is right, EOS counts. Word accuracy: share of words
        whose every byte is right. Both are taken with the true text before each byte.
        """
        nats, right, words_right, targets, words = 0.0, 0, 0, 0, 0
        with _evaluating(self._parts):
            for batch, word_of_target in self._batches:
                loss, logits = target_loss(self._parts, batch, reduction="sum")
                nats += loss.item()
                is_wrong = (logits.argmax(-1).cpu() != batch.targets).numpy()
                num_words = int(word_of_target[-1]) + 1
                targets += len(is_wrong)
                right += int((~is_wrong).sum())
                words += num_words
                words_right += num_words - len(np.unique(word_of_target[is_wrong]))
        mean_loss = nats / targets
        return {
            "eval_loss": mean_loss,
            "perplexity": math.exp(mean_loss) if mean_loss < 700 else math.inf,
            "eval_byte_accuracy": right / targets,
            "eval_word_accuracy": words_right / words,
        }

    def generation_metrics(self) -> tuple[dict[str, float], list[Sample]]:
        """Return chrF, BLEU and exact match of greedy generations, and the samples of the same few prompts."""
        examples = self._parts.eval
        prompts = [example.ids[: example.prefix_length] for example in examples]
        longest = max(example.num_targets for example in examples)
        with _evaluating(self._parts):
            generated = [decode(ids) for ids in generate(self._parts, prompts, longest + 8)]
        expected = [decode(example.ids[example.prefix_length :].tolist()) for example in examples]
        samples = [
            Sample(decode(prompts[i].tolist()), generated[i], expected[i])
            for i in range(min(_NUM_SAMPLES, len(examples)))
        ]
        return generation_scores(generated, expected), samples


def _words(examples: Sequence[EncodedExample]) -> NDArray[np.int64]:
    """Return the word number of each target of a batch, counted through the batch, shape (N,)."""
    numbers: list[int] = []
    for example in examples:
        first = numbers[-1] + 1 if numbers else 0
        completion = bytes(example.ids[example.prefix_length : -1])
        numbers.extend(first + number for number in word_numbers(completion))
    return np.array(numbers)


@contextmanager
def _evaluating(parts: Parts) -> Iterator[None]:
    parts.model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        parts.model.train()
