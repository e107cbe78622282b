"""Data of a project's own script: what `module:function` returns, in torch's DataLoader as the script would have it.

The function is called without arguments, or with `seed`, and with `rank` and `world_size`, where it takes them. It
returns a torch data set (one of random access or an IterableDataset), a DataLoader, or anything to iterate over, such
as a generator; of the latter each worker calls it anew, since an iterator cannot be handed to another process.
"""

import copy
import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hotlap.core.errors import DataError
from hotlap.train.custom import load_part

_RANK_NAMES: Final = (("rank", "world_size"), ("rank", "num_replicas"), ("process_index", "num_processes"))
"""What a function may call the number of a device and how many there are."""


@dataclass(frozen=True, slots=True)
class OwnSource:
    """A function of the project's that makes data."""

    part: str
    kind: str
    """What it returns, for people."""
    make: Callable[[int, int], Any]
    """Calls it for a device, and how many there are; one that does not take these is called alike for all."""
    takes_ranks: bool = False
    own_workers: int | None = None
    """Worker processes of the DataLoader that it returns; None where it returns none."""

    def data(self, rank: int = 0, size: int = 1) -> Any:
        """Return what the function returns, called anew; raises DataError when it fails."""
        try:
            return self.make(rank, size)
        except Exception as error:  # whatever the project's code raises
            raise DataError(f"{self.part}: {type(error).__name__}: {error}") from error

    def counts(self, workers: int, batch_size: int) -> Iterator[int]:
        """Yield how many samples each batch has, made as the script has it; raises DataError when its code fails.

        A DataLoader of the project's own has its own workers and batches.
        """
        loader = self._loader(workers, batch_size, 0, 1)
        if self.own_workers is not None and loader.batch_sampler is not None:
            loader.collate_fn = _Counted(loader.collate_fn)
        return (_num_rows(batch, self.own_workers is None) for batch in self._batches(loader))

    def samples(self, workers: int, batch_size: int, rank: int = 0, size: int = 1) -> Iterator[Any]:
        """Yield samples one by one, as they are before a batch is made of them.

        Raises DataError when the project's code fails. What a DataLoader gives that makes no batches itself counts as
        one sample, whatever it holds.
        """
        loader = self._loader(workers, batch_size, rank, size)
        loader.num_workers = workers
        if workers == 0:
            loader.timeout = 0
        if loader.batch_sampler is None:
            return self._batches(loader)
        loader.collate_fn = _as_list
        return chain.from_iterable(self._batches(loader))

    def _loader(self, workers: int, batch_size: int, rank: int, size: int) -> "DataLoader[Any]":
        """Return a loader of lists of samples, or a copy of the project's own."""
        data = self.data(rank, size)
        if isinstance(data, DataLoader):
            loader = copy.copy(data)
            loader._iterator = None  # persistent workers would still make what the original asked for
            return loader
        if not isinstance(data, Dataset):
            data = _Calls(partial(self.make, rank, size))
        options: dict[str, Any] = {"num_workers": workers, "collate_fn": _as_list, "batch_size": batch_size}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # more workers than cores are what is to be measured
            return DataLoader(data, **options)

    def _batches(self, loader: "DataLoader[Any]") -> Iterator[Any]:
        try:
            yield from loader
        except Exception as error:  # whatever the project's code raises
            said = str(error).strip().splitlines() or ["it says no more"]
            raise DataError(f"{self.part}: {type(error).__name__}: {said[-1]}") from error


class _Calls(IterableDataset[Any]):
    """What an iterable amounts to in a DataLoader: each worker calls the function and gets all of it."""

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return iter(self._make())


class _Batch(NamedTuple):
    """What a loader of the project's own makes of some samples, and how many they were."""

    num_samples: int
    made: Any


class _Counted:
    """A function that makes a batch of samples, and counts them; it can be sent to another process."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self._collate = collate

    def __call__(self, samples: Any) -> _Batch:
        return _Batch(len(samples), self._collate(samples))


def _as_list(samples: list[Any]) -> list[Any]:
    return samples


def _num_rows(batch: Any, is_list: bool) -> int:
    """Return the samples of a batch; of one that a data set made by itself, the rows of its first tensor."""
    if isinstance(batch, _Batch):
        return batch.num_samples
    if is_list:
        return len(batch)
    first = batch
    while isinstance(first, Mapping | list | tuple) and first:
        first = next(iter(first.values())) if isinstance(first, Mapping) else first[0]
    return len(first) if isinstance(first, torch.Tensor | np.ndarray) and first.ndim else 1


def own_source(directory: Path, part: str, seed: int) -> OwnSource:
    """Return the source that a function of the project's is.

    Raises ConfigError when there is none, DataError when it fails or returns nothing to iterate over.
    """
    function = load_part(directory, part)
    try:
        taken = {*inspect.signature(function).parameters}
    except ValueError:  # some that are built in do not tell
        taken = set[str]()
    ranks = next((names for names in _RANK_NAMES if taken >= {*names}), ())

    def make(rank: int, size: int) -> Any:
        torch.manual_seed(seed)  # as a script seeds at its start
        np.random.seed(seed % 2**32)
        given = {"seed": seed} if "seed" in taken else {}
        return function(**given, **dict(zip(ranks, (rank, size), strict=False)))

    data = OwnSource(part, "", make).data()
    own_workers = None
    if isinstance(data, DataLoader):
        own_workers = data.num_workers
        kind = f"a DataLoader of its own with {own_workers} worker(s); --workers and --batch-size do not change it"
    elif isinstance(data, IterableDataset):
        kind = "an IterableDataset"
    elif isinstance(data, Dataset):
        kind = f"a data set of {len(data):,} samples"  # type: ignore[arg-type]
    elif isinstance(data, Iterable):
        kind = "an iterable, which each worker makes anew"
    else:
        raise DataError(f"{part} returned {type(data).__name__}; expected a torch Dataset, a DataLoader or an iterable")
    with_what = " and ".join([*(["a seed"] if "seed" in taken else []), *(["its rank"] if ranks else [])])
    return OwnSource(part, kind + (f" (called with {with_what})" if with_what else ""), make, bool(ranks), own_workers)


def own_loader(own: OwnSource, workers: int, batch_size: int, seconds: float) -> dict[str, Any]:
    """Return how fast samples come with so many workers: of `Loader` what is known without a training."""
    start = time.perf_counter()
    counts = own.counts(workers, batch_size)
    if not next(counts, 0):
        raise DataError(f"{own.part} gives no sample")
    startup, count = time.perf_counter() - start, 0
    start, elapsed = time.perf_counter(), 0.0
    while elapsed < seconds:
        taken = next(counts, 0)
        count, elapsed = count + taken, time.perf_counter() - start
        if not taken:
            counts = own.counts(workers, batch_size)  # another epoch
    return {"workers": workers, "startup_seconds": startup, "samples_per_second": count / elapsed}
