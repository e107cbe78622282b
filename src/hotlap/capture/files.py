"""Files that a command writes metrics to: JSON lines, tables, logs, trainer_state.json, TensorBoard's events.

What a file holds when it is opened here is of an earlier run. Only what comes after it is read, or all of a file that
was written anew.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from hotlap.capture.dicts import from_mapping, parse_json
from hotlap.capture.events import EventFiles
from hotlap.capture.lines import LineReader
from hotlap.capture.printed import Digits, Number
from hotlap.capture.reading import Found
from hotlap.capture.scan import SETTLE_SECONDS, Scanner
from hotlap.capture.tables import Table
from hotlap.core.logged import STEP, UNIX_SECONDS
from hotlap.core.trainer_names import metric_name

STATE_NAME: Final = "trainer_state.json"
_READ_BYTES: Final = 1 << 20
_MAX_STATE_BYTES: Final = 1 << 28
_MAX_ENTRIES: Final = 5_000
"""Names that are looked at in the search for a trainer_state.json."""
_MAX_DEPTH: Final = 4
_LOSS_DECIMALS: Final = 4


class Source(Protocol):
    """A file or folder that is followed."""

    @property
    def problems(self) -> list[str]:
        """What could not be read, a sentence each."""
        ...

    def read(self) -> list[Found]:
        """Return what has been added since the last call."""
        ...


def open_source(path: Path) -> Source:
    """Return the source that a path stands for, by its name; a folder may hold the Trainer's or TensorBoard's files.

    It need not be there yet.
    """
    if path.name == STATE_NAME:
        return StateFiles(path)
    match path.suffix.lower():
        case ".json":
            return JsonFile(path)
        case ".jsonl" | ".ndjson":
            digits = Digits()
            return LineFile(path, lambda line: parse_json(line, digits, path.name))
        case ".csv" | ".tsv":
            table = Table(Digits(), source=path.name, is_certain=True)
            return LineFile(path, table.read)
        case ".log" | ".txt" | ".out" | ".err":
            return LogFile(path)
    if ".tfevents." in path.name:
        return EventFiles(path)
    return Folder(path)


def logged_file(path: Path) -> "LineFile":
    """Return the source of what `hotlap.log` writes: every figure has all of its digits, and its time."""
    return LineFile(path, _logged_line)


def _logged_line(line: str) -> Found | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    step, seconds = values.pop(STEP, None), values.pop(UNIX_SECONDS, None)
    found = from_mapping(values, None, "log")
    if found is None:
        return None
    found.is_last_word = True
    found.step = step if isinstance(step, int) else found.step
    found.unix_seconds = float(seconds) if isinstance(seconds, int | float) else None
    return found


class LineFile:
    """A file that grows by lines."""

    def __init__(self, path: Path, parse: Callable[[str], Found | None]) -> None:
        self.problems: list[str] = []
        self._path = path
        self._parse = parse
        self._lines = LineReader()
        self._identity, self._offset = _size_of(path)
        self._is_behind = self._offset > 0  # its first lines, such as the names of a table, are still to be read

    def read(self) -> list[Found]:
        """Return what has been added since the last call."""
        return [found for line in self.lines() if (found := self._parse(line)) is not None]

    def lines(self) -> Iterator[str]:
        """Yield the lines that have been added since the last call."""
        identity, size = _size_of(self._path)
        if identity != self._identity or size < self._offset:  # it was written anew
            self._identity, self._offset, self._lines, self._is_behind = identity, 0, LineReader(), False
        if size <= self._offset:
            return
        try:
            with self._path.open("rb") as file:
                if self._is_behind:
                    self._is_behind = False
                    for line in LineReader().feed(file.read(min(self._offset, _READ_BYTES))):
                        self._parse(line)
                file.seek(self._offset)
                while data := file.read(_READ_BYTES):
                    self._offset += len(data)
                    yield from self._lines.feed(data)
        except OSError as error:
            _note(self.problems, f"{self._path}: cannot be read: {error.strerror or error}")


class JsonFile:
    """A file that is one JSON object or a list of them, written anew whenever there is something new."""

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self._path = path
        self._seen = _stamp(path)
        self._digits = Digits()

    def read(self) -> list[Found]:
        """Return what it holds, if it has changed since the last call."""
        stamp = _stamp(self._path)
        if stamp is None or stamp == self._seen:
            return []
        try:
            values = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return []  # it is being written
        self._seen = stamp
        objects = [each for each in (values if isinstance(values, list) else [values]) if isinstance(each, dict)]
        found = [from_mapping(each, self._digits, self._path.name) for each in objects]
        return [each for each in found if each is not None]


class LogFile:
    """A file with log lines in any form that is known."""

    def __init__(self, path: Path) -> None:
        self._scanner = Scanner()
        self._file = LineFile(path, lambda line: None)
        self._now = 0.0

    @property
    def problems(self) -> list[str]:
        """What could not be read."""
        return self._file.problems

    def read(self) -> list[Found]:
        """Return what has been added since the last call; a block that stands last waits for the next one."""
        sightings = []
        for line in self._file.lines():
            sightings += self._scanner.feed(line, self._now)
        self._now += 2 * SETTLE_SECONDS
        sightings += self._scanner.settle(self._now)
        return [each.found for each in sightings]


class StateFiles:
    """The Trainer's state: one file, or those of the checkpoints in a folder; each holds the whole history."""

    def __init__(self, path: Path, files: Sequence[Path] = ()) -> None:
        """Follow a state or a folder; what `files` hold is read in its place, also if it is there already."""
        self.problems: list[str] = []
        self._path = path
        self._more = tuple(files)
        self._seen = {file: _stamp(file) for file in self._files() if file not in self._more}
        self._told: set[tuple[int, frozenset[str]]] = set()

    def read(self) -> list[Found]:
        """Return what has been added since the last call."""
        found = []
        for file in self._files():
            stamp = _stamp(file)
            if stamp is None or self._seen.get(file) == stamp:
                continue
            entries = self._history(file)
            if entries is not None:
                self._seen[file] = stamp
                found += [each for entry in entries if (each := self._entry(entry)) is not None]
        return sorted(found, key=lambda each: each.step or 0)

    def _files(self) -> list[Path]:
        if self._more or self._path.name == STATE_NAME:
            return list(self._more or (self._path,))
        return [self._path / STATE_NAME, *sorted(self._path.glob(f"checkpoint-*/{STATE_NAME}"))]

    def _history(self, file: Path) -> list[Any] | None:
        """Return the log of a state; None for one that is being written."""
        try:
            if file.stat().st_size > _MAX_STATE_BYTES:
                _note(self.problems, f"{file}: larger than {_MAX_STATE_BYTES >> 20} MiB, so it is not read")
                return []
            state = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        history = state.get("log_history") if isinstance(state, dict) else None
        if not isinstance(history, list):
            _note(self.problems, f"{file}: no state of the Trainer: expected an object with a list log_history")
            return []
        return history

    def _entry(self, entry: Any) -> Found | None:
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            return None
        found = from_mapping(entry, None, STATE_NAME)
        key = entry["step"], frozenset(entry)
        if found is None or key in self._told:
            return None
        self._told.add(key)
        numbers = {metric_name(name): number for name, number in found.numbers.items()}
        loss = numbers.get("train_loss")
        if loss is not None and round(loss.value, _LOSS_DECIMALS) == loss.value:  # transformers 4 rounds it before
            numbers["train_loss"] = Number(loss.value, _LOSS_DECIMALS)
        found.numbers = numbers
        return found


