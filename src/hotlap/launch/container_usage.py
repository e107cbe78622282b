"""What a run's containers use of the machine: their processes are no children of the run, so they are asked by id.

The kernel's own books (cgroups, version 1 or 2) are read where they are visible, else `docker stats` is asked in the
background; where neither answers, the figures are unknown and the reason is told.
"""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hotlap.core.containers import container_ids, container_program

CGROUPS: Final = Path("/sys/fs/cgroup")
ASK_SECONDS: Final = 5.0
"""Between two answers of `docker stats`, each of which takes it about two."""
_PATIENCE_SECONDS: Final = 20.0
_DEPTH: Final = 8
_LOOKS: Final = 3
"""So often a container's books are looked for: they are opened a moment after it has got its id."""
_FORMAT: Final = "{{.ID}}\t{{.CPUPerc}}\t{{.MemUsage}}"
_SIZE: Final = re.compile(r"([\d.]+)\s*([kKMGT]?)(i?)B")
_POWERS: Final = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True, slots=True)
class Usage:
    """What the containers of a run have used since the last reading."""

    seconds: float = 0.0
    """Of CPU time."""
    memory_bytes: int = 0
    pids: frozenset[int] = frozenset()
    """Their processes, as far as they are known: they need not be counted again."""
    how: str = ""
    """What was read; empty without containers."""
    problem: str = ""
    """Why the figures are unknown, empty where they are known."""


class ContainerReader:
    """Reads what the containers use whose ids lie in a run's folder."""

    def __init__(
        self, directory: Path, cgroups: Path = CGROUPS, ask: "Callable[[Sequence[str]], Answer] | None" = None
    ) -> None:
        self._directory = directory
        self._cgroups = cgroups
        self._books: dict[str, list[Path]] = {}
        self._looks: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._asked = Asked(ask or ask_engine)

    def read(self, elapsed_seconds: float) -> Usage:
        """Return what was used in the time since the last reading."""
        ids = container_ids(self._directory)
        if not ids:
            return Usage()
        seconds, memory, pids, others = 0.0, 0, set[int](), list[str]()
        for identity in ids:
            books = self._books_of(identity)
            used = _used(books) if books else None
            if used is None:
                others.append(identity)
                continue
            now, size = used
            seconds += max(0.0, now - self._seconds.get(identity, 0.0))
            self._seconds[identity] = now
            memory += size
            pids |= _pids(books)
        unread = [identity for identity in others if identity not in self._seconds]  # those that were have ended
        if not unread:
            return Usage(seconds, memory, frozenset(pids), "cgroup")
        if any(self._looks[identity] < _LOOKS for identity in unread):
            return Usage(how="unknown", problem="the books of its containers are being looked for")
        answer = self._asked.answer(unread)
        if answer.problem:
            return Usage(how="unknown", problem=answer.problem)
        seconds += answer.cores * elapsed_seconds
        return Usage(seconds, memory + answer.memory_bytes, frozenset(pids), "stats")

    def _books_of(self, identity: str) -> list[Path]:
        """Return the folders of a container's books, empty where they are not visible."""
        if not self._books.get(identity) and self._looks.get(identity, 0) < _LOOKS:
            self._looks[identity] = self._looks.get(identity, 0) + 1
            self._books[identity] = _folders(self._cgroups, identity)
        return self._books.get(identity, [])


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine says of some containers together."""

    cores: float = 0.0
    memory_bytes: int = 0
    problem: str = ""


@dataclass(slots=True)
class Asked:
    """Asks an engine in the background, and holds its last answer."""

    ask: Callable[[Sequence[str]], Answer]
    _last: Answer = field(default_factory=lambda: Answer(problem="docker stats has not answered yet"))
    _thread: threading.Thread | None = None
    _asked_at: float = float("-inf")

    def answer(self, ids: Sequence[str]) -> Answer:
        """Return the last answer, and see to the next one."""
        is_busy = self._thread is not None and self._thread.is_alive()
        if not is_busy and time.monotonic() - self._asked_at >= ASK_SECONDS:
            self._asked_at = time.monotonic()
            self._thread = threading.Thread(target=self._run, args=(tuple(ids),), name="containers", daemon=True)
            self._thread.start()
        return self._last

    def _run(self, ids: Sequence[str]) -> None:
        self._last = self.ask(ids)


def ask_engine(ids: Sequence[str]) -> Answer:
    """Ask `docker stats`, or that of podman or nerdctl; containers that have ended use nothing."""
    program = container_program()
    if program is None:
        return Answer(problem="the cgroups of its containers are not visible and there is no docker to ask")
    name = Path(program).name
    try:
        argv = [program, "stats", "--no-stream", "--format", _FORMAT, *ids]
        ended = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or f"no answer within {_PATIENCE_SECONDS:.0f} s"
        return Answer(problem=f"the cgroups of its containers are not visible, and {name} stats: {why}")
    if ended.returncode and "no such container" not in ended.stderr.lower():
        said = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1][:200]
        return Answer(problem=f"the cgroups of its containers are not visible, and {name} stats: {said}")
    return _parsed(ended.stdout, name)


def _parsed(text: str, name: str) -> Answer:
    cores, memory = 0.0, 0
    for line in filter(str.strip, text.splitlines()):
        parts = line.split("\t")
        if len(parts) == 3 and parts[1].strip() == "--":
            continue  # it does not run
        size = _SIZE.match(parts[2].strip()) if len(parts) == 3 else None
        try:
            cores += float(parts[1].strip().rstrip("%")) / 100
        except (IndexError, ValueError):
            size = None
        if size is None:
            return Answer(problem=f"{name} stats says {line.strip()[:100]!r}, which is no share of CPU and no memory")
        memory += int(float(size[1]) * (1024 if size[3] else 1000) ** _POWERS[size[2]])
    return Answer(cores, memory)


def _folders(root: Path, identity: str) -> list[Path]:
    """Return the control groups of a container, one for each controller in version 1."""
    found = []
    for folder, names, _ in os.walk(root):
        place = Path(folder)
        mine = [name for name in names if identity in name]
        found += [place / name for name in mine]
        is_deep = len(place.relative_to(root).parts) >= _DEPTH
        names[:] = [] if is_deep else [name for name in names if name not in mine]
    return found


def _used(books: Sequence[Path]) -> tuple[float, int] | None:
    """Return CPU seconds so far and bytes of memory without the file cache; None where they cannot be read."""
    seconds = memory = None
    for folder in books:
        if (usage := _fields(folder / "cpu.stat").get("usage_usec")) is not None:
            seconds = usage / 1e6
        elif (usage := _number(folder / "cpuacct.usage")) is not None:
            seconds = usage / 1e9
        for name, cache in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
            if (size := _number(folder / name)) is not None:
                memory = max(0, size - _fields(folder / "memory.stat").get(cache, 0))
    return None if seconds is None or memory is None else (seconds, memory)


def _fields(path: Path) -> Mapping[str, int]:
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _pids(books: Sequence[Path]) -> set[int]:
    found = set[int]()
    for folder in books:
        for path in folder.rglob("cgroup.procs"):
            try:
                found |= {int(word) for word in path.read_text().split()}
            except (OSError, ValueError):
                continue
    return found
