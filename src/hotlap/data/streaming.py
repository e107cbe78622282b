"""Training on a text that is still being prepared: shards of windows that come one after the other.

A process beside the training prepares the shards in order. The batches are a pure function of the seed, the batch's
number and the shards' sizes, however late a shard comes, so a resumed training goes on exactly. Windows are shuffled
within their shard, the shards stay in order; a document that comes again is left out of its own shard only.
"""

import atexit
import multiprocessing
import os
import signal
import threading
import time
import traceback
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotlap.core.errors import DataError, HotlapError, RunFailedError, StorageError
from hotlap.core.processes import usable_cores
from hotlap.core.progress import Progress
from hotlap.data.corpus import RECIPE, chosen_windows, is_in, job_for, prepare_all, shard_indexes, windows_of
from hotlap.data.encoding import Examples
from hotlap.data.order import BatchOrder, OrderMode
from hotlap.data.preparation import Job, facts_key, is_prepared, num_shards, prepare_shards
from hotlap.data.shards import EVAL_SHARE, ShardIndex, read_index, tokens_path
from hotlap.data.tokenizers import Tokenizer, id_type
from hotlap.tasks.documents import TextSource
from hotlap.tasks.examples import TextTask, TokenShards, TokenTask, TokenWindows

_POLL_SECONDS: Final = 0.02
_NICENESS: Final = 10
"""The training goes first on a core that both want."""
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals to the process group that ask the training to save and end."""

Numbers = NDArray[np.int64]


def stream_corpus(task: TextTask, tokenizer: Tokenizer, cache: Path) -> TokenTask:
    """Return the windows of a text as far as they are prepared, once there is enough to evaluate on.

    The others come through `stream`. Raises DataError for unusable or too little text, StorageError when the cache
    cannot be written, RunFailedError when the process ends that prepares.
    """
    job = job_for(task.text, tokenizer, cache, "held_out" if task.validation is None else "none")
    known: NDArray[np.uint64] | None = None
    validation: Job | None = None
    if task.validation is not None:
        validation = job_for(task.validation, tokenizer, cache, "all")
        prepare_all(task.validation, validation, task.num_workers)
        known = np.unique(np.concatenate([index.hashes for index in shard_indexes(validation)]))
    stream = ShardStream(task.text, job, task.block_size, task.num_workers, known)
    held = _HeldOut(stream.tokens if validation is None else TokenShards(stream.tokens.dtype), task.block_size)
    if validation is None:
        wanted = 2 * task.max_eval_samples
        while held.count < wanted and (index := stream.take()) is not None:
            held.add(index, index.hashes % np.uint64(EVAL_SHARE) == 0)
    else:
        for number, index in enumerate(shard_indexes(validation)):
            held.tokens.append(tokens_path(validation.folder, number), index.num_tokens)
            held.add(index, np.ones(len(index.lengths), dtype=np.bool_))
    stream.reach(0)
    if not held.count or not len(stream.examples):
        raise DataError(
            f"the corpus is too small to be streamed: {len(stream.examples)} window(s) to learn from, {held.count} to "
            "be evaluated on; give more text, or leave task.streaming out"
        )
    evaluation, unseen = chosen_windows(held.count, task.max_eval_samples)
    facts = [task.text.identity, task.validation.identity if task.validation else None, tokenizer.hash]
    return TokenTask(
        train=TokenWindows(stream.tokens, stream.examples.starts, stream.examples.lengths),
        eval=held.windows(evaluation),
        source=task.source,
        hash=facts_key(RECIPE, *facts, task.block_size, task.max_eval_samples, "streaming"),
        audit=held.windows(unseen) if len(unseen) else None,
        documents={"held_out": held.num_documents},
        stream=stream,
    )


class _HeldOut:
    """Windows to evaluate on, as they come."""

    def __init__(self, tokens: TokenShards, block_size: int) -> None:
        self.tokens = tokens
        self._block_size = block_size
        self._parts: list[tuple[Numbers, Numbers, Numbers | None]] = []
        self.count = self.num_documents = self._before = 0

    def add(self, index: ShardIndex, is_held: NDArray[np.bool_]) -> None:
        """Add the windows of some documents of a shard, each of which has its ends or none has."""
        is_held = is_held & _is_first(index.hashes)
        lengths = index.lengths.astype(np.int64)
        begin = np.cumsum(lengths) - lengths
        ends_begin = np.cumsum(np.where(index.has_ends, lengths, 0)) - lengths
        starts, sizes = windows_of(begin[is_held], lengths[is_held], self._block_size)
        num_bytes = None
        if len(index.ends):
            first, _ = windows_of(ends_begin[is_held], lengths[is_held], self._block_size)
            num_bytes = index.ends[first + sizes - 1].astype(np.int64) - index.ends[first]
        self._parts.append((starts + self._before, sizes, num_bytes))
        self.count += len(starts)
        self.num_documents += int(is_held.sum())
        self._before += index.num_tokens

    def windows(self, chosen: Numbers) -> TokenWindows:
        """Return some of the windows."""
        starts, lengths = (np.concatenate([part[place] for part in self._parts])[chosen] for place in (0, 1))
        sizes = [part[2] for part in self._parts if part[2] is not None]
        return TokenWindows(self.tokens, starts, lengths, num_bytes=np.concatenate(sizes)[chosen] if sizes else None)


def _is_first(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Say of each document whether none before it is alike."""
    found = np.zeros(len(hashes), dtype=np.bool_)
    found[np.unique(hashes, return_index=True)[1]] = True
    return found


