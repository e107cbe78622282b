"""The word-latent model in training: one loss in every layout, metrics by hand, and every kind of task."""

import json
import math
from collections.abc import Callable
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hotlap.config.samples import GenerationSettings
from hotlap.core.clock import TrainClock
from hotlap.core.errors import ConfigError
from hotlap.data.encoding import EncodedExample
from hotlap.data.word_arrays import WordLayout, arrange_words
from hotlap.data.word_batches import WordBatch, word_batch_of
from hotlap.data.words import split_words
from hotlap.train.checkpoint import save_weights
from hotlap.train.evaluate import Evaluator, evaluated_data, evaluating
from hotlap.train.export import export_weights
from hotlap.train.generate import continue_rows
from hotlap.train.loop import Signs, StepTimer, train_steps
from hotlap.train.parts import Parts
from hotlap.train.probe import probe_model
from hotlap.train.reevaluate import reevaluate
from hotlap.train.saved import load_speaker
from hotlap.train.words import generated_texts

MakeParts = Callable[..., Parts]

PART = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
MODEL: dict[str, Any] = {"name": "word_latent", "max_word_length": 8, "encoder": PART, "latent": PART, "decoder": PART}
MODEL["encode_distinct"] = False
CHOICES = [
    {"training.padding": "max_length"},
    {"training.padding": "max_length", "model.encode_distinct": True},
    {"training.padding": "longest"},
    {"training.padding": "longest", "model.encode_distinct": True},
]


@pytest.fixture
def make_words(make_parts: MakeParts) -> MakeParts:
    """Build parts with a tiny word-latent model whose predictions differ from place to place."""

    def make(patch: dict[str, Any] | None = None, *, is_lively: bool = True) -> Parts:
        parts = make_parts({"model": deepcopy(MODEL), **(patch or {})})
        if is_lively:
            torch.manual_seed(1)
            with torch.no_grad():
                for parameter in parts.model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        return parts

    return make


