"""What the worker is told when its run goes on, and the signal that asks it to save in time."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder
from hotlap.worker import session as session_module
from hotlap.worker.session import Session

MakeRun = Callable[..., RunFolder]


def test_the_wall_clock_goes_on_where_it_stood(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module.time, "monotonic", lambda: 107.5)
    session = Session(make_run({}, {"launched_monotonic": 100.0, "wall_before_seconds": 20.0}))
    assert (session.wall_seconds, session.process_seconds) == (27.5, 7.5)


@pytest.mark.parametrize(
    ("command", "name"), [(None, None), ({"resume": ""}, None), ({"resume": "checkpoint-20"}, "checkpoint-20")]
)
def test_the_checkpoint_to_go_on_from(make_run: MakeRun, command: dict[str, str] | None, name: str | None) -> None:
    folder = make_run({}, command)
    assert Session(folder).resume == (folder.path / name if name else None)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Give the signals back to the test runner."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_batch_system_asks_in_time(make_run: MakeRun) -> None:
    session = Session(make_run())
    session.listen()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert session.interrupted_by == "SIGUSR1"


@pytest.mark.parametrize(
    ("rank", "is_launched", "is_first"), [("0", False, True), ("1", False, False), ("0", True, False)]
)
def test_of_several_processes_one_stands_for_the_run(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, rank: str, is_launched: bool, is_first: bool
) -> None:
    """The launcher has written who runs; without one, under the user's own torchrun, the first process does."""
    folder = make_run()
    before = {**process_identity(), "note": "torchrun"}
    if is_launched:
        folder.write("worker", before)
    monkeypatch.setenv("RANK", rank)
    Session(folder)
    if is_first:
        assert folder.read("worker") == process_identity()
    else:
        assert folder.read("worker") == (before if is_launched else None)
