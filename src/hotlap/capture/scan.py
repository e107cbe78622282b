"""From lines to what they hold, in every form that hotlap knows.

Most lines of a log hold no metric and are passed over after a few looks. The others are read by one form after the
other; what a line leaves open, a block or the step of a dict, is kept until the lines after it have settled it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hotlap.capture import blocks
from hotlap.capture.bars import Bar, Bars, parse_bar
from hotlap.capture.blocks import Block
from hotlap.capture.dicts import parse_json, parse_python_dict
from hotlap.capture.phrases import may_be_spaced, parse_modded_nanogpt, parse_nanochat, parse_nanogpt, parse_pairs
from hotlap.capture.printed import Digits, Number
from hotlap.capture.ranks import split_rank
from hotlap.capture.reading import Found
from hotlap.capture.tables import Table

FORMATS: Final = (
    "trainer",
    "nanogpt",
    "modded_nanogpt",
    "nanochat",
    "block",
    "metric",
    "json",
    "csv",
    "pairs",
)
"""The forms that `auto` stands for, in the order in which they are tried."""
SETTLE_SECONDS: Final = 0.05
"""What is printed together is here after that long."""

_FIGURE: Final = re.compile(
    r"[:=](?<![\d:=/][:=])(?<!\.py:)(?<!\.cpp:)\s*['\"]?[-+.]?(?:\d|[nN]a[nN]|NAN|[iI]nf|INF)", re.ASCII
)
Parse = Callable[[str], Found | None]


@dataclass(slots=True)
class Sighting:
    """Something that was found, where and when."""

    found: Found
    rank: int | None
    at_seconds: float


class Scanner:
    """Reads the lines of one stream."""

    def __init__(self, formats: Iterable[str] = ("auto",), digits: Digits | None = None) -> None:
        asked = set(formats)
        self._formats = set(FORMATS) if "auto" in asked else asked
        self._digits = digits or Digits()
        self._bars = Bars()
        self._table = Table(self._digits) if "csv" in self._formats else None
        self._block: Block | None = None
        self._block_rank: int | None = None
        self._held: list[Sighting] = []
        self._shown: dict[str, Number] = {}
        self._parses = tuple(self._chosen())

    def _chosen(self) -> Iterator[Parse]:
        table: dict[str, Parse] = {
            "trainer": parse_python_dict,
            "json": lambda line: parse_json(line, self._digits),
            "nanogpt": parse_nanogpt,
            "modded_nanogpt": parse_modded_nanogpt,
            "nanochat": parse_nanochat,
        }
        return (parse for name, parse in table.items() if name in self._formats)

    def feed(self, line: str, at_seconds: float) -> list[Sighting]:
        """Return what is settled once a line has come."""
        if self.next_of((line,)):
            return []
        done = self.settle(at_seconds)
        rank, text = split_rank(line)
        if "%|" in text and (bar := parse_bar(text)):
            done += self._draw(bar, rank, at_seconds)
            text = bar.tail
        if text:
            done += self._read(text, rank, at_seconds)
        return done

    def settle(self, at_seconds: float) -> list[Sighting]:
        """Return what has been waiting for as long as is worth waiting."""
        done: list[Sighting] = []
        if self._held and at_seconds - self._held[0].at_seconds > SETTLE_SECONDS:
            done += self._release()
        if self._block is not None and at_seconds - self._block.at_seconds > SETTLE_SECONDS:
            done += self._close()
        return done

    def look(self, tail: str, at_seconds: float) -> list[Sighting]:
        """Return what is settled by now; `tail` is the line that has no end yet, which may be a progress bar."""
        done: list[Sighting] = []
        if self._held and "%|" in tail and (bar := parse_bar(tail)) and self._bars.draw(bar):
            done = self._release()
        return done + self.settle(at_seconds)

    def end(self) -> list[Sighting]:
        """Return all that was waiting: nothing comes any more."""
        return self._release() + self._close()

    def next_of(self, lines: Sequence[str], start: int = 0) -> int:
        """Return the place of the next line that is to be fed, the number of lines where none is: most hold nothing.

        While something is open each line counts, since it may end it.
        """
        if self._block is not None or self._held:
            return start
        may_hold = self._may_hold
        for place in range(start, len(lines)):
            if may_hold(lines[place]):
                return place
        return len(lines)

    def _may_hold(self, line: str) -> bool:
        """Say quickly whether a line may hold anything; yes for nearly all that do, no for nearly all others."""
        if (":" in line or "=" in line) and _FIGURE.search(line):  # to look for a sign is quicker than an expression
            return True
        if "{" in line or "loss " in line or "%|" in line:
            return True
        if "," in line or "\t" in line:
            return self._table is not None and (" " not in line or self._table.is_open)
        return line.startswith("---") or "*** " in line or ("| " in line and may_be_spaced(line))

    def _draw(self, bar: Bar, rank: int | None, at_seconds: float) -> list[Sighting]:
        """Take in a progress bar, which may settle the step of a dict that was printed just before it."""
        done = self._release() if self._bars.draw(bar) else []
        if bar.numbers and bar.numbers != self._shown and "pairs" in self._formats:
            self._shown = bar.numbers
            step = None if bar.label else bar.count
            found = Found(source="bar", numbers=bar.numbers, step=step, is_step_told=False)
            done.append(Sighting(found, rank, at_seconds))
        return done

    def _read(self, text: str, rank: int | None, at_seconds: float) -> list[Sighting]:
        for parse in self._parses:
            if found := parse(text):
                done = self._close()
                if found.source != "trainer" or found.step is not None:
                    return [*done, Sighting(found, rank, at_seconds)]
                if "train_loss" in found.numbers:
                    self._bars.mark_training()
                self._held.append(Sighting(found, rank, at_seconds))
                return done if self._bars.step is not None else done + self._release()
        return self._read_others(text, rank, at_seconds)

    def _read_others(self, text: str, rank: int | None, at_seconds: float) -> list[Sighting]:
        if self._opens_block(text):
            done = self._close()
            kind = "block" if blocks.plain_head(text) else "trainer"
            self._block, self._block_rank = Block(kind, at_seconds, is_marked=True), rank
            return done
        if (figures := self._block_figures(text)) is not None:
            return self._add(*figures, rank, at_seconds)
        done = self._close() if self._block is not None and self._block.miss() else []
        found = parse_pairs(text) if "pairs" in self._formats else None
        if found is None and self._table is not None and self._table.may_read(text):
            found = self._table.read(text)
        return [*done, Sighting(found, rank, at_seconds)] if found else done

    def _opens_block(self, text: str) -> bool:
        if "block" in self._formats and blocks.plain_head(text):
            return True
        return "trainer" in self._formats and blocks.trainer_head(text)

    def _block_figures(self, text: str) -> tuple[str, dict[str, Number]] | None:
        """Return the kind of block that a line belongs to, and its figures; None for a line of none."""
        if self._block is not None and self._block.kind == "trainer":
            numbers = blocks.trainer_line(text)
            if numbers is not None:
                return "trainer", numbers
        if "metric" in self._formats and (numbers := blocks.metric_line(text)):
            return "metric", numbers
        if "block" in self._formats and (numbers := blocks.plain_line(text)):
            return "block", numbers
        return None

    def _add(self, kind: str, numbers: dict[str, Number], rank: int | None, at_seconds: float) -> list[Sighting]:
        """Add figures to their block, which they may begin."""
        block = self._block
        if block is not None and block.kind == kind and self._block_rank == rank and block.take(numbers, at_seconds):
            return []
        done = self._close()
        self._block, self._block_rank = Block(kind, at_seconds, is_marked=kind == "metric"), rank
        self._block.take(numbers, at_seconds)
        return done

    def _close(self) -> list[Sighting]:
        block, self._block = self._block, None
        found = block.found() if block is not None else None
        if block is None or found is None:
            return []
        if block.kind == "trainer" and found.step is None:
            found.step, found.is_step_told = self._bars.step_after_training, False
        return [Sighting(found, self._block_rank, block.at_seconds)]

    def _release(self) -> list[Sighting]:
        """Return the dicts that were waiting for their step."""
        held, self._held = self._held, []
        for sighting in held:
            sighting.found.step, sighting.found.is_step_told = self._bars.step, False
        return held
