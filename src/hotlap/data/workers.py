"""Processes that make batches ahead of the training, in order.

They are started anew instead of forked: a fork of a process with torch's threads may hang. They import numpy only, so
each starts in a fraction of a second. A worker reads what to make from a pipe whose other end the training alone
holds, so however the training ends, a SIGKILL included, the pipe ends and the worker with it.
"""

import atexit
import multiprocessing
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final

from hotlap.core.errors import RunFailedError
from hotlap.data.arrays import BatchArrays, BatchMaker

_JOIN_SECONDS: Final = 2.0
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals to the process group that ask the training to save and end: it still needs batches for its last step."""


class WorkerPool:
    """Workers that take turns: batch `number` is made by worker `number` modulo their count."""

    def __init__(self, maker: BatchMaker, num_workers: int) -> None:
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

    def take(self, number: int) -> tuple[BatchArrays, int]:
        """Return a batch that was asked for; those asked for before it and not taken are dropped.

        Raises RunFailedError when its worker has ended.
        """
        try:
            while True:
                made, arrays, num_targets = self._connection(number).recv()
                if made == number:
                    return arrays, num_targets
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
        for process in self._processes:
            process.join(_JOIN_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        self._connections, self._processes = [], []

    def _connection(self, number: int) -> Connection:
        return self._connections[number % len(self._connections)]


def serve(orders: Connection, maker: BatchMaker) -> None:
    """Make the batches whose numbers come through the pipe, until it ends: what a worker does."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with orders, suppress(EOFError, BrokenPipeError, ConnectionResetError):  # what a pipe says when it ends
        while True:
            wanted = orders.recv()
            orders.send((wanted, *maker.make(wanted)))
