"""Evaluation on held-out examples: one forward pass for the cheap metrics, generation for the others.

It takes no random numbers and leaves the training state as it was. With several devices each takes its share of the
examples, every example exactly once.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hotlap.config.word_latent import WordLatentConfig
from hotlap.core.errors import DataError
from hotlap.data.batches import Batch, collate
from hotlap.data.encoding import EncodedExample, evaluation_facts, word_numbers
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.data.word_arrays import count_targets
from hotlap.data.word_batches import WordBatch
from hotlap.models.chosen import with_few_sizes
from hotlap.models.protocol import CausalLM, hidden_at
from hotlap.models.word_latent import WordLatent
from hotlap.tasks.scoring import generation_scores
from hotlap.train.distributed import gather_objects, sum_over_ranks
from hotlap.train.generate import generate
from hotlap.train.parts import Evaluable
from hotlap.train.words import evaluation_batch, generated_texts, word_sums

_NUM_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One generation beside what was asked for."""

    prompt: str
    generated: str
    expected: str


class Evaluator:
    """Holds the evaluation batches, so that each evaluation starts at once."""

    def __init__(self, parts: Evaluable) -> None:
        self._parts = parts
        self._num_targets = evaluated_data(parts)["num_targets"]
        self._num_bytes = 0 if parts.eval.num_bytes is None else int(parts.eval.num_bytes.sum())
        self.counted_targets = 0
        """Target tokens that the last evaluation counted, on all devices."""
        own = range(parts.world.rank, len(parts.eval), parts.world.size)
        self._own = [parts.eval[row] for row in own]
        self._has_bytes = isinstance(parts.tokenizer, ByteTokenizer)
        self._has_words = isinstance(parts.model, WordLatent)
        self._names = [name for name, _ in parts.eval.groups] or [""]
        self._batches: list[tuple[int, WordBatch | tuple[Batch, NDArray[np.int64]]]] = []
        """The task's number, and a batch of its examples; of tokens with the words that their targets belong to."""
        ends = np.cumsum([count for _, count in parts.eval.groups] or [len(parts.eval)])
        group_of = np.searchsorted(ends, np.array(own), side="right")
        for group in range(len(self._names)):
            self._add_batches(group, [self._own[place] for place in np.flatnonzero(group_of == group)])

    def _add_batches(self, group: int, examples: Sequence[EncodedExample]) -> None:
        size = self._parts.config.training.per_device_eval_batch_size
        words = _words if self._has_bytes else _no_words
        by_length = sorted(examples, key=lambda example: len(example.ids))
        for start in range(0, len(by_length), size):
            chunk = by_length[start : start + size]
            batch = evaluation_batch(self._parts, chunk) if self._has_words else (collate(chunk), words(chunk))
            self._batches.append((group, batch))

    @property
    def can_generate(self) -> bool:
        """Whether the task has completions to be generated, and the model a way to generate them."""
        return self._parts.can_generate

    def cheap_metrics(self) -> dict[str, float]:
        """Return eval_loss (nats, mean over target tokens), perplexity, bits per byte of text, and accuracies.

        Accuracy: share of targets whose most likely token is right, the end of text counts; with bytes for tokens it is
        called byte accuracy. Word accuracy, with bytes: share of words whose every byte is right. All are taken with
        the true text before each token. The tasks of a mixture have loss and accuracies of their own beside these.
        A model that writes words has their ends among its targets, and beside bits per byte, which say what a text
        costs with them, those of the bytes alone.
        """
        found = np.zeros((len(self._names), 6))
        with evaluating(self._parts), autocast_of(self._parts):
            for group, batch in self._batches:
                if isinstance(batch, WordBatch):
                    found[group] += word_sums(self._parts, batch)
                else:
                    found[group] += _token_sums(self._parts, *batch)
        sums = sum_over_ranks(self._parts.world, torch.from_numpy(found))
        nats, right, words_right, targets, words, byte_nats = sums.sum(0).tolist()
        self.counted_targets = int(targets)
        if self.counted_targets != self._num_targets:
            raise DataError(
                f"the evaluation counted {self.counted_targets} target tokens, its data have {self._num_targets}"
            )
        mean_loss = nats / targets
        metrics = {
            "eval_loss": mean_loss,
            "perplexity": math.exp(mean_loss) if mean_loss < 700 else math.inf,
        }
        if self._has_bytes:
            metrics |= {"eval_byte_accuracy": right / targets, "eval_word_accuracy": words_right / words}
        else:
            metrics["eval_accuracy"] = right / targets
        if not self._parts.task.has_completions and self._num_bytes:  # running text: no token but the text's own
            metrics["bits_per_byte"] = nats / math.log(2) / self._num_bytes
            if self._has_words:
                metrics["bits_per_byte_without_ends"] = byte_nats / math.log(2) / self._num_bytes
        return metrics | self._metrics_by_task(sums.tolist())

    def _metrics_by_task(self, sums: list[list[float]]) -> dict[str, float]:
        """Return loss and accuracies of each task of a mixture; nothing for a single task."""
        metrics: dict[str, float] = {}
        for name, (nats, right, words_right, targets, words, _) in zip(self._names, sums, strict=True):
            if not name:
                continue
            metrics[f"eval_{name}_loss"] = nats / targets
            metrics[f"eval_{name}_{'byte_accuracy' if self._has_bytes else 'accuracy'}"] = right / targets
            if self._has_bytes:
                metrics[f"eval_{name}_word_accuracy"] = words_right / words
        return metrics

    def generation_metrics(self) -> tuple[dict[str, float], list[Sample]]:
        """Return chrF, BLEU and exact match of greedy generations, and the samples of the same few prompts."""
        examples, world = self._parts.eval, self._parts.world
        decode = self._parts.tokenizer.decode
        prompts = [example.ids[: example.prefix_length] for example in self._own]
        longest = max(example.num_targets for example in examples)
        size = self._parts.config.training.per_device_eval_batch_size
        with evaluating(self._parts):
            mine = [
                text
                for start in range(0, len(prompts), size)
                for text in self._generated(prompts[start : start + size], longest + 8)
            ]
        generated = [""] * len(examples)
        for rank, texts in enumerate(gather_objects(world, mine)):
            generated[rank :: world.size] = texts
        expected = [decode(example.ids[example.prefix_length :].tolist()) for example in examples]
        samples = [
            Sample(self._prompt_text(examples[i]), generated[i], expected[i])
            for i in range(min(_NUM_SAMPLES, len(examples)))
        ]
        return generation_scores(generated, expected), samples

    def _generated(self, prompts: Sequence[NDArray[Any]], max_new_tokens: int) -> list[str]:
        if self._has_words:
            return generated_texts(self._parts, prompts, max_new_tokens)
        return [self._parts.tokenizer.decode(ids) for ids in generate(self._parts, prompts, max_new_tokens)]

    def _prompt_text(self, example: EncodedExample) -> str:
        """Return the text of a prompt, in which the token that ends a text may end turns of a conversation."""
        prompt = example.ids[: example.prefix_length]
        turns = np.split(prompt, np.flatnonzero(prompt == self._parts.tokenizer.eos) + 1)
        return "".join(self._parts.tokenizer.decode(turn.tolist()) for turn in turns)