def alone(parts: Parts, example: EncodedExample) -> list[tuple[list[float], list[bool]]]:
    """Return for each learned word of an example the nats of its bytes and its end, and whether each is right."""
    prefix, completion = bytes(example.ids[: example.prefix_length]), bytes(example.ids[example.prefix_length : -1])
    given, learned = split_words(prefix, 8), split_words(completion, 8)
    states = parts.model.latents(word_batch_of(arrange_words([example], WordLayout(8))))[0]
    found = []
    for place, word in enumerate([*learned, b""], start=len(given)):
        logits = parts.model.logits(states[place][None], torch.tensor([[2, *word]]))[0]
        targets = torch.tensor([*word, 3])
        nats = F.cross_entropy(logits, targets, reduction="none").tolist()
        found.append((nats, (logits.argmax(-1) == targets).tolist()))
    return found


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_metrics_are_sums_over_words_read_alone(make_words: MakeParts, batch_size: int) -> None:
    settings = {"training.per_device_eval_batch_size": batch_size, "training.max_steps": 30}
    parts = make_words(settings, is_lively=False)
    train(parts, 30)
    with torch.inference_mode():
        words = [word for example in parts.eval for word in alone(parts, example)]
    nats = [value for values, _ in words for value in values]
    right = [value for _, values in words for value in values]
    metrics = Evaluator(parts).cheap_metrics()
    assert metrics["eval_loss"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    assert metrics["eval_byte_accuracy"] == pytest.approx(np.mean(right))
    assert metrics["eval_word_accuracy"] == pytest.approx(np.mean([all(values) for _, values in words]))
    assert 0 < metrics["eval_byte_accuracy"] < 1
    assert evaluated_data(parts)["num_targets"] == len(nats)
    assert "bits_per_byte" not in metrics


def step_of(parts: Parts) -> tuple[float, list[torch.Tensor]]:
    """Return the loss of the first batch, and the gradients."""
    (batch,), num_targets = parts.source.micro_batches(0, 1)
    loss = parts.loss(batch) / num_targets
    loss.backward()
    return loss.item(), [parameter.grad for parameter in parts.parameters if parameter.grad is not None]


def test_every_layout_has_the_loss_and_gradients_of_the_padded_one(make_words: MakeParts) -> None:
    (expected, gradients), *others = [step_of(make_words(choice)) for choice in CHOICES]
    assert len(gradients) > 10
    for loss, found in others:
        assert loss == pytest.approx(expected, abs=1e-4)
        for one, other in zip(found, gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_padded_batches_have_one_shape_and_bucketed_ones_rows_of_like_length(make_words: MakeParts) -> None:
    padded, bucketed, plain = (make_words({"training.padding": name}) for name in ("max_length", "bucketed", "longest"))
    batches = [source.source.micro_batches(0, 20)[0] for source in (padded, bucketed, plain)]
    shapes = {(batch.words[0].ids.shape, batch.targets[0].targets.shape, batch.word_at.shape) for batch in batches[0]}
    assert len(shapes) == 1
    wasted = [sum(batch.num_slots - batch.num_tokens for batch in found) for found in batches]
    assert wasted[1] < wasted[2] < wasted[0]


def train(parts: Parts, steps: int) -> list[float]:
    """Take training steps; return their losses."""
    signs = Signs(wall_seconds=lambda: 0.0, is_interrupted=lambda: False)
    found = []
    for step in train_steps(parts, TrainClock(), StepTimer(), signs):
        found.append(step.loss)
        if len(found) == steps:
            break
    return found


@pytest.mark.parametrize("accumulation", [1, 2])
def test_training_lowers_the_loss_and_workers_change_nothing(make_words: MakeParts, accumulation: int) -> None:
    settings = {"training.max_steps": 40, "training.padding": "bucketed", "training.learning_rate": 1e-2}
    settings["training.gradient_accumulation_steps"] = accumulation
    losses = train(make_words(settings, is_lively=False), 40)
    assert np.mean(losses[-5:]) < 0.75 * losses[0]
    again = make_words({**settings, "training.dataloader_num_workers": 2}, is_lively=False)
    try:
        again.source.start()
        assert train(again, 6) == losses[:6]
    finally:
        again.source.close()


def write_pairs(folder: Path) -> None:
    """Write pairs of prompt and completion with a shift block in each prompt."""
    lines = [{"prompt": f"<en>\x0ewords {n} in\x0f<he> ", "completion": f"שלום {n} 👍🏽"} for n in range(80)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def write_generator(folder: Path) -> None:
    """Write a task of the project's."""
    (folder / "sums.py").write_text(
        "import random\n\ndef pairs(seed):\n    draw = random.Random(seed)\n    while True:\n"
        "        a, b = draw.randrange(99), draw.randrange(99)\n        yield f'{a} plus {b} ', f'is {a + b}'\n"
    )


PAIRS = {"name": "prompt_completion", "file": "pairs.jsonl", "max_eval_samples": 8}
SUMS = {"name": "generator", "function": "sums:pairs", "max_eval_samples": 8, "max_length": 40}
REPEAT = {"name": "string_repetition", "text": "corpus.txt", "max_length_bytes": 24, "max_eval_samples": 8}
RUNNING = {"name": "language_model", "text": "corpus.txt", "block_size": 32, "max_eval_samples": 8}
MIXED = {"name": "mixture", "tasks": {"one": {**REPEAT, "weight": 2}, "two": {**SUMS, "weight": 1}}, "by": "tokens"}


@pytest.mark.parametrize("padding", ["max_length", "bucketed"])
@pytest.mark.parametrize("task", [PAIRS, SUMS, REPEAT, RUNNING, MIXED], ids=lambda task: task["name"])
def test_every_kind_of_task_trains(make_words: MakeParts, tmp_path: Path, task: dict[str, Any], padding: str) -> None:
    write_pairs(tmp_path)
    write_generator(tmp_path)
    parts = make_words({"task": task, "training.padding": padding}, is_lively=False)
    (batch,), num_targets = parts.source.micro_batches(3, 1)
    assert isinstance(batch, WordBatch)
    assert batch.num_targets == num_targets == sum(int((group.targets != -100).sum()) for group in batch.targets)
    assert all(math.isfinite(loss) for loss in train(parts, 3))
    evaluator = Evaluator(parts)
    metrics = evaluator.cheap_metrics()
    assert evaluator.can_generate == (task is not RUNNING)
    if task is MIXED:
        assert {"eval_one_loss", "eval_two_loss", "eval_two_word_accuracy"} <= set(metrics)
    if task is RUNNING:
        bits = sum_of_nats(parts) / math.log(2) / sum(len(example.ids) - 1 for example in parts.eval)
        assert metrics["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
        assert metrics["bits_per_byte_without_ends"] < metrics["bits_per_byte"]
    if task is PAIRS:
        scores, samples = evaluator.generation_metrics()
        assert set(scores) == {"eval_chrf", "eval_sacrebleu", "eval_exact_match"}
        assert samples[0].expected.startswith("שלום ")


def sum_of_nats(parts: Parts) -> float:
    """Return what the model pays for all evaluation examples, by the loss that it trains with."""
    with torch.inference_mode():
        return sum(
            parts.model.loss(word_batch_of(arrange_words([example], WordLayout(8)))).item() for example in parts.eval
        )


def test_generated_text_is_scored_whatever_the_batch_size(make_words: MakeParts) -> None:
    one, other = (
        Evaluator(make_words({"training.per_device_eval_batch_size": size})).generation_metrics() for size in (1, 16)
    )
    assert one == other
    assert any(sample.generated for sample in one[1])


def test_the_probes_find_nothing_in_an_honest_model_and_something_in_one_that_sees_ahead(
    make_words: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_words()
    found = probe_model(parts)
    assert found["problems"] == []
    assert found["causality"] < 1e-4
    assert 0 < found["normalisation"] <= 1.001
    monkeypatch.setattr(
        "hotlap.models.word_latent.block_mask", lambda blocks: torch.ones(len(blocks), 1, 1, 1, dtype=bool)
    )
    (problem,) = probe_model(parts)["problems"]
    assert problem.startswith("causality: the model's predictions change by")


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"tokenizer": "character"}, "word_latent reads bytes, but tokenizer is character"),
        ({"training.padding": "packed"}, "word_latent has one example in a row; use padding: bucketed"),
        ({"backend": "hf"}, "none like word_latent; use backend: fast"),
        ({"model.max_word_length": 5}, "max_word_length"),
    ],
)
def test_what_does_not_go_with_words_is_refused(make_words: MakeParts, patch: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_words(patch)


def test_bytes_come_one_by_one_as_they_do_word_by_word(make_words: MakeParts) -> None:
    parts = make_words()
    prompts = [list(example.ids[: example.prefix_length]) for example in islice(parts.eval, 5)]
    settings = GenerationSettings(max_new_tokens=12)
    together = continue_rows(parts, prompts, settings)
    assert together == [continue_rows(parts, [prompt], settings)[0] for prompt in prompts]
    assert parts.model.training
    with evaluating(parts):
        texts = generated_texts(parts, [np.array(prompt) for prompt in prompts], 12)
    decode = parts.tokenizer.decode
    assert [decode(row).rstrip("\N{REPLACEMENT CHARACTER}") for row in together] == texts
    assert len(set(texts)) > 1


def test_saved_weights_are_evaluated_and_speak_as_before(make_words: MakeParts, tmp_path: Path) -> None:
    parts = make_words()
    evaluator = Evaluator(parts)
    expected = evaluator.cheap_metrics()
    save_weights(parts.model, tmp_path / "model.safetensors")
    again = reevaluate(parts.config, tmp_path, tmp_path / "cache", tmp_path / "model.safetensors")
    assert again["eval"]["metrics"] == pytest.approx(expected)
    assert again["eval"]["num_targets"] == evaluator.counted_targets
    assert again["probes"]["problems"] == []
    speaker = load_speaker(parts.config, tmp_path, tmp_path / "cache", tmp_path / "model.safetensors", None)
    settings = GenerationSettings(max_new_tokens=8, temperature=0.8)
    assert continue_rows(speaker, [[97, 32]], settings) == continue_rows(parts, [[97, 32]], settings)
    with pytest.raises(ConfigError, match="transformers has no architecture like it"):
        export_weights(parts.config, tmp_path, tmp_path, tmp_path / "model.safetensors", tmp_path / "out")