class Folder:
    """A folder of the Trainer's, of TensorBoard's, or of both."""

    def __init__(self, path: Path) -> None:
        self._sources: tuple[Source, ...] = (StateFiles(path), EventFiles(path))

    @property
    def problems(self) -> list[str]:
        """What could not be read."""
        return [problem for source in self._sources for problem in source.problems]

    def read(self) -> list[Found]:
        """Return what has been added since the last call."""
        return [found for source in self._sources for found in source.read()]


def changed_states(directory: Path) -> Callable[[], list[Source]]:
    """Return a function that finds each trainer_state.json in a folder that has changed by the time of the call.

    The states of the checkpoints tell the same again, so they are one source.
    """
    before = {file: _stamp(file) for file in _states_below(directory)}

    def changed() -> list[Source]:
        files = [file for file in _states_below(directory) if before.get(file) != _stamp(file)]
        return [StateFiles(directory, files)] if files else []

    return changed


def _states_below(directory: Path) -> list[Path]:
    """Return the states in a folder and the ones below it, within limits on depth and number of names."""
    return [Path(path) for path in islice(_walk(directory), _MAX_ENTRIES) if path.endswith(STATE_NAME)]


def _walk(directory: Path) -> Iterator[str]:
    waiting = [(str(directory), 0)]
    while waiting:
        folder, depth = waiting.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            yield entry.path
            if depth < _MAX_DEPTH and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, depth + 1))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def _size_of(path: Path) -> tuple[int | None, int]:
    try:
        facts = path.stat()
    except OSError:
        return None, 0
    return facts.st_ino, facts.st_size


def _note(problems: list[str], problem: str) -> None:
    if problem not in problems and len(problems) < 100:
        problems.append(problem)
