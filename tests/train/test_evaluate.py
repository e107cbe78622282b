"""Evaluation against loops that anyone can check."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hotlap.core.errors import DataError
from hotlap.data.batches import Batch
from hotlap.data.encoding import EncodedExample, word_numbers
from hotlap.train import evaluate
from hotlap.train.evaluate import Evaluator, evaluated_data
from hotlap.train.parts import Parts

MakeParts = Callable[..., Parts]


def nats_of(parts: Parts, example: EncodedExample) -> list[float]:
    """Return the loss of each target token of one example, fed alone and without padding."""
    ids = torch.tensor(example.ids.astype(int))
    with torch.no_grad():
        logits = parts.model.logits(parts.model.hidden(ids[None, :-1]))[0]
    first = example.prefix_length
    return F.cross_entropy(logits[first - 1 :], ids[first:], reduction="none").tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_eval_loss_is_the_mean_over_target_tokens(make_parts: MakeParts, batch_size: int) -> None:
    parts = make_parts({"training.per_device_eval_batch_size": batch_size})
    assert len({example.num_targets for example in parts.eval}) > 1  # else rows and tokens would weigh the same
    by_example = [nats_of(parts, example) for example in parts.eval]
    nats = [token for example in by_example for token in example]
    metrics = Evaluator(parts).cheap_metrics()
    assert metrics["eval_loss"] == pytest.approx(sum(nats) / len(nats), rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["eval_loss"]))


def is_right(before: list[int]) -> bool:
    """Decide by the text before a byte whether the rigged model knows it."""
    return sum(before) % 4 > 0


@pytest.fixture
def rigged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model right or wrong as `is_right` says."""

    def rigged_loss(_: Parts, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        answers = []
        for position, target in zip(batch.target_positions.tolist(), batch.targets.tolist(), strict=True):
            row, column = divmod(position, batch.input_ids.shape[1])
            before = batch.input_ids[row, : column + 1].tolist()
            answers.append(target if is_right(before) else (target + 1) % 256)
        return torch.tensor(0.0), F.one_hot(torch.tensor(answers), 256).float()

    monkeypatch.setattr(evaluate, "target_loss", rigged_loss)


@pytest.mark.usefixtures("rigged")
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_accuracies_are_those_of_a_naive_loop(make_parts: MakeParts, batch_size: int) -> None:
    parts = make_parts({"training.per_device_eval_batch_size": batch_size})
    bytes_right: list[bool] = []
    words_right: list[bool] = []
    for example in parts.eval:
        ids = example.ids.tolist()
        words: dict[int, list[bool]] = {}
        numbers = word_numbers(bytes(ids[example.prefix_length : -1]))
        for place, word in zip(range(example.prefix_length, len(ids)), numbers, strict=True):
            right = is_right(ids[:place])
            bytes_right.append(right)
            words.setdefault(word, []).append(right)
        words_right += [all(found) for found in words.values()]
    metrics = Evaluator(parts).cheap_metrics()
    assert metrics["eval_byte_accuracy"] == pytest.approx(sum(bytes_right) / len(bytes_right))
    assert metrics["eval_word_accuracy"] == pytest.approx(sum(words_right) / len(words_right))
    assert 0 < metrics["eval_word_accuracy"] < metrics["eval_byte_accuracy"] < 1


@pytest.mark.parametrize(("nats", "perplexity"), [(1e6, math.inf), (math.inf, math.inf)])
def test_a_hopeless_loss_has_an_infinite_perplexity(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch, nats: float, perplexity: float
) -> None:
    def hopeless(_: Parts, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(nats), torch.zeros(len(batch.targets), 256)

    monkeypatch.setattr(evaluate, "target_loss", hopeless)
    metrics = Evaluator(make_parts({"training.per_device_eval_batch_size": 1})).cheap_metrics()
    assert metrics["perplexity"] == perplexity


def test_weights_that_are_not_a_number_give_a_loss_that_is_none(make_parts: MakeParts) -> None:
    parts = make_parts()
    with torch.no_grad():
        parts.model.embedding.weight.fill_(math.nan)
    assert math.isnan(Evaluator(parts).cheap_metrics()["eval_loss"])


def test_an_evaluation_repeats_itself_whatever_the_dropout(make_parts: MakeParts) -> None:
    evaluator = Evaluator(make_parts({"model.resid_pdrop": 0.5, "model.embd_pdrop": 0.5}))
    assert evaluator.cheap_metrics() == evaluator.cheap_metrics()
    assert evaluator.generation_metrics() == evaluator.generation_metrics()


def test_samples_are_the_same_few_prompts_beside_what_was_asked_for(make_parts: MakeParts) -> None:
    parts = make_parts()
    _, samples = Evaluator(parts).generation_metrics()
    assert [sample.expected for sample in samples] == [example.completion for example in parts.task.eval[:5]]
    assert [sample.prompt for sample in samples] == [example.prefix for example in parts.task.eval[:5]]
    assert any(sample.generated for sample in samples)


def test_the_ends_of_turns_do_not_end_a_prompt(make_parts: MakeParts) -> None:
    conversation = EncodedExample(np.frombuffer(b"hi\x03you\x03!answer\x03", dtype=np.uint8), 8)
    assert Evaluator(make_parts())._prompt_text(conversation) == "hiyou!"


def test_generation_is_scored_on_every_evaluation_example(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_parts()
    answers = [example.ids[example.prefix_length :].tolist() for example in parts.eval]
    wrong = [*b"nonsense", 3]

    def perfect_but_for_the_last(_: Parts, prompts: list[Any], max_new_tokens: int) -> list[list[int]]:
        assert [parts.tokenizer.decode(prompt.tolist()) for prompt in prompts] == [
            example.prefix for example in parts.task.eval
        ]
        assert max_new_tokens > max(map(len, answers))
        return [*answers[:-1], wrong]

    monkeypatch.setattr(evaluate, "generate", perfect_but_for_the_last)
    scores, _ = Evaluator(parts).generation_metrics()
    assert scores["eval_exact_match"] == pytest.approx(1 - 1 / len(answers))
    assert 50 < scores["eval_chrf"] < 100


def test_the_model_is_back_in_training_even_after_a_failure(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_parts()
    seen = []

    def failing(*_: object, **__: object) -> None:
        seen.append(parts.model.training)
        raise RuntimeError

    monkeypatch.setattr(evaluate, "target_loss", failing)
    parts.model.train()
    with pytest.raises(RuntimeError):
        Evaluator(parts).cheap_metrics()
    assert seen == [False]
    assert parts.model.training


def test_an_evaluation_that_leaves_targets_out_is_refused(make_parts: MakeParts) -> None:
    parts = make_parts()
    evaluator = Evaluator(parts)
    evaluator.cheap_metrics()
    assert evaluator.counted_targets == evaluated_data(parts)["num_targets"]
    evaluator._batches.pop()
    with pytest.raises(DataError, match=r"the evaluation counted \d+ target tokens, its data have \d+"):
        evaluator.cheap_metrics()


def test_evaluation_data_are_named_by_their_content(make_parts: MakeParts) -> None:
    parts = make_parts()
    facts = evaluated_data(parts)
    examples = list(parts.eval)
    assert facts["num_examples"] == len(examples)
    assert facts["num_targets"] == sum(example.num_targets for example in examples)
    assert facts["num_bytes"] == facts["num_targets"] - len(examples), "EOS is no byte of the text"
    assert evaluated_data(make_parts({"training.seed": 9})) == facts
    assert evaluated_data(make_parts({"task.max_eval_samples": 4}))["hash"] != facts["hash"]
