"""The search for a batch size, without a clock; and putting everything back as it was."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hotlap.core.errors import ConfigError
from hotlap.train.batch_size import (
    BatchSizeChoice,
    BatchSizeTrial,
    MemoryLimit,
    accumulation_for,
    find_batch_size,
    is_out_of_memory,
    rows_per_step,
    smaller_batch,
    unchanged,
)

NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def speeds(table: dict[int, float], asked: list[int]) -> Callable[[int], tuple[float, int]]:
    """Measure by looking up; what is not in the table does not fit."""

    def measure(size: int) -> tuple[float, int]:
        asked.append(size)
        if size not in table:
            raise NO_MEMORY
        return table[size], 1000 * size

    return measure


def search(table: dict[int, float], total: int, world_size: int = 1) -> tuple[BatchSizeChoice, list[int]]:
    asked: list[int] = []
    return find_batch_size(speeds(table, asked), total, world_size), asked


def test_the_fastest_is_chosen_and_the_total_kept() -> None:
    choice, asked = search({1: 10, 2: 19, 4: 36, 8: 35, 16: 36.5, 32: 30, 64: 20}, 64)
    assert asked == [1, 2, 4, 8, 16, 32, 64]
    assert (choice.batch_size, choice.accumulation_steps) == (16, 4)
    assert choice.trials[1] == BatchSizeTrial(2, 19, 2000)
    assert len(choice.trials) == 7


def test_two_falls_in_a_row_are_enough() -> None:
    choice, asked = search({1: 10, 2: 9, 4: 8, 8: 100}, 8)
    assert asked == [1, 2, 4]
    assert (choice.batch_size, choice.accumulation_steps) == (1, 8)
    assert search({1: 10, 2: 9, 4: 9.5, 8: 9.4, 16: 9.3}, 32)[1] == [1, 2, 4, 8, 16]


def test_what_does_not_fit_ends_the_search() -> None:
    choice, asked = search({1: 10, 2: 19, 4: 36}, 64)
    assert asked == [1, 2, 4, 8]
    assert (choice.batch_size, choice.accumulation_steps) == (4, 16)
    with pytest.raises(torch.OutOfMemoryError):
        search({}, 64)


def test_other_errors_are_passed_on() -> None:
    def fail(size: int) -> tuple[float, int]:
        if size == 2:
            raise RuntimeError("shapes do not fit")
        return 1.0, 1

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        find_batch_size(fail, 8)


@pytest.mark.parametrize(
    ("total", "world_size", "sizes"),
    [(1, 1, [1]), (7, 1, [1, 7]), (24, 1, [1, 2, 4, 8, 24]), (30, 1, [1, 2, 5, 10, 30]), (32, 2, [1, 2, 4, 8, 16])],
)
def test_only_sizes_that_divide_the_share_are_tried(total: int, world_size: int, sizes: list[int]) -> None:
    choice, asked = search({size: float(size) for size in range(1, 99)}, total, world_size)
    assert asked == sizes
    assert choice.batch_size * choice.accumulation_steps * world_size == total


@pytest.mark.parametrize(("total", "world_size"), [(0, 1), (-4, 1), (9, 2)])
def test_a_total_that_does_not_spread_evenly_is_refused(total: int, world_size: int) -> None:
    with pytest.raises(
        ConfigError, match=f"total_batch_size is {total}, expected a positive multiple of the {world_size}"
    ):
        search({}, total, world_size)


@given(batch_size=st.integers(1, 300), accumulation_steps=st.integers(1, 40))
def test_a_smaller_batch_keeps_the_rows_of_a_step(batch_size: int, accumulation_steps: int) -> None:
    smaller = smaller_batch(batch_size, accumulation_steps)
    if batch_size == 1:
        assert smaller is None
        return
    assert smaller is not None
    assert smaller[0] * smaller[1] == batch_size * accumulation_steps
    assert smaller[0] <= batch_size // 2
    if batch_size % 2 == 0:
        assert smaller == (batch_size // 2, accumulation_steps * 2)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (NO_MEMORY, True),
        (MemoryError(), True),
        (np.exceptions.AxisError("axis"), False),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) == is_memory


def test_an_array_that_cannot_be_had_is_out_of_memory() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 60, dtype=np.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("has_trained", [False, True])
def test_everything_is_put_back_bit_by_bit(has_trained: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def train(steps: int) -> list[torch.Tensor]:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
        return [value.clone() for value in model.state_dict().values()]

    if has_trained:
        train(2)
    device = torch.device("cpu")
    with unchanged(model, optimizer, device):
        first = train(3)
        optimizer.param_groups[0]["lr"] = 9.0
        drawn = random.random(), np.random.random()
    assert all(p.grad is None for p in model.parameters())
    assert (random.random(), np.random.random()) == drawn
    with pytest.raises(RuntimeError, match="did not fit"), unchanged(model, optimizer, device):
        random.random()
        train(1)
        raise RuntimeError("did not fit")
    assert all(torch.equal(one, other) for one, other in zip(train(3), first, strict=True))


def limit(num_bytes: float, estimate: Callable[[int], int] | None = None) -> MemoryLimit:
    return MemoryLimit(num_bytes, "this machine", estimate)


def test_what_passes_the_share_of_memory_ends_the_search() -> None:
    asked: list[int] = []
    table = {1: 10.0, 2: 19.0, 4: 36.0, 8: 70.0, 16: 130.0}
    choice = find_batch_size(speeds(table, asked), 16, limit=limit(4500))
    assert asked == [1, 2, 4, 8]  # 8 rows were measured to need 8000
    assert (choice.batch_size, choice.accumulation_steps) == (4, 4)
    with pytest.raises(ConfigError, match=r"one row needs 1,000 bytes, more than training\.device_memory_ratio leaves"):
        find_batch_size(speeds(table, []), 16, limit=limit(999))


def test_an_estimate_keeps_sizes_from_being_tried() -> None:
    asked: list[int] = []

    def measure(size: int) -> tuple[float, None]:
        asked.append(size)
        return float(size), None

    choice = find_batch_size(measure, 16, limit=limit(4500, lambda size: 1000 * size))
    assert asked == [1, 2, 4] and choice.batch_size == 4
    asked.clear()
    assert find_batch_size(measure, 16, limit=limit(10, lambda size: 1000 * size)).batch_size == 1  # it may be wrong
    assert asked == [1]


@pytest.mark.parametrize(("tokens", "world_size", "rows"), [(524_288, 1, 512), (524_288, 8, 512), (1024, 1, 1)])
def test_a_batch_in_tokens_is_so_many_rows(tokens: int, world_size: int, rows: int) -> None:
    assert rows_per_step(tokens, 1024, 1020.0, world_size) == rows


@pytest.mark.parametrize(
    ("tokens", "longest", "mean", "world_size", "problem"),
    [
        (5000, 1024, 1024.0, 1, r"is 5,000, expected a multiple of 1,024 tokens a row .* near it: 4,096 and 5,120"),
        (3072, 1024, 1024.0, 2, r"times 2 device\(s\); near it: 2,048 and 4,096"),
        (100, 1024, 1024.0, 1, "near it: 1,024$"),
        (1024, 1024, 300.0, 1, "rows of one length, these have 300 tokens on average and 1024 at most"),
    ],
)
def test_a_batch_in_tokens_that_does_not_come_out_is_refused(
    tokens: int, longest: int, mean: float, world_size: int, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        rows_per_step(tokens, longest, mean, world_size)


def test_passes_follow_from_the_rows_of_a_step() -> None:
    assert accumulation_for(512, 16, 2) == 16
    with pytest.raises(
        ConfigError, match=r"comes to 512 rows, which 2 device\(s\) with per_device_train_batch_size 12"
    ):
        accumulation_for(512, 12, 2)
