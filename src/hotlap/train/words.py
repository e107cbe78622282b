"""What a model that reads words asks of its batches, and what it is measured by."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from hotlap.config.schema import RunConfig, TrainingConfig
from hotlap.config.word_latent import WordLatentConfig
from hotlap.data.encoding import EncodedExample, Examples
from hotlap.data.streams import EndlessExamples
from hotlap.data.word_arrays import WordLayout, arrange_words, count_words
from hotlap.data.word_batches import WordBatch, word_batch_of
from hotlap.models.word_latent import IGNORED, WordLatent
from hotlap.train.generate_words import generate_words, word_prompt
from hotlap.train.parts import Evaluable


def size_rows(config: RunConfig, train: Examples | EndlessExamples) -> None:
    """Have rows counted in words, where the model reads them and it matters how many a row has."""
    model, training = config.model, config.training
    if not isinstance(model, WordLatentConfig) or isinstance(train, EndlessExamples) or train.stream is not None:
        return
    if training.padding == "max_length" or training.batch_order == "bucketed":
        train.sizes = count_words(train, model.max_word_length)


def word_layout(model: WordLatentConfig, training: TrainingConfig, train: Examples | EndlessExamples) -> WordLayout:
    """Return how rows of words are laid out for training.

    With `padding: max_length` all are as long as the longest, of endless data as long as they could be: a word has a
    byte at least. Raises ConfigError where that is not known.
    """
    is_padded, row_words = training.padding == "max_length", None
    if is_padded and isinstance(train, EndlessExamples):
        row_words = train.required_bound + 1
    elif is_padded and isinstance(train, Examples):
        row_words = int(train.sizes.max()) if train.stream is None else train.longest + 1
    return WordLayout(model.max_word_length, is_padded, model.encode_distinct, row_words)


def evaluation_batch(parts: Evaluable, examples: Sequence[EncodedExample]) -> WordBatch:
    """Return examples as a batch to be evaluated on: the same whatever the layout in training is."""
    model = parts.config.model
    assert isinstance(model, WordLatentConfig)
    return word_batch_of(arrange_words(examples, WordLayout(model.max_word_length, False, model.encode_distinct)))


def generated_texts(parts: Evaluable, prompts: Sequence[NDArray[Any]], max_new_bytes: int) -> list[str]:
    """Return the likeliest text after each prompt, up to its end or to so many bytes."""
    size = cast(WordLatent, parts.model).config.max_word_length
    found = [word_prompt(prompt, size) for prompt in prompts]
    texts = generate_words(parts, found, max_new_bytes, max_new_bytes)  # a word has a byte at least
    return [text.decode() for text in texts]


def word_sums(parts: Evaluable, batch: WordBatch) -> list[float]:
    """Return what a batch adds to the metrics, six numbers: nats, bytes and ends of words that are right, words
    that are right in all of these, all bytes and ends, all words, and the nats of bytes alone."""
    model, total = cast(WordLatent, parts.model), torch.zeros(6, dtype=torch.float64, device=parts.device)
    for logits, group in model.predictions(batch.to(parts.device)):
        targets, is_learned = group.targets, group.targets != IGNORED
        nats = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED)
        nats = nats.view_as(targets)
        is_right = logits.argmax(-1) == targets
        words_right = (is_right | ~is_learned).all(1)
        total += torch.stack(
            [
                nats.sum(dtype=torch.float64),
                (is_right & is_learned).sum(),
                words_right.sum(),
                is_learned.sum(),
                torch.tensor(len(targets), device=parts.device),
                nats[:, :-1].sum(dtype=torch.float64),  # the words of a group have one length: their ends come last
            ]
        )
    return total.tolist()
