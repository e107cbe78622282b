"""The training loop: gradients, reproducibility, the clock, divergence and padding."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from hotlap.core.clock import TrainClock
from hotlap.core.errors import DivergedError
from hotlap.data.batches import Batch, collate
from hotlap.train import loop
from hotlap.train.evaluate import Evaluator
from hotlap.train.loop import Signs, Step, StepTimer, train_steps
from hotlap.train.parts import Parts

MakeParts = Callable[..., Parts]
DROPOUT = {"model.embd_pdrop": 0.1, "model.attn_pdrop": 0.1, "model.resid_pdrop": 0.1}


SIGNS = Signs(wall_seconds=lambda: 0.0, is_interrupted=lambda: False)


def rows_of(parts: Parts, number: int) -> list[int]:
    """Return the examples of a batch, one per row."""
    return [int(example) for row in parts.source.order.rows(number) for example in row]


def train(parts: Parts, between: Callable[[], object] = lambda: None) -> list[Step]:
    steps = []
    for step in train_steps(parts, TrainClock(), StepTimer(), SIGNS):
        steps.append(step)
        between()
    return steps


def weights(parts: Parts) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in parts.model.parameters()])


def naive_losses(parts: Parts, rows: list[int]) -> list[float]:
    """Return the loss of every target token of some training rows, one row and one token at a time."""
    losses = []
    for row in rows:
        example = parts.train[row]
        ids = torch.tensor(example.ids.astype(int))
        for place in range(example.prefix_length, len(ids)):
            logits = parts.model.logits(parts.model.hidden(ids[None, :place]))[0, -1]
            losses.append(F.cross_entropy(logits, ids[place]).item())
    return losses


def test_steps_are_counted_and_described(make_parts: MakeParts) -> None:
    parts = make_parts({"training.lr_scheduler_type": "linear", "training.warmup_steps": 2, "training.max_steps": 4})
    steps = train(parts)
    assert [step.number for step in steps] == [1, 2, 3, 4]
    assert [step.learning_rate for step in steps] == pytest.approx([0, 1.5e-3, 3e-3, 1.5e-3])
    for step in steps:
        lengths = [len(parts.train[row].ids) - 1 for row in rows_of(parts, step.number - 1)]
        assert (step.num_tokens, step.num_slots) == (sum(lengths), 4 * max(lengths))


@pytest.mark.parametrize("patch", [{}, {"training.gradient_accumulation_steps": 3}, {"training.padding": "bucketed"}])
def test_the_loss_is_the_mean_over_all_target_tokens_of_the_step(make_parts: MakeParts, patch: dict[str, Any]) -> None:
    parts = make_parts(patch)
    parts.model.eval()
    count = parts.config.training.gradient_accumulation_steps
    rows = [row for number in range(count) for row in rows_of(parts, number)]
    with torch.no_grad():
        losses = naive_losses(parts, rows)
    step = next(train_steps(parts, TrainClock(), StepTimer(), SIGNS))
    assert step.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_two_micro_batches_of_4_are_one_batch_of_8(make_parts: MakeParts) -> None:
    calm = {"training.adam_epsilon": 1e-3, "training.max_steps": 5}  # an epsilon that does not blow rounding up
    whole = make_parts({"training.per_device_train_batch_size": 8, **calm})
    halves = make_parts({"training.gradient_accumulation_steps": 2, **calm})
    start = weights(whole)
    losses = [[step.loss for step in train(parts)] for parts in (whole, halves)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    torch.testing.assert_close(weights(whole), weights(halves), atol=1e-6, rtol=0)
    assert (weights(whole) - start).abs().max() > 1e-3


@pytest.mark.parametrize(
    "patch", [{}, {"training.optim": "muon"}, {"training.bf16": True, "training.padding": "bucketed"}]
)
def test_the_same_seed_gives_the_same_weights_bit_by_bit(make_parts: MakeParts, patch: dict[str, Any]) -> None:
    """Building seeds the random numbers, so nobody has to seed again before training."""
    runs = []
    for seed in (1, 1, 2):
        parts = make_parts({**DROPOUT, **patch, "training.seed": seed})
        runs.append(([step.loss for step in train(parts)], weights(parts)))
    (losses, trained), (losses_again, trained_again), (other_losses, other) = runs
    assert losses == losses_again
    assert torch.equal(trained, trained_again)
    assert losses != other_losses
    assert not torch.equal(trained, other)


@pytest.mark.parametrize("patch", [{}, {"training.optim": "muon"}, {"training.bf16": True}])
def test_evaluation_in_between_leaves_the_training_as_it_was(make_parts: MakeParts, patch: dict[str, Any]) -> None:
    undisturbed = make_parts({**DROPOUT, **patch})
    losses = [step.loss for step in train(undisturbed)]
    watched = make_parts({**DROPOUT, **patch})
    evaluator = Evaluator(watched)

    def evaluate() -> None:
        state = torch.get_rng_state()
        evaluator.cheap_metrics()
        evaluator.generation_metrics()
        assert torch.equal(torch.get_rng_state(), state)
        assert watched.model.training

    assert [step.loss for step in train(watched, evaluate)] == losses
    assert torch.equal(weights(watched), weights(undisturbed))


def test_only_the_steps_are_on_the_clock(make_parts: MakeParts) -> None:
    ticks = itertools.count()
    clock = TrainClock(lambda: float(next(ticks)))
    readings = []
    for _ in train_steps(make_parts(), clock, StepTimer(), SIGNS):
        readings.append(clock.seconds)
        next(ticks)  # time that passes between the steps
    assert readings == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_parts_of_a_step_are_booked_apart(make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(ticks))
    timer = StepTimer()
    list(train_steps(make_parts({"training.gradient_accumulation_steps": 3}), TrainClock(lambda: 0.0), timer, SIGNS))
    assert timer.seconds == {"waiting": 8, "data": 8, "forward": 24, "backward": 24, "optimizer": 8}


def test_a_loss_that_is_not_a_number_ends_the_training(make_parts: MakeParts) -> None:
    parts = make_parts()
    with torch.no_grad():
        parts.model.embedding.weight[ord("<")] = math.nan
    with pytest.raises(DivergedError, match="the training loss is nan at step 1; lower the learning rate"):
        train(parts)


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_a_gradient_that_is_not_a_number_never_reaches_the_weights(make_parts: MakeParts, limit: float) -> None:
    parts = make_parts({"training.max_grad_norm": limit, "training.logging_steps": 1})
    parts.model.embedding.weight.register_hook(lambda gradient: gradient * math.nan)
    before = weights(parts)
    with pytest.raises(DivergedError, match="the gradient norm is nan at step 1"):
        train(parts)
    assert torch.equal(weights(parts), before)


def test_without_clipping_the_norm_is_computed_for_the_log_only(make_parts: MakeParts) -> None:
    free = train(make_parts({"training.max_grad_norm": 0, "training.logging_steps": 3}))
    assert [step.grad_norm is not None for step in free] == [n % 3 == 0 for n in range(1, 9)]
    loose = train(make_parts({"training.max_grad_norm": 1e9}))
    assert [step.loss for step in loose] == [step.loss for step in free]
    assert loose[2].grad_norm == free[2].grad_norm


@pytest.mark.parametrize(("limit", "norm_after"), [(0.0, 5.0), (9.0, 5.0), (2.0, 2.0)])
def test_gradients_are_clipped_to_the_norm_and_the_norm_before_is_told(
    make_parts: MakeParts, limit: float, norm_after: float
) -> None:
    parts = make_parts()
    gradients = [torch.randn_like(p) for p in parts.model.parameters()]
    scale = 5 / torch.cat([gradient.flatten() for gradient in gradients]).norm()
    for p, gradient in zip(parts.model.parameters(), gradients, strict=True):
        p.grad = gradient * scale
    norm = loop._clip(parts, limit, is_measured=True)
    assert norm is not None and norm.item() == pytest.approx(5, rel=1e-5)
    after = torch.cat([p.grad.flatten() for p in parts.model.parameters() if p.grad is not None])
    assert after.norm().item() == pytest.approx(norm_after, rel=1e-4)


def loss_of(parts: Parts, batch: Batch) -> torch.Tensor:
    loss: torch.Tensor = parts.objective(batch.input_ids, batch.target_positions, batch.targets)
    return loss


@pytest.mark.parametrize("model", [{}, {"model.positions": "rope", "model.smear": True, "model.qk_norm": True}])
def test_padding_does_not_change_the_loss_of_the_same_rows(make_parts: MakeParts, model: dict[str, Any]) -> None:
    parts = make_parts(model)
    rows = [parts.train[row] for row in range(12)]
    with torch.no_grad():
        together = [loss_of(parts, collate(rows, length)) for length in (None, int(parts.train.lengths.max()), 70)]
        apart = sum(loss_of(parts, collate([row])) for row in rows)
    for loss in together:
        torch.testing.assert_close(loss, apart, atol=0, rtol=1e-6)


def test_padding_to_the_longest_possible_trains_the_same(make_parts: MakeParts) -> None:
    calm = {"training.adam_epsilon": 1e-3}
    tight, wide = make_parts(calm), make_parts({**calm, "training.padding": "max_length"})
    steps = [train(parts) for parts in (tight, wide)]
    assert [step.loss for step in steps[0]] == pytest.approx([step.loss for step in steps[1]], abs=1e-6)
    torch.testing.assert_close(weights(tight), weights(wide), atol=1e-6, rtol=0)
    assert {step.num_slots for step in steps[1]} == {4 * (int(wide.train.lengths.max()) - 1)}
    assert [step.num_tokens for step in steps[0]] == [step.num_tokens for step in steps[1]]


def test_training_lowers_the_loss(make_parts: MakeParts) -> None:
    steps = train(make_parts({"training.max_steps": 60, "training.optim": "muon"}))
    assert sum(step.loss for step in steps[-5:]) < 0.7 * sum(step.loss for step in steps[:5])
