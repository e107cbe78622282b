"""Text to shards of tokens by several processes, in a folder of the cache; what is there is never made again.

A stretch of text is one shard, whoever makes it, so neither the number of processes nor a kill on the way changes
anything of the result. The processes are started anew and need no torch; each reads from a pipe what to make, so that
it ends when the one that asks is gone, however that ended.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from hotlap.core.errors import HotlapError, RunFailedError, StorageError
from hotlap.core.files import read_json, write_json
from hotlap.core.processes import usable_cores
from hotlap.core.progress import Progress
from hotlap.data.shards import EndsOf, index_path, read_index, write_shard
from hotlap.data.tokenizers import Tokenizer, id_type
from hotlap.tasks.documents import CHUNK_BYTES, Chunk, TextSource

_ALONE_BYTES: Final = 2 * CHUNK_BYTES
"""Less text than this is prepared sooner than other processes have started."""
_JOIN_SECONDS: Final = 2.0
_COMPLETE: Final = "complete.json"
_LOCK: Final = "lock"

Numbered = tuple[int, Chunk]


@dataclass(frozen=True, slots=True)
class Job:
    """What shards are made with, and where."""

    folder: Path
    tokenizer: Tokenizer
    ends_of: EndsOf

    @property
    def itemsize(self) -> int:
        """Bytes of a token."""
        return int(id_type(self.tokenizer.vocab_size)().itemsize)


def num_shards(folder: Path) -> int | None:
    """Return how many shards a text has, None as long as they are not all there."""
    found = read_json(folder / _COMPLETE)
    return None if found is None else int(found["shards"])


def is_prepared(job: Job) -> bool:
    """Say whether all shards of a text are there."""
    count = num_shards(job.folder)
    return count is not None and all(read_index(job.folder, number, job.itemsize) for number in range(count))


def prepare_shards(text: TextSource, job: Job, num_workers: int | None, progress: Progress) -> int:
    """Make the shards of a text that are not there yet; return how many there are.

    Raises DataError for unusable text, StorageError when the cache cannot be written, RunFailedError when a process
    ends that prepares.
    """
    with _locked(job.folder):
        for left in job.folder.glob("*.tmp"):  # of processes that were killed: nobody else writes here now
            left.unlink(missing_ok=True)
        if is_prepared(job):  # by another, while this one waited
            return num_shards(job.folder) or 0
        (job.folder / _COMPLETE).unlink(missing_ok=True)
        counter = _Counter()
        todo = _missing(counter.count(text.chunks()), job, progress)
        _make(todo, job, num_workers or usable_cores(), progress)
        write_json(job.folder / _COMPLETE, {"shards": counter.number})
    return counter.number


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep others from preparing the same text; they wait, and then find it prepared."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        lock.acquire()
    except OSError as error:
        raise StorageError(f"cannot write in {folder}: {error.strerror or error}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()


class _Counter:
    """Numbers stretches as they come, and knows in the end how many they were."""

    def __init__(self) -> None:
        self.number = 0

    def count(self, chunks: Iterable[Chunk]) -> Iterator[Numbered]:
        for chunk in chunks:
            number, self.number = self.number, self.number + 1
            yield number, chunk


def _missing(chunks: Iterable[Numbered], job: Job, progress: Progress) -> Iterator[Numbered]:
    """Yield the stretches whose shards are not there."""
    for number, chunk in chunks:
        if index_path(job.folder, number).exists() and read_index(job.folder, number, job.itemsize) is not None:
            progress.advance(chunk.num_bytes, is_new=False)
        else:
            yield number, chunk


def _make(todo: Iterator[Numbered], job: Job, num_workers: int, progress: Progress) -> None:
    """Make shards, by several processes where there is enough to do."""
    first: list[Numbered] = []
    size = 0
    while size <= _ALONE_BYTES and (numbered := next(todo, None)) is not None:
        first.append(numbered)
        size += numbered[1].num_bytes
    if num_workers == 1 or size <= _ALONE_BYTES:
        for number, chunk in chain(first, todo):
            write_shard(job.folder, number, chunk.documents(), job.tokenizer, job.ends_of)
            progress.advance(chunk.num_bytes)
        return
    crew = _Crew(job, num_workers)
    try:
        for numbered in chain(first, todo):
            crew.hand_out(numbered, progress)
        crew.finish(progress)
    finally:
        crew.close()


class _Crew:
    """Processes that make shards, each one at a time; they are started as there is work for them."""

    def __init__(self, job: Job, most: int) -> None:
        self._job = job
        self._most = most
        self._idle: list[Connection] = []
        self._busy: dict[Connection, Chunk] = {}
        self._processes: list[SpawnProcess] = []

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, self._job), daemon=True)
        process.start()
        there.close()
        self._idle.append(here)
        self._processes.append(process)

    def hand_out(self, numbered: Numbered, progress: Progress) -> None:
        """Have a shard made by the next process that has nothing to do."""
        if not self._idle and len(self._processes) < self._most:
            self._start()
        elif not self._idle:
            self._wait(progress)
        connection = self._idle.pop(0)
        self._busy[connection] = numbered[1]
        with suppress(OSError):  # it has ended: `_wait` will tell
            connection.send(numbered)

    def finish(self, progress: Progress) -> None:
        """Wait for everything that was handed out."""
        while self._busy:
            self._wait(progress)

    def _wait(self, progress: Progress) -> None:
        """Wait until a shard is made, at least; raises what a process says that it failed with."""
        for connection in wait(list(self._busy)):
            assert isinstance(connection, Connection)
            chunk = self._busy.pop(connection)
            try:
                failure = connection.recv()
            except (EOFError, OSError) as error:
                raise RunFailedError(
                    "a process that prepared the text was ended from outside; too little memory is the usual cause: "
                    "lower task.preprocessing_num_workers. What it had finished is kept"
                ) from error
            if failure is not None:
                raise failure
            self._idle.append(connection)
            progress.advance(chunk.num_bytes)

    def close(self) -> None:
        """End the processes and wait for them."""
        for connection in [*self._idle, *self._busy]:
            connection.close()
        for process in self._processes:
            if self._busy:
                process.kill()  # what it is making is not wanted any more
            process.join(_JOIN_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def serve(orders: Connection, job: Job) -> None:
    """Make the shards that are asked for through the pipe, until it ends: what a process of a crew does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the one that asks is asked, too, and closes the pipe
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the cores already
    with orders, suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            numbered = orders.recv()
            orders.send(_failure_of(numbered, job))


def _failure_of(numbered: Numbered, job: Job) -> Exception | None:
    """Make a shard; return what went wrong, in a form that can be sent."""
    number, chunk = numbered
    try:
        write_shard(job.folder, number, chunk.documents(), job.tokenizer, job.ends_of)
    except HotlapError as error:
        return type(error)(str(error))
    except Exception:  # noqa: BLE001  a process's entry point: whatever it was is raised where it is seen
        return RuntimeError(traceback.format_exc())
    return None


def facts_key(*facts: Any) -> str:
    """Return what names prepared files by the facts that they were made from."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
