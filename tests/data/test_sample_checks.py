"""Sources that do what they should, and one of each kind that does not."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hotlap.data.checks import Check, checks
from hotlap.data.encoding import EncodedExample, Examples, Limits, end_to_end
from hotlap.data.loader import BatchSource
from hotlap.data.order import BatchOrder
from hotlap.data.streams import EndlessExamples, StreamOrder, StreamPart
from hotlap.data.tokenizers import ByteTokenizer
from hotlap.tasks.examples import Example, GeneratorTask, TaskData


def examples(count: int) -> Examples:
    return end_to_end(
        [EncodedExample(np.array([number, 7, number % 5, 9], dtype=np.uint8), 2) for number in range(count)]
    )


def finite(count: int = 20, **options: Any) -> list[Check]:
    train = examples(count)

    def make(rank: int, size: int, workers: int) -> BatchSource:
        order = BatchOrder(train.lengths, 4, 3, **options)
        return BatchSource(train, order, None, rank=rank, world_size=size, workers=workers)

    return checks(TaskData((), (), "here"), make, 0)


class Samples:
    """A function of a project's, by its `draw`."""

    def __init__(self, seeded: bool = True) -> None:
        self.seeded = seeded
        self.shared = random.Random(1)

    def draw(self, seed: int) -> Iterator[Example]:
        draw = random.Random(seed if self.seeded else 5)
        while True:
            yield Example(f"{draw.randrange(10**6)} =", "yes")


class Drifting(Samples):
    """One that draws from what all calls share."""

    def draw(self, seed: int) -> Iterator[Example]:
        while True:
            yield Example(f"{self.shared.randrange(10**6)} =", "yes")


def endless(samples: Any) -> list[Check]:
    pilot = (Example("123456 =", "yes"),)
    task = GeneratorTask(samples, pilot, (), (), "own:samples", "hash")
    part = StreamPart.of_generator("samples", 1.0, task, ByteTokenizer(), Limits(), frozenset())
    train = EndlessExamples((part,), "samples")

    def make(rank: int, size: int, workers: int) -> BatchSource:
        return BatchSource(train, StreamOrder(4, 3, "random"), None, rank=rank, world_size=size, workers=workers)

    return checks(task, make, 0)


def named(found: list[Check], word: str) -> Check:
    return next(check for check in found if word in check.name)


@pytest.mark.parametrize(
    "options", [{}, {"mode": "bucketed"}, {"mode": "packed", "row_length": 9}, {"drop_last": True}]
)
@pytest.mark.parametrize("count", [20, 23])
def test_finite_examples_pass(count: int, options: dict[str, Any]) -> None:
    found = finite(count, **options)
    assert not [check for check in found if check.passed is False], found
    assert named(found, "first samples").passed
    assert named(found, "devices").passed
    assert named(found, "workers").passed is None
    assert named(found, "heeds").passed is None


def test_what_fills_no_batch_is_told() -> None:
    assert "3 that fill no batch are left out" in named(finite(23, drop_last=True), "epoch").text
    assert "6 batches hold each of 23 examples once, 1 of them once more" in named(finite(23), "epoch").text


def test_batches_of_like_length_are_looked_at_by_the_bucket() -> None:
    assert (
        "64 batches hold each of 20 examples 12 times, 16 of them once more"
        in named(finite(20, mode="bucketed"), "epoch").text
    )


def test_an_epoch_that_repeats_or_misses_examples_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchOrder, "_epoch", lambda self, epoch: np.zeros(len(self._lengths), dtype=np.int64))
    check = named(finite(), "epoch")
    assert check.passed is False
    assert "19 of 20 examples come less than once" in check.text


def test_a_generator_passes() -> None:
    found = endless(Samples())
    assert [check.passed for check in found] == [True, None, True, True, None]
    assert "100% of 64 samples" in named(found, "heeds").text


def test_a_generator_that_does_not_heed_its_seed_is_found() -> None:
    check = named(endless(Samples(seeded=False)), "heeds")
    assert check.passed is False
    assert "own:samples yields the same samples for 8 different seeds" in check.text


def test_a_generator_that_draws_from_elsewhere_is_found() -> None:
    assert named(endless(Drifting()), "first samples").passed is False
