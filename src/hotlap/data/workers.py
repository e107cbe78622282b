"""Processes that make batches ahead of the training, in order.

They are started anew instead of forked: a fork of a process with torch's threads may hang. They import numpy only, so
each starts in a fraction of a second. A worker reads what to make from a pipe whose other end the training alone
holds, so however the training ends, a SIGKILL included, the pipe ends and the worker with it.
"""

import atexit
import multiprocessing
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from threading import Thread
from typing import Final, Protocol

from hotlap.core.errors import HotlapError, RunFailedError
from hotlap.data.arrays import BatchArrays
from hotlap.data.encoding import EncodedExample
from hotlap.data.word_arrays import WordArrays

_JOIN_SECONDS: Final = 2.0
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals to the process group that ask the training to save and end: it still needs batches for its last step."""
_PIPE_ENDS: Final = (EOFError, BrokenPipeError, ConnectionResetError)
"""What a pipe says when its other end is closed."""


class Maker(Protocol):
    """Makes batches by their numbers; it can be sent to another process."""

    @property
    def span(self) -> int:
        """Batches in a row that one worker should make, since they are drawn together."""

    @property
    def knows_all_targets(self) -> bool:
        """Whether the targets of all devices are known to each of them."""

    def prepare(self, first: int) -> None:
        """Do what can be done before batch `first` is asked for."""

    def rows_of(self, number: int) -> list[list[EncodedExample]]:
        """Return the examples in each of this device's rows of a batch."""

    def make(self, number: int) -> tuple[BatchArrays | WordArrays, int]:
        """Return this device's rows of a batch, and how many targets it has: on all devices, where they are known."""


class WorkerPool:
    """Workers that take turns: each makes as many batches in a row as belong together."""

    def __init__(self, maker: Maker, num_workers: int) -> None:
        self._span = maker.span
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        for _ in range(num_workers):
            here, there = context.Pipe()
            process = context.Process(target=serve, args=(there, maker), daemon=True)
            process.start()
            there.close()
            self._connections.append(here)
            self._processes.append(process)
        atexit.register(self.close)  # comes before multiprocessing's own, which would wait for them for ever

    def ask(self, number: int) -> None:
        """Ask for a batch, to be taken later."""
        with suppress(OSError):  # the worker has ended: `take` will tell
            self._connection(number).send(number)

    def take(self, number: int) -> tuple[BatchArrays | WordArrays, int]:
        """Return a batch that was asked for; those asked for before it and not taken are dropped.

        Raises RunFailedError when its worker has ended, and the error that kept the worker from making the batch.
        """
        try:
            while True:
                made, found, num_targets = self._connection(number).recv()
                if made == number and isinstance(found, HotlapError):
                    raise found
                if made == number:
                    return found, num_targets
        except (EOFError, OSError) as error:
            raise RunFailedError(
                f"a data worker ended before it made batch {number}; its error, if it had one, stands above. Too "
                "little memory is the usual cause: lower training.dataloader_num_workers (0 needs none)"
            ) from error

    def close(self) -> None:
        """End the workers and wait for them."""
        atexit.unregister(self.close)
        for connection in self._connections:
            connection.close()
        deadline = time.monotonic() + _JOIN_SECONDS  # of all together: each may have many batches left to make
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._connections, self._processes = [], []

    def _connection(self, number: int) -> Connection:
        return self._connections[number // self._span % len(self._connections)]


def serve(orders: Connection, maker: Maker) -> None:
    """Make the batches whose numbers come through the pipe, until it ends: what a worker does.

    What is made waits in this process until the training takes it, so a full pipe holds nothing up. After an error of
    the data nothing more is made.
    """
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    made: SimpleQueue[object] = SimpleQueue()
    sender = Thread(target=_send, args=(orders, made), daemon=True)
    sender.start()
    failure: HotlapError | None = None
    try:
        with suppress(*_PIPE_ENDS):
            while True:
                wanted = orders.recv()
                try:
                    made.put((wanted, *maker.make(wanted)) if failure is None else (wanted, failure, 0))
                except HotlapError as error:
                    failure = error
                    made.put((wanted, failure, 0))
    finally:
        made.put(None)
        sender.join()  # what was made before an error is still wanted
        orders.close()


def _send(results: Connection, made: "SimpleQueue[object]") -> None:
    """Send what is made, in order, until there is nothing more to come or nobody to take it."""
    with suppress(*_PIPE_ENDS):
        while (result := made.get()) is not None:
            results.send(result)
