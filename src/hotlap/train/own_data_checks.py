"""Whether the data of a project's own script are the samples that its training should get.

own_checks(own_source(directory, "module:function", seed=0), workers=2, batch_size=32)
"""

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from hotlap.core.errors import DataError
from hotlap.data.checks import Check
from hotlap.train.own_data import OwnSource

_COMPARED: Final = 64  # samples that calls with one seed have to have in common
_MOST_SAMPLES: Final = 10_000  # of an epoch that are looked at
_MOST_OF_DEVICE: Final = 2_000  # samples of each device that are compared
_TOLERATED: Final = 20  # one sample of so many may come again: what fills the last batch of a device up
_DEVICES: Final = 2


def own_checks(own: OwnSource, workers: int, batch_size: int) -> list[Check]:
    """Return what was found: whether calls repeat, and whether workers, epochs and devices hold what they should.

    `workers` are those of the comparison; a DataLoader of the project's own has its own number.
    """
    return [_repeats(own, batch_size), *_shared(own, workers, batch_size), _ranks(own, batch_size)]


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
    workers = workers if own.own_workers is None else own.own_workers
    if not workers:
        yield Check(name, None, "there are no workers to compare with one process")
        return
    alone = list(map(_key, islice(own.samples(0, batch_size), _MOST_SAMPLES)))
    is_all = len(alone) < _MOST_SAMPLES
    wanted = workers * len(alone) + 1 if is_all else len(alone)
    together = list(map(_key, islice(own.samples(workers, batch_size), wanted)))
    repeated = _num_repeated(together) - _num_repeated(alone)
    if repeated > len(together) // _TOLERATED:
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


def _ranks(own: OwnSource, batch_size: int) -> Check:
    """Compare the samples of two devices with those of one, where the function can be asked for a device's."""
    name = "devices do not repeat samples"
    data = own.data()
    sampler = data.sampler if isinstance(data, DataLoader) else None
    if isinstance(sampler, DistributedSampler) and not own.takes_ranks:
        if sampler.num_replicas < _DEVICES:
            return Check(name, None, "its DistributedSampler is made for one device, so nothing could be compared")
        return _of_sampler(name, sampler)
    ask = "give the function rank and world_size, and it is looked at"
    source = data.dataset if isinstance(data, DataLoader) else data
    if not own.takes_ranks and isinstance(source, Dataset) and not isinstance(source, IterableDataset):
        return Check(name, None, f"not known: the script's sampler shares a data set out, not the function; {ask}")
    if not own.takes_ranks and not _heeds_variables(own, batch_size):
        told = f"not known: RANK and WORLD_SIZE change nothing, so each of {_DEVICES} devices makes all samples"
        return Check(name, None, f"{told} unless the script shares them out; {ask}")
    shares = [_share(own, batch_size, rank, _MOST_OF_DEVICE) for rank in range(_DEVICES)]
    is_all = all(len(share) < _MOST_OF_DEVICE for share in shares)
    most = _DEVICES * _MOST_OF_DEVICE if is_all else sum(map(len, shares))
    alone = list(map(_key, islice(own.samples(0, batch_size), most)))
    return _compared(name, shares, alone)


def _of_sampler(name: str, sampler: "DistributedSampler[Any]") -> Check:
    """Compare the places that a sampler gives each device."""
    shares = []
    for rank in range(sampler.num_replicas):
        one = copy.copy(sampler)
        one.rank = rank
        shares.append(list(islice(one, _MOST_OF_DEVICE)))
    size = len(sampler.dataset)  # type: ignore[arg-type]
    return _compared(name, shares, range(size) if size < _MOST_OF_DEVICE else ())


def _heeds_variables(own: OwnSource, batch_size: int) -> bool:
    """Say whether a function that takes no rank makes other samples on another device; where it fails, it is not known.

    It fails where it would join the other devices, of which there are none here.
    """
    try:
        first, second = (_share(own, batch_size, rank, _COMPARED) for rank in range(_DEVICES))
    except DataError:
        return False
    return first != second


def _share(own: OwnSource, batch_size: int, rank: int, most: int) -> list[Any]:
    """Return the first samples of one of the devices."""
    with nullcontext() if own.takes_ranks else _as_device(rank):
        return list(map(_key, islice(own.samples(0, batch_size, rank, _DEVICES), most)))


@contextmanager
def _as_device(rank: int) -> Iterator[None]:
    """Have the variables that torchrun sets say which device this is."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": _DEVICES, "LOCAL_WORLD_SIZE": _DEVICES}
    before = dict(os.environ)
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ.pop("MASTER_ADDR", None)  # nobody is there to be joined
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _compared(name: str, shares: Sequence[Sequence[Any]], alone: Sequence[Any]) -> Check:
    together = [sample for share in shares for sample in share]
    repeated = _num_repeated(together) - _num_repeated(alone)
    if repeated > max(len(shares), len(together) // _TOLERATED):
        text = f"{repeated:,} of {len(together):,} samples of {len(shares)} devices come again; take every "
        return Check(name, False, f"{text}world_size-th one from the rank-th on, or draw from a seed of the rank's own")
    missing = len(set(alone) - set(together)) if all(len(share) < _MOST_OF_DEVICE for share in shares) else 0
    if missing > max(len(shares), len(alone) // _TOLERATED):
        return Check(name, False, f"{missing:,} of {len(alone):,} samples come on none of {len(shares)} devices")
    text = f"{len(together):,} samples of {len(shares)} devices hold no more repetitions than one"
    return Check(name, True, text)


def _num_repeated(samples: Sequence[Any]) -> int:
    return len(samples) - len(set(samples))


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
