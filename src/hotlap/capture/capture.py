"""From the lines of somebody else's log, and the files that it writes metrics to, to readings.

capture = Capture(config.command.model_dump(), directory)     # before the command is started
for reading in capture.feed_all(lines, at_seconds): ...
for reading in capture.poll(at_seconds, reader.tail): ...     # now and then: files, and what needed another moment
for reading in capture.end(at_seconds): ...                   # after the last line
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hotlap.capture.files import Source, changed_states, logged_file, open_source
from hotlap.capture.ledger import Ledger
from hotlap.capture.patterns import Patterns
from hotlap.capture.printed import Digits
from hotlap.capture.reading import Reading
from hotlap.capture.scan import FORMATS, Scanner, Sighting
from hotlap.core.errors import unknown_name

POLL_SECONDS: Final = 0.25
"""Longest time between two looks at the files that a config names; that of `hotlap.log` is looked at every time."""


class Capture:
    """Reads one command's output; it remembers what a line leaves open, such as the step of a block."""

    def __init__(self, settings: Mapping[str, Any], directory: Path = Path()) -> None:
        """Take the settings of a `command` section, and the folder that its paths start from.

        Of `metrics_file` it reads what `hotlap.log` writes. What the files hold already is of an earlier run and not
        read. Raises ConfigError for an expression, a form of lines or a kind of file that there is none of.
        """
        formats = tuple(settings.get("formats") or ("auto",))
        for name in formats:
            if name not in (*FORMATS, "auto"):
                raise unknown_name("format of log lines", name, ["auto", *FORMATS])
        self._directory = directory
        self._patterns = Patterns(settings.get("metrics") or {})
        self._scanner = Scanner(formats, Digits())
        self._ledger = Ledger(settings.get("clock_key"), self._patterns.names)
        self._sources: list[Source] = [open_source(directory / path) for path in settings.get("read") or ()]
        logged = settings.get("metrics_file")
        self._logged = logged_file(directory / logged) if logged else None
        self._states = changed_states(directory) if not self._sources else None
        self._has_trainer = False
        self._next_look = 0.0

    @property
    def problems(self) -> list[str]:
        """What could not be read, a sentence each."""
        return [problem for source in self._all_sources() for problem in source.problems]

    def feed(self, line: str, at_seconds: float) -> list[Reading]:
        """Return what a line says; it carries no line end. `at_seconds` is when it arrived, on the wall clock."""
        sightings = self._scanner.feed(line, at_seconds)
        if not self._patterns.is_empty and (found := self._patterns.find(line)):
            sightings = [Sighting(found, None, at_seconds), *sightings]
        return self._readings(sightings) if sightings else []

    def feed_all(self, lines: Sequence[str], at_seconds: float) -> Iterator[Reading]:
        """Yield what lines say that have come together: the same as `feed` of each of them, in less time."""
        if not self._patterns.is_empty:
            for line in lines:
                yield from self.feed(line, at_seconds)
            return
        place, next_of = -1, self._scanner.next_of
        while (place := next_of(lines, place + 1)) < len(lines):
            yield from self._readings(self._scanner.feed(lines[place], at_seconds))

    def poll(self, at_seconds: float, tail: str = "") -> list[Reading]:
        """Return what the files have said since the last call, and lines that needed others behind them.

        `tail` is the line that has no end yet: a progress bar in it tells the step of a dict that was just printed.
        """
        readings = self._readings(self._scanner.look(tail, at_seconds))
        sources: list[Source] = [self._logged] if self._logged is not None else []
        if at_seconds >= self._next_look:
            self._next_look = at_seconds + POLL_SECONDS
            sources += self._sources
        return readings + self._told(sources)

    def end(self, at_seconds: float) -> list[Reading]:
        """Return the rest, once the command has ended: `trainer_state.json` in its folder is looked for as well."""
        readings = self._readings(self._scanner.end()) + self._told(self._all_sources())
        if self._states is not None and self._has_trainer:
            readings += self._told(self._states())
        return readings

    def _all_sources(self) -> list[Source]:
        return [*([self._logged] if self._logged is not None else []), *self._sources]

    def _readings(self, sightings: Iterable[Sighting]) -> list[Reading]:
        readings = []
        for each in sightings:
            self._has_trainer = self._has_trainer or each.found.source == "trainer"
            if reading := self._ledger.reading(each.found, each.rank, each.at_seconds):
                readings.append(reading)
        return readings

    def _told(self, sources: Iterable[Source]) -> list[Reading]:
        told = (self._ledger.reading(found, None, None) for source in sources for found in source.read())
        return [reading for reading in told if reading is not None]