class ShardStream:
    """The windows to train on, shard by shard; what is not there yet is waited for.

    Sent to another process it goes on there by itself, but starts no preparation.
    """

    def __init__(
        self, text: TextSource, job: Job, block_size: int, num_workers: int | None, known: NDArray[np.uint64] | None
    ) -> None:
        """Set up a stream; `known` are the ascending hashes of what is evaluated on, None: one document in fifty."""
        self._text, self._job, self._block_size, self._known = text, job, block_size, known
        self._num_workers = num_workers or max(1, usable_cores() // 2)
        self.tokens = TokenShards(id_type(job.tokenizer.vocab_size))
        none = np.zeros(0, dtype=np.int64)
        self.examples = Examples(self.tokens, none, none, none)
        self.examples.stream = self
        self.longest = block_size + 1
        """Tokens of the longest window that may come."""
        self.ends: list[int] = []
        """Windows up to the end of each shard."""
        self.is_all = False
        """Whether there are no more shards."""
        self._may_prepare = os.environ.get("LOCAL_RANK", "0") == "0"
        self._parent: int | None = None
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": None, "_pipe": None, "_may_prepare": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.examples.stream = self
        self._parent = os.getppid()

    def reach(self, window: int) -> None:
        """Wait until a window is there, or there are no more shards; raises what preparing them fails with."""
        while not self.is_all and (not self.ends or self.ends[-1] <= window):
            self.take()

    def take(self) -> ShardIndex | None:
        """Wait for the next shard, add its windows, and return its index; None when there are no more."""
        number = len(self.ends)
        index = self._next(number)
        if index is None:
            self.is_all = True
            return None
        lengths = index.lengths.astype(np.int64)
        begin = np.cumsum(lengths) - lengths + len(self.tokens)
        is_held = index.hashes % np.uint64(EVAL_SHARE) == 0 if self._known is None else is_in(index.hashes, self._known)
        is_kept = _is_first(index.hashes) & ~is_held
        self.tokens.append(tokens_path(self._job.folder, number), index.num_tokens)
        self.examples.append(*windows_of(begin[is_kept], lengths[is_kept], self._block_size))
        self.ends.append(len(self.examples))
        return index

    def _next(self, number: int) -> ShardIndex | None:
        while True:
            count = num_shards(self._job.folder)
            index = read_index(self._job.folder, number, self._job.itemsize)
            if index is not None or (count is not None and number >= count):
                return index
            if self._may_prepare:
                self._keep_preparing(has_ended=count is not None)
            elif self._parent is not None and os.getppid() != self._parent:
                raise RunFailedError("the training that this process made batches for is gone")
            time.sleep(_POLL_SECONDS)

    def _keep_preparing(self, *, has_ended: bool) -> None:
        """Start the process that prepares unless it runs; raise what it failed with."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, there = context.Pipe()
            arguments = (there, self._text, self._job, self._num_workers)
            self._process = context.Process(target=prepare_ahead, args=arguments)
            self._process.start()
            there.close()
            atexit.register(self.close)  # comes before multiprocessing's own, which would wait for it
        elif self._pipe is not None and self._pipe.poll():
            try:
                failure = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise RunFailedError(
                    "the process that prepared the text beside the training was ended from outside; too little memory "
                    "is the usual cause: lower task.preprocessing_num_workers. What it had finished is kept"
                ) from error
            self.close()
            if failure is not None:
                raise failure
            if has_ended:
                raise StorageError(f"{self._job.folder}: a shard is missing though all were made; delete the folder")

    def close(self) -> None:
        """End the process that prepares; a later wait would start it again."""
        atexit.unregister(self.close)
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def prepare_ahead(pipe: Connection, text: TextSource, job: Job, num_workers: int) -> None:
    """Prepare a text and send None or what went wrong: what the process beside a training does."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    with suppress(OSError):
        os.nice(_NICENESS)
    failure: Exception | None = None
    try:
        if not is_prepared(job):
            prepare_shards(text, job, num_workers, Progress(None, None))
    except HotlapError as error:
        failure = type(error)(str(error))
    except Exception:  # noqa: BLE001  a process's entry point: whatever it was is raised where it is seen
        failure = RuntimeError(traceback.format_exc())
    with suppress(OSError):
        pipe.send(failure)


def _end_with(pipe: Connection) -> None:
    """End this process once the other end of the pipe is gone: nobody waits for the shards any more."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os._exit(1)


class ShardOrder:
    """Which windows stand in which row of every batch: the shards in order, each shuffled; then from the first again.

    Epochs and shards follow each other without a gap.
    """

    def __init__(self, stream: ShardStream, batch_size: int, seed: int, mode: OrderMode) -> None:
        """Set up the order of batches of `batch_size` rows, over all devices; `mode` is random or sequential."""
        self.batch_size = batch_size
        self.mode = mode
        self._stream = stream
        self._seed = seed
        self._kept: tuple[tuple[int, int], Numbers] | None = None

    def wait_for(self, first: int, count: int) -> None:
        """Wait until the windows of so many batches are there."""
        self._stream.reach((first + count) * self.batch_size - 1)

    def rows(self, number: int) -> list[Numbers]:
        """Return the window of each row of batch `number`, from 0."""
        return list(np.concatenate(list(self._places(number * self.batch_size, self.batch_size))).reshape(-1, 1))

    def _places(self, start: int, count: int) -> Iterator[Numbers]:
        """Yield `count` windows from place `start` of the endless stream, in parts."""
        while count:
            self._stream.reach(start)
            ends = self._stream.ends
            epoch, place = divmod(start, ends[-1]) if self._stream.is_all else (0, start)
            shard = bisect_right(ends, place)
            first = ends[shard - 1] if shard else 0
            part = self._shuffled(epoch, shard, ends[shard] - first)[place - first : place - first + count] + first
            yield part
            start, count = start + len(part), count - len(part)

    def _shuffled(self, epoch: int, shard: int, size: int) -> Numbers:
        if self.mode == "sequential":
            return np.arange(size)
        if self._kept is None or self._kept[0] != (epoch, shard):
            order = np.random.default_rng([self._seed, 3, epoch, shard]).permutation(size)
            self._kept = (epoch, shard), order
        return self._kept[1]

    def batches_per_epoch(self, epoch: int = 0) -> int:
        """Return how many batches the windows are that are there so far."""
        return max(1, -(-self._stream.ends[-1] // self.batch_size))

    def close(self) -> None:
        """End the preparation."""
        self._stream.close()


def order_of(
    examples: Examples, batch_size: int, seed: int, mode: OrderMode, *, row_length: int, drop_last: bool
) -> BatchOrder | ShardOrder:
    """Return the order of examples in batches of `batch_size` rows, whether all are there or more come."""
    if examples.stream is not None:
        return ShardOrder(examples.stream, batch_size, seed, mode)
    return BatchOrder(examples.sizes, batch_size, seed, mode=mode, row_length=row_length, drop_last=drop_last)
