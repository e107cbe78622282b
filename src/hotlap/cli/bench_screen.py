"""What a bench shows: a line for each repeat that has ended, and on a terminal the one that goes on."""

import time
from typing import TYPE_CHECKING, Any

from hotlap.bench.setting_names import label_of
from hotlap.cli.progress import LiveLine
from hotlap.cli.screen import bold, table_lines
from hotlap.core.bench_records import CellRepeat, median
from hotlap.core.durations import format_seconds
from hotlap.runs.views import setting_text

if TYPE_CHECKING:
    from hotlap.bench.drive import OpenBench
    from hotlap.bench.plan import GridCell
    from hotlap.bench.summary import Written


class BenchLines:
    """Tells a terminal, or a log, what a bench does."""

    def __init__(self, bench: "OpenBench", *, quiet: bool = False) -> None:
        self._bench = bench
        self._quiet = quiet
        self._line = LiveLine(on_terminal=False if quiet else None)
        self._text = ""
        self._begun = time.monotonic()
        self._place = ""
        done = len(bench.folder.repeats())
        if done:
            self.says(f"{bench.folder.bench_id} goes on: {done} measurement(s) were there")

    def says(self, text: str) -> None:
        """Print a line that lasts."""
        if not self._quiet:
            self._line.say(text)

    def starts(self, cell: "GridCell", repeat: int, done: int, planned: int) -> None:
        """Note the repeat that begins."""
        self._begun = time.monotonic()
        self._place = f"{done + 1}/{planned}"
        self._text = f"{self._bench.folder.bench_id} {self._place}  {settings_text(cell.settings)}"

    def ticks(self) -> None:
        """Show what goes on."""
        if not self._quiet:
            self._line.show(f"{self._text}  {time.monotonic() - self._begun:.0f}s")

    def ends(self, repeat: CellRepeat) -> None:
        """Print what was measured."""
        self.says(f"{self._place:>7}  {settings_text(repeat.settings):<40}  {_measured_text(repeat)}")

    def close(self) -> None:
        """Take the line that changes away."""
        self._line.clear()


def answer_lines(written: "Written", ending: str) -> list[str]:
    """Return what a bench ends with: its cells, what they say, and where everything is."""
    from hotlap.bench.tables import cell_grid
    from hotlap.bench.words import facts_of, headline

    answers = written.answers
    grid = cell_grid(answers)
    left = sum(header in grid.words for header in grid.headers[: len(answers.axes)])
    lines = ["", *table_lines(grid.headers, grid.rows, left), ""] if grid.rows else []
    lines.append(bold(headline(answers)))
    lines += [f"  {label:<16} {text}" for label, text in facts_of(answers)]
    lines += [f"  {written.not_drawn}"] if written.not_drawn else []
    lines.append(f"  files {', '.join(str(path) for path in written.paths)}")
    if ending == "interrupted":
        lines.append(f"interrupted; go on with: hotlap bench --resume {answers.bench_id}")
    return lines


def settings_text(settings: Any) -> str:
    """Return a cell's settings in short words."""
    if not settings:
        return "the config"
    return " ".join(f"{label_of(key)} {setting_text(value)}" for key, value in settings.items())


def _measured_text(repeat: CellRepeat) -> str:
    """Return what a repeat measured, or why it did not."""
    if not repeat.is_measured:
        first = repeat.message.splitlines()[0] if repeat.message else ""
        return f"{repeat.outcome.replace('_', ' ')}: {first}"
    seconds = median(repeat.step_seconds)
    parts = [f"{repeat.samples_per_step / seconds:>10,.1f} samples/s", f"{1000 * seconds:>9,.2f} ms/step"]
    if repeat.peak_memory_bytes:
        parts.append(f"{repeat.peak_memory_bytes / 2**30:>6.2f} GiB")
    parts.append(f"start {format_seconds(repeat.startup_seconds + repeat.warmup_seconds)}")
    return "  ".join([*parts, *([f"not quiet: {repeat.message}"] if repeat.message else [])])
