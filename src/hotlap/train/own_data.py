"""Data of a project's own script: what `module:function` returns, in torch's DataLoader as the script would have it.

The function is called without arguments, or with `seed` where it takes one. It returns a torch data set (one of random
access or an IterableDataset), a DataLoader, or anything to iterate over, such as a generator; of the latter each worker
calls it anew, since an iterator cannot be handed to another process.
"""

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hotlap.core.errors import DataError
from hotlap.data.checks import Check
from hotlap.train.custom import load_part

_COMPARED: Final = 64  # samples that calls with one seed have to have in common
_MOST_SAMPLES: Final = 10_000  # of an epoch that are looked at


@dataclass(frozen=True, slots=True)
class OwnSource:
    """A function of the project's that makes data."""

    part: str
    kind: str
    """What it returns, for people."""
    make: Callable[[], Any]

    def data(self) -> Any:
        """Return what the function returns, called anew; raises DataError when it fails."""
        try:
            return self.make()
        except Exception as error:  # whatever the project's code raises
            raise DataError(f"{self.part}: {type(error).__name__}: {error}") from error

    def loader(self, workers: int, batch_size: int) -> "DataLoader[Any]":
        """Return a loader of lists of samples; one of the project's own stays as it is."""
        data = self.data()
        if isinstance(data, DataLoader):
            return data
        if not isinstance(data, Dataset):
            data = _Calls(self.make)
        options: dict[str, Any] = {"num_workers": workers, "collate_fn": _as_list, "batch_size": batch_size}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # more workers than cores are what is to be measured
            return DataLoader(data, **options)

    def samples(self, workers: int, batch_size: int) -> Iterator[Any]:
        """Yield samples one by one; raises DataError when the project's code fails."""
        loader = self.loader(workers, batch_size)
        is_own = isinstance(self.data(), DataLoader)
        try:
            for batch in loader:
                yield from [batch] if is_own else batch
        except Exception as error:  # whatever the project's code raises
            raise DataError(f"{self.part}: {type(error).__name__}: {str(error).strip().splitlines()[-1]}") from error


class _Calls(IterableDataset[Any]):
    """What an iterable amounts to in a DataLoader: each worker calls the function and gets all of it."""

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return iter(self._make())


def _as_list(samples: list[Any]) -> list[Any]:
    return samples


def own_source(directory: Path, part: str, seed: int) -> OwnSource:
    """Return the source that a function of the project's is.

    Raises ConfigError when there is none, DataError when it fails or returns nothing to iterate over.
    """
    function = load_part(directory, part)
    try:
        takes_seed = "seed" in inspect.signature(function).parameters
    except ValueError:  # some that are built in do not tell
        takes_seed = False

    def make() -> Any:
        torch.manual_seed(seed)  # as a script seeds at its start
        np.random.seed(seed % 2**32)
        return function(seed=seed) if takes_seed else function()

    data = OwnSource(part, "", make).data()
    if isinstance(data, DataLoader):
        kind = f"a DataLoader of its own with {data.num_workers} worker(s); --workers does not change it"
    elif isinstance(data, IterableDataset):
        kind = "an IterableDataset"
    elif isinstance(data, Dataset):
        kind = f"a data set of {len(data):,} samples"  # type: ignore[arg-type]
    elif isinstance(data, Iterable):
        kind = "an iterable, which each worker makes anew"
    else:
        raise DataError(f"{part} returned {type(data).__name__}; expected a torch Dataset, a DataLoader or an iterable")
    return OwnSource(part, kind + (" (called with a seed)" if takes_seed else ""), make)


def own_loader(own: OwnSource, workers: int, batch_size: int, seconds: float) -> dict[str, Any]:
    """Return how fast samples come with so many workers: of `Loader` what is known without a training."""
    start = time.perf_counter()
    samples = own.samples(workers, batch_size)
    count = sum(1 for _ in islice(samples, batch_size))
    if not count:
        raise DataError(f"{own.part} gives no sample")
    startup, count = time.perf_counter() - start, 0
    start, elapsed = time.perf_counter(), 0.0
    while elapsed < seconds:
        taken = sum(1 for _ in islice(samples, batch_size))
        count, elapsed = count + taken, time.perf_counter() - start
        if not taken:
            samples = own.samples(workers, batch_size)  # another epoch
    return {"workers": workers, "startup_seconds": startup, "samples_per_second": count / elapsed}


def own_checks(own: OwnSource, workers: int, batch_size: int) -> list[Check]:
    """Return what was found: whether calls repeat, and whether workers and epochs hold what one process does."""
    return [_repeats(own, batch_size), *_shared(own, workers, batch_size)]


def _repeats(own: OwnSource, batch_size: int) -> Check:
    name = "the same first samples for a seed"
    first, second = (list(map(_key, islice(own.samples(0, batch_size), _COMPARED))) for _ in range(2))
    if first == second:
        return Check(name, True, f"{len(first)} samples of two calls are the same")
    where = next((place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
    return Check(
        name, False, f"sample {where} is another one in the second call; seed every generator that it draws from"
    )


def _shared(own: OwnSource, workers: int, batch_size: int) -> Iterator[Check]:
    """Compare an epoch of several workers with one of a single process, or its beginning where it is long."""
    name, whole = "workers do not repeat samples", "an epoch covers every sample"
    if not workers or isinstance(own.data(), DataLoader):
        yield Check(name, None, "only one way of making the samples was looked at")
        return
    alone = list(map(_key, islice(own.samples(0, batch_size), _MOST_SAMPLES)))
    is_all = len(alone) < _MOST_SAMPLES
    wanted = workers * len(alone) + 1 if is_all else len(alone)
    together = list(map(_key, islice(own.samples(workers, batch_size), wanted)))
    repeated = len(together) - len(set(together)) - (len(alone) - len(set(alone)))
    if repeated > len(together) // 20:
        yield Check(
            name,
            False,
            f"{repeated:,} of {len(together):,} samples of {workers} workers come again: each makes all of them; "
            "take every n-th one by torch.utils.data.get_worker_info(), or draw from a seed of the worker's own",
        )
    else:
        yield Check(
            name, True, f"{len(together):,} samples of {workers} workers hold no more repetitions than one process"
        )
    if not is_all:
        yield Check(whole, None, f"it has more than {_MOST_SAMPLES:,} samples, or no end")
        return
    missing = len(set(alone) - set(together))
    if missing or len(together) < len(alone):
        yield Check(whole, False, f"{missing:,} of {len(alone):,} samples do not come with {workers} workers")
    else:
        yield Check(whole, True, f"all {len(alone):,} samples come with {workers} workers")


def _key(value: Any) -> Any:
    """Return what tells a sample from others: its content, whatever it is made of."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes())
    if isinstance(value, dict):
        return tuple((str(key), _key(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    return value if isinstance(value, str | bytes | int | float | bool | None) else repr(value)
