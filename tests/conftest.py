"""Shared by all tests: a project folder, and an environment that does not depend on who runs them, or beside whom."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_WHOLE_MACHINE: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
"""The cores that this process may use."""

# Before any package counts the cores: each worker of pytest-xdist keeps to its share of them, so that what one trains
# is neither slowed down nor seen as noise by all others. Two workers a core share it: that one of them may wait.
_WORKER: Final = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
_NUM_WORKERS: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKERS_PER_CORE: Final = 2  # a test that starts processes waits for half of its time
_MOST_SHARING: Final = 8  # with more workers than these nobody shares a core: each collects all tests first
if _NUM_WORKERS > 1 and _WHOLE_MACHINE:
    os.sched_setaffinity(0, _WHOLE_MACHINE[int(_WORKER[2:]) % len(_WHOLE_MACHINE) :: _NUM_WORKERS])

# pytest rewrites the assertions of 350 files, which takes each worker ten seconds: they are kept for the next time.
# Once the tests run it is as before: a project's own files, changed within a second, must not be taken for older ones.
_WRITES_NO_BYTECODE: Final = sys.dont_write_bytecode
sys.dont_write_bytecode = False

from hotlap.core.study_folder import ProjectFolder  # noqa: E402  counts no cores itself, but what it loads may


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Return how many workers `-n logical` means here; None: as many as pytest-xdist says."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    num_cores = len(_WHOLE_MACHINE)
    return max(num_cores, min(_WORKERS_PER_CORE * num_cores, _MOST_SHARING)) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each worker as many files with slow tests, before all others: what is left for the end is quick.

    pytest-xdist cuts the list into as many parts as there are workers; who is done takes from the end of another's.
    """
    if _NUM_WORKERS == 1:
        return
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    slow = [file for file in files.values() if any(item.get_closest_marker("slow") for item in file)]
    quick = [file for file in files.values() if file not in slow]
    shares = [[item for file in slow[number::_NUM_WORKERS] for item in file] for number in range(_NUM_WORKERS)]
    for share in shares:
        while quick and len(share) < len(items) / _NUM_WORKERS:
            share += quick.pop(0)
    items[:] = [item for file in [*shares, *quick] for item in file]


def pytest_collection_finish() -> None:
    """Write no compiled files from here on, where that was asked for."""
    sys.dont_write_bytecode = _WRITES_NO_BYTECODE


@pytest.fixture(scope="session", autouse=True)
def own_device_locks() -> Iterator[None]:
    """Keep the locks of the devices apart from those of real runs, and of other workers."""
    folder, before = tempfile.mkdtemp(prefix="hotlap-tests-"), os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = folder
    yield
    os.environ.pop("XDG_RUNTIME_DIR")
    if before is not None:
        os.environ["XDG_RUNTIME_DIR"] = before
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def whole_machine() -> Iterator[None]:
    """Let a test use every core: it needs two."""
    if not _WHOLE_MACHINE:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _WHOLE_MACHINE)
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the variables that change what commands print."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PAGER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    """Return an empty project."""
    return ProjectFolder(tmp_path).create()


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no other program's load spoil a study's runs, nor another test's lock hold them up."""
    from hotlap.study import runner

    monkeypatch.setattr(runner, "contamination", lambda *_: "")
    locks = tmp_path / "locks"
    locks.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(locks))
