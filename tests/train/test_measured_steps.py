"""Steps that are timed: those of the training, as many as are asked for, with what they hold; and the evidence."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hotlap.core.clock import TrainClock
from hotlap.train.evidence import step_evidence
from hotlap.train.flops import row_lengths
from hotlap.train.loop import Signs, StepTimer, train_steps
from hotlap.train.machine_speed import matmul_flops, number_format
from hotlap.train.measure import StepPlan, measure_steps
from hotlap.train.parts import Parts
from hotlap.train.worker_rounds import measure_training, steps_in_round

MakeParts = Callable[..., Parts]


@pytest.mark.parametrize("workers", [0, 1])
def test_as_many_steps_as_are_asked_for_beyond_the_end_of_the_schedule(make_parts: MakeParts, workers: int) -> None:
    parts = make_parts({"training.max_steps": 3, "training.dataloader_num_workers": workers})
    measured = measure_steps(parts, StepPlan(warmup_steps=2, steps=5, seconds=0.0))
    parts.source.close()
    assert len(measured.step_seconds) == 5
    assert min(measured.step_seconds) > 0 and measured.warmup_seconds > 0
    assert sum(measured.seconds_by_part.values()) <= 1.01 * sum(measured.step_seconds) / 5


def test_the_figures_are_means_over_the_measured_steps(make_parts: MakeParts) -> None:
    parts = make_parts({"training.gradient_accumulation_steps": 2})
    batches = [batch for first in (2, 4, 6) for batch in parts.source.micro_batches(first, 2)[0]]
    measured = measure_steps(parts, StepPlan(warmup_steps=1, steps=3, seconds=0.0))
    assert measured.samples_per_step == 8
    assert measured.tokens_per_step == pytest.approx(sum(batch.num_tokens for batch in batches) / 3)
    assert measured.slots_per_step == pytest.approx(sum(batch.num_slots for batch in batches) / 3)
    assert sum(int(row_lengths(batch).sum()) for batch in batches) == sum(batch.num_tokens for batch in batches)


def test_they_are_the_steps_of_the_training(make_parts: MakeParts) -> None:
    measured, trained = make_parts(), make_parts()
    measure_steps(measured, StepPlan(warmup_steps=2, steps=4, seconds=0.0))
    signs = Signs(wall_seconds=lambda: 0.0, is_interrupted=lambda: False)
    for step in train_steps(trained, TrainClock(), StepTimer(), signs):
        if step.number == 6:
            break
    for one, other in zip(measured.parameters, trained.parameters, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("plan", "count"),
    [
        ({"steps": 2, "seconds": 1e9, "most_steps": 7}, 7),
        ({"steps": 50, "seconds": 0.0, "enough_seconds": 0.0}, 2),
    ],
)
def test_there_is_an_end_to_slow_and_to_quick_steps(make_parts: MakeParts, plan: dict[str, Any], count: int) -> None:
    measured = measure_steps(make_parts(), StepPlan(warmup_steps=1, **plan))
    assert len(measured.step_seconds) == count


@pytest.mark.parametrize("schedule", [{}, {"training.schedule_by": "tokens", "training.max_tokens": 200}])
@pytest.mark.parametrize("name", ["linear", "cosine", "warmup_stable_decay"])
def test_every_schedule_goes_on(make_parts: MakeParts, name: str, schedule: dict[str, Any]) -> None:
    arguments = {"num_decay_steps": 2, "num_stable_steps": 1} if name == "warmup_stable_decay" else {}
    patch = {"training.lr_scheduler_type": name, "training.lr_scheduler_kwargs": arguments, "training.max_steps": 4}
    measured = measure_steps(make_parts({**patch, **schedule}), StepPlan(warmup_steps=1, steps=8, seconds=0.0))
    assert len(measured.step_seconds) == 8


def test_the_evidence_says_what_a_step_is_made_of(make_parts: MakeParts) -> None:
    parts = make_parts()
    measure_steps(parts, StepPlan(warmup_steps=1, steps=2, seconds=0.0))
    found = step_evidence(parts)
    assert found["num_operations"] > 100 and found["num_kernels"] == 0
    assert 0 < found["product_seconds"] < found["busy_seconds"]
    assert 0 < found["small_ratio"] <= 1
    assert found["operation_seconds"] < 1e-3 and found["copy_bytes_per_second"] > 1e6
    assert found["gradient_bytes"] == found["parameter_bytes"] == 4 * sum(p.numel() for p in parts.parameters)
    assert "all_reduce_seconds" not in found


def test_a_sleep_in_the_forward_pass_is_a_long_gap(make_parts: MakeParts) -> None:
    parts = make_parts()

    def asleep(*_: Any) -> None:
        time.sleep(0.03)

    hook = parts.objective.register_forward_pre_hook(asleep)
    found = step_evidence(parts)
    hook.remove()
    assert found["long_gap_seconds"] - found["optimizer_long_gap_seconds"] >= 0.02
    assert 0 < found["optimizer_busy_seconds"] < found["busy_seconds"]


GENERATOR = """
import random


def samples(seed):
    draw = random.Random(seed)
    while True:
        word = "".join(draw.choices("abcdef", k=4))
        yield f"{word} =", word
"""


@pytest.fixture
def generator_parts(make_parts: MakeParts, tmp_path: Path) -> Parts:
    (tmp_path / "own.py").write_text(GENERATOR, encoding="utf-8")
    task = {"name": "generator", "function": "own:samples", "max_eval_samples": 4}
    return make_parts({"task": task, "training.dataloader_num_workers": 2})


def test_workers_that_take_long_turns_are_measured_in_whole_rounds(generator_parts: Parts) -> None:
    parts = generator_parts
    assert steps_in_round(parts) == 2 * 64
    found = measure_training(parts, StepPlan(warmup_steps=1, steps=3, seconds=0.0))
    parts.source.close()
    assert len(found.step_seconds) == 1 and found.step_seconds[0] > 0 and not found.is_computed
    assert found.samples_per_step == parts.batch_size
    assert sum(found.seconds_by_part.values()) <= 1.01 * found.step_seconds[0]


@pytest.mark.parametrize("padding", ["longest", "bucketed"])
def test_rounds_that_take_too_long_are_computed_and_say_so(generator_parts: Parts, padding: Any) -> None:
    parts = generator_parts
    training = parts.config.training.model_copy(update={"padding": padding})
    parts.config = parts.config.model_copy(update={"training": training})
    found = measure_training(parts, StepPlan(warmup_steps=1, steps=3, seconds=0.0, enough_seconds=0.0))
    assert found.is_computed
    assert len(found.step_seconds) == 2 and found.warmup_seconds > 0
    assert found.samples_per_step == parts.batch_size
    assert parts.source.micro_batches(0, 1)[0]  # it goes on after that
    parts.source.close()


def test_other_workers_have_no_rounds(make_parts: MakeParts) -> None:
    assert steps_in_round(make_parts({"training.dataloader_num_workers": 2})) == 0
    assert steps_in_round(make_parts()) == 0


def test_the_number_format_is_that_of_the_products(make_parts: MakeParts) -> None:
    assert number_format(make_parts()) == "fp32"
    assert number_format(make_parts({"training.bf16": True})) == "bf16"
    assert matmul_flops(torch.device("cpu"), "fp32") > 1e6