def evaluated_data(parts: Evaluable) -> dict[str, Any]:
    """Return what names the evaluation data: hash, examples, target tokens and bytes.

    Where a model writes words, their ends are targets, too.
    """
    facts, model = evaluation_facts(parts.eval), parts.config.model
    if isinstance(model, WordLatentConfig):
        facts["num_targets"] = count_targets(parts.eval, model.max_word_length)
    return facts


def target_loss(parts: Evaluable, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy over the batch's targets and their logits (N, V), in fp32."""
    model, here = cast(CausalLM, parts.model), batch.to(parts.device)
    wanted = with_few_sizes(here.target_positions, here.input_ids.shape)
    logits = model.logits(hidden_at(parts.model, wanted, here.input_ids))[: len(here.targets)].float()
    return F.cross_entropy(logits, here.targets, reduction="sum"), logits


def _token_sums(parts: Evaluable, batch: Batch, word_of_target: NDArray[np.int64]) -> tuple[float, ...]:
    """Return what a batch of tokens adds to the metrics: `words.word_sums` says what."""
    loss, logits = target_loss(parts, batch)
    is_wrong = (logits.argmax(-1).cpu() != batch.targets).numpy()
    num_words = int(word_of_target[-1]) + 1
    words_right = num_words - len(np.unique(word_of_target[is_wrong]))
    return loss.item(), (~is_wrong).sum(), words_right, len(is_wrong), num_words, loss.item()


def _words(examples: Sequence[EncodedExample]) -> NDArray[np.int64]:
    """Return the word number of each target of a batch, counted through the batch, shape (N,)."""
    numbers: list[int] = []
    for example in examples:
        first = numbers[-1] + 1 if numbers else 0
        completion = bytes(example.ids[example.prefix_length : -1])
        numbers.extend(first + number for number in word_numbers(completion))
    return np.array(numbers)


def _no_words(examples: Sequence[EncodedExample]) -> NDArray[np.int64]:
    """Return one word for all targets: words are counted in bytes alone."""
    return np.zeros(sum(example.num_targets for example in examples), dtype=np.int64)


def autocast_of(parts: Evaluable) -> AbstractContextManager[Any]:
    """Return the precision that a config evaluates in."""
    training = parts.config.training
    if training.bf16 or training.bf16_full_eval:
        return torch.autocast(parts.device.type, torch.bfloat16)
    return nullcontext()


@contextmanager
def evaluating(parts: Evaluable) -> Iterator[None]:
    """Hold a model still: no dropout, no gradients."""
    parts.model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        parts.model.train()
