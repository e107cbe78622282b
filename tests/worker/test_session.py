"""The worker's view of the world outside: identity, clock, limits, signals, driver."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from hotlap.core.processes import process_identity
from hotlap.core.run_folder import RunFolder
from hotlap.worker import session as session_module
from hotlap.worker.session import Session

MakeRun = Callable[..., RunFolder]


def test_the_first_act_is_to_say_who_runs(make_run: MakeRun) -> None:
    folder = make_run()
    Session(folder)
    assert folder.read("worker") == process_identity()
    assert folder.is_running()


def test_the_wall_clock_counts_from_the_launch(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module.time, "monotonic", lambda: 107.5)
    assert Session(make_run({}, {"launched_monotonic": 100.0})).wall_seconds == 7.5
    assert Session(make_run()).wall_seconds == 0  # started by hand


@pytest.fixture
def handlers() -> Iterator[None]:
    """Give the signals back to the test runner."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_is_noted_and_nothing_more(make_run: MakeRun, name: str) -> None:
    session = Session(make_run())
    session.listen()
    assert session.interrupted_by is None
    os.kill(os.getpid(), signal.Signals[name])
    assert session.interrupted_by == name


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("leads", [True, False])
def test_a_worker_ends_once_its_driver_is_gone_and_its_group_if_it_leads_one(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, leads: bool
) -> None:
    """A worker started by hand lives in the group of somebody's script, which goes on."""
    killed: list[tuple[str, int, int]] = []
    looks = iter([True, True, False])
    driver = {**process_identity(), "pid": 4_000_000}

    def is_alive(identity: dict[str, object]) -> bool:
        assert identity == driver
        assert not killed
        return next(looks)

    monkeypatch.setattr(session_module, "is_alive", is_alive)
    monkeypatch.setattr(session_module, "_WATCH_SECONDS", 0.0)
    own = os.getpid()
    monkeypatch.setattr(session_module.os, "getpgid", lambda _: own if leads else own + 1)
    monkeypatch.setattr(session_module.os, "killpg", lambda group, number: killed.append(("group", group, number)))
    monkeypatch.setattr(session_module.os, "kill", lambda pid, number: killed.append(("process", pid, number)))
    Session(make_run({}, {"driver": driver})).listen()
    deadline = time.monotonic() + 30
    while not killed:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.05)
    expected = [("group", own, signal.SIGKILL)] if leads else []
    assert killed == [*expected, ("process", own, signal.SIGKILL)]
