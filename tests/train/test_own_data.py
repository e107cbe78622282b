"""Data of a project's own: what is measured of them, and what is wrong with them."""

import os
from pathlib import Path

import pytest

from hotlap.core.errors import ConfigError, DataError
from hotlap.train.own_data import own_loader, own_source
from hotlap.train.own_data_checks import own_checks

# Its own remark on machines with fewer cores; the tests run on one each.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
CODE = """
import os
import random
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, get_worker_info


class Naive(IterableDataset):
    def __iter__(self):
        for number in range(60):
            yield {"x": torch.tensor([number]), "y": np.array([number])}


class Split(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        yield from range(first, 60, step)


class Lossy(Split):
    def __iter__(self):
        info = get_worker_info()
        return iter(range(60)) if info is None else iter(range(info.id, 30, info.num_workers))


class Table(Dataset):
    def __len__(self):
        return 30

    def __getitem__(self, place):
        return [place, "word"]


def seeded(seed):
    draw = random.Random(seed)
    while True:
        yield draw.random()


def unseeded():
    while True:
        yield random.random()


def loader():
    return DataLoader(Table(), batch_size=3)


def two_workers():
    return DataLoader(Split(), batch_size=7, num_workers=2)


def repeating_workers():
    return DataLoader(Naive(), batch_size=7, num_workers=2)


class Ready(IterableDataset):
    def __iter__(self):
        for number in range(20):
            yield {"x": torch.full((5, 2), number), "name": "batch"}


def ready():
    return DataLoader(Ready(), batch_size=None)


def sampled():
    return DataLoader(Table(), batch_size=3, sampler=DistributedSampler(Table(), num_replicas=2, rank=0))


def sampled_alone():
    return DataLoader(Table(), batch_size=3, sampler=DistributedSampler(Table(), num_replicas=1, rank=0))


def ranked(rank, world_size):
    return list(range(rank, 61, world_size))


def ranked_in_vain(rank, world_size, seed):
    return seeded(seed)


def ranked_lossy(rank, world_size):
    return list(range(rank, 60 // world_size, world_size))


def by_variables():
    return range(int(os.environ.get("RANK", 0)), 60, int(os.environ.get("WORLD_SIZE", 1)))


def joining():
    if "RANK" in os.environ:
        raise ValueError("nobody is there")
    return range(60)


def failing():
    yield 1
    raise ValueError("no more\\nthan this")


naive, split, lossy, table, empty, number = Naive, Split, Lossy, Table, list, lambda: 7
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("naive", "an IterableDataset"),
        ("table", "a data set of 30 samples"),
        ("seeded", "an iterable, which each worker makes anew (called with a seed)"),
        ("loader", "a DataLoader of its own with 0 worker(s); --workers and --batch-size do not change it"),
        ("ranked", "an iterable, which each worker makes anew (called with its rank)"),
    ],
)
def test_any_kind_of_data_is_measured(project: Path, name: str, kind: str) -> None:
    own = own_source(project, f"mine:{name}", 3)
    assert own.kind == kind
    found = own_loader(own, 0, 4, 0.01)
    assert found["workers"] == 0
    assert found["samples_per_second"] > 0


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("naive", [True, False, True, None]),
        ("split", [True, True, True, None]),
        ("lossy", [True, True, False, None]),
        ("table", [True, True, True, None]),
        ("loader", [True, None, None]),
        ("two_workers", [True, True, True, None]),
        ("repeating_workers", [True, False, True, None]),
    ],
)
def test_workers_and_epochs_are_checked(project: Path, name: str, passed: list[bool]) -> None:
    found = own_checks(own_source(project, f"mine:{name}", 3), 2, 4)
    assert [check.passed for check in found] == passed, found


def test_workers_that_repeat_are_told_what_to_do(project: Path) -> None:
    check = own_checks(own_source(project, "mine:naive", 3), 2, 4)[1]
    assert "60 of 120 samples of 2 workers come again" in check.text
    assert "get_worker_info" in check.text


@pytest.mark.parametrize(
    ("name", "passed", "text"),
    [
        ("ranked", True, "61 samples of 2 devices hold no more repetitions than one"),
        ("ranked_in_vain", False, "samples of 2 devices come again; take every world_size-th one"),
        ("ranked_lossy", False, "30 of 60 samples come on none of 2 devices"),
        ("by_variables", True, "60 samples of 2 devices"),
        ("joining", None, "not known: RANK and WORLD_SIZE change nothing"),
        ("naive", None, "give the function rank and world_size, and it is looked at"),
        ("table", None, "the script's sampler shares a data set out"),
        ("sampled", True, "30 samples of 2 devices"),
        ("sampled_alone", None, "made for one device"),
    ],
)
def test_devices_are_compared_where_the_function_can_be_asked(
    project: Path, name: str, passed: bool | None, text: str
) -> None:
    check = own_checks(own_source(project, f"mine:{name}", 3), 0, 4)[-1]
    assert check.name == "devices do not repeat samples"
    assert (check.passed, text in check.text) == (passed, True), check.text
    assert "RANK" not in os.environ


@pytest.mark.parametrize(
    ("name", "counts"),
    [("loader", [3] * 10), ("two_workers", [7, 7, 7, 7, 7, 7, 7, 7, 2, 2]), ("ready", [5] * 20), ("naive", [4] * 15)],
)
def test_samples_are_counted_and_not_batches(project: Path, name: str, counts: list[int]) -> None:
    own = own_source(project, f"mine:{name}", 3)
    assert sorted(own.counts(0, 4), reverse=True) == sorted(counts, reverse=True)


def test_samples_that_differ_between_calls_are_found(project: Path) -> None:
    first, *_ = own_checks(own_source(project, "mine:unseeded", 3), 0, 4)
    assert first.passed is False
    assert "sample 0 is another one" in first.text
    first, *_ = own_checks(own_source(project, "mine:seeded", 3), 0, 4)
    assert first.passed


def test_what_cannot_be_measured_is_told(project: Path) -> None:
    with pytest.raises(DataError, match="mine:failing: ValueError: than this"):
        own_loader(own_source(project, "mine:failing", 0), 0, 4, 0.01)
    with pytest.raises(DataError, match="mine:empty gives no sample"):
        own_loader(own_source(project, "mine:empty", 0), 0, 4, 0.01)
    with pytest.raises(DataError, match="mine:number returned int; expected a torch Dataset"):
        own_source(project, "mine:number", 0)
    with pytest.raises(ConfigError, match="no function nothing"):
        own_source(project, "mine:nothing", 0)
