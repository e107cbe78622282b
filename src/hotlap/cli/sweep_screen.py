"""What a sweep shows: a live table on a terminal, a line for each run elsewhere, and a summary at the end."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from hotlap.cli.screen import bold, is_terminal, sparkline, table_lines
from hotlap.core.durations import format_seconds
from hotlap.report.sweep_summary import HEADERS, SweepSummary, more_text, sweep_facts, sweep_headline, sweep_rows

if TYPE_CHECKING:
    from hotlap.core.records import RunRecord
    from hotlap.core.run_folder import RunFolder
    from hotlap.study.study import Study
    from hotlap.study.sweep_plan import Start, SweepSettings

PLAIN_SECONDS: Final = 10.0
REDRAW_SECONDS: Final = 1.0
LIVE_ROWS: Final = 6
"""Best points in the live table."""
SPARK_WIDTH: Final = 24


class SweepScreen:
    """Tells a terminal, or a log, what a sweep does."""

    def __init__(self, method: str, settings: "SweepSettings", *, quiet: bool = False) -> None:
        self._method, self._settings, self._quiet = method, settings, quiet
        self._is_live = is_terminal() and not quiet
        self._drawn = 0
        self._shown_at = time.monotonic()

    def started(self, folder: "RunFolder", start: "Start", study: "Study") -> None:
        """Say which run begins."""
        title = study.history.proposal(start.candidate).title if start.candidate else "the baseline"
        again = f", seed {start.seed}" if start.role == "confirm" else ""
        self._line(f"{folder.run_id} {title}{again}")

    def follows(self, running: Mapping[str, Sequence[Mapping[str, Any]]], study: "Study") -> None:
        """Show the runs that go on, the best so far and the budget."""
        now = time.monotonic()
        if now - self._shown_at < (REDRAW_SECONDS if self._is_live else PLAIN_SECONDS):
            return
        self._shown_at = now
        if self._is_live:
            self._draw(self._live_lines(running, study))
        elif running:
            self._line(f"{time.strftime('%H:%M:%S')} {'; '.join(self._progress(running))}")

    def ended(self, record: "RunRecord", study: "Study") -> None:
        """Say how a run ended."""
        from hotlap.search.sweep_score import run_value

        metric = self._settings.metric
        value = run_value(record, metric, study.history)
        told = f"{metric} {value:.4g}" if math.isfinite(value) else record.outcome.replace("_", " ")
        why = record.reason.splitlines()[0] if record.reason and record.outcome not in ("reached", "missed") else ""
        noise = f"  [repeated: {record.contaminated}]" if record.contaminated else ""
        self._line(f"   {record.run_id} {told} after {format_seconds(record.train_seconds)}  {why}{noise}".rstrip())

    def says(self, text: str) -> None:
        """Print a lasting line."""
        self._line(text)

    def finish(self, study: "Study", reason: str) -> SweepSummary:
        """Print where the sweep stands at its end, and return that."""
        summary = self._summary(study)
        self._draw([])
        if self._quiet:
            return summary
        told = [] if summary.ended else [f"ended: {reason}"]  # else it is among the facts
        for line in ["", *summary_lines(summary), "", *told, next_line(summary)]:
            print(line, flush=True)
        return summary

    def _summary(self, study: "Study") -> SweepSummary:
        from hotlap.study.sweep_view import sweep_summary

        return sweep_summary(study.folder.name, self._method, study.history, self._settings, study.age_seconds)

    def _live_lines(self, running: Mapping[str, Sequence[Mapping[str, Any]]], study: "Study") -> list[str]:
        summary = self._summary(study)
        table = table_lines(HEADERS, sweep_rows(summary, LIVE_ROWS), left=4)
        left = max(0.0, summary.seconds_total - summary.seconds_spent)
        cap = f" of {summary.run_cap}" if summary.run_cap is not None else ""
        state = f"{len(summary.points)}{cap} points · {format_seconds(left)} of budget left{self._eta(summary)}"
        return [bold(sweep_headline(summary)), *table, *(f"▸ {text}" for text in self._progress(running)), state]

    def _eta(self, summary: SweepSummary) -> str:
        """Return when all points will have run, at the pace so far."""
        done = len(summary.points)
        if summary.run_cap is None or not done:
            return ""
        more = (summary.run_cap - done) * summary.seconds_spent / done
        return f" · all points in {format_seconds(max(0.0, more))}"

    def _progress(self, running: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
        return [self._run_text(run_id, points) for run_id, points in running.items()]

    def _run_text(self, run_id: str, points: Sequence[Mapping[str, Any]]) -> str:
        if not points:
            return f"{run_id} starting"
        seconds = float(points[-1].get(f"{self._settings.clock}_seconds", 0.0))
        losses = [float(point["train_loss"]) for point in points if "train_loss" in point]
        values = [float(point[self._settings.metric]) for point in points if self._settings.metric in point]
        loss = f" train_loss {losses[-1]:.3f} {sparkline(losses, 12)}" if losses else ""
        value = f" {self._settings.metric} {values[-1]:.4g}" if values else ""
        return f"{run_id} {seconds:.0f}s of {format_seconds(self._settings.run_seconds)}{loss}{value}"

    def _line(self, text: str) -> None:
        if self._quiet:
            return
        self._draw([])
        print(text, flush=True)

    def _draw(self, lines: Sequence[str]) -> None:
        """Write the live block over the one before; a terminal's cursor stands below it."""
        if not self._is_live:
            return
        import shutil
        import sys

        width = shutil.get_terminal_size().columns - 1
        erase = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        sys.stdout.write(erase + "".join(f"{_fit(line, width)}\n" for line in lines))
        sys.stdout.flush()
        self._drawn = len(lines)


def summary_lines(summary: SweepSummary) -> list[str]:
    """Return a sweep's result as lines: the best, the facts, the table with the course of each run."""
    facts = sweep_facts(summary)
    width = max(len(label) for label, _ in facts)
    points = [point for point in (*summary.points, summary.baseline) if point is not None]
    courses = {point.run_id: sparkline(point.curve, SPARK_WIDTH) for point in points}
    rows = [(*row, courses.get(row[1], "")) for row in sweep_rows(summary)]
    table = table_lines((*HEADERS, f"{summary.metric} over the run"), rows, left=4)
    lines = [bold(sweep_headline(summary)), "", *(f"  {label.ljust(width)}  {text}" for label, text in facts), ""]
    lines += [f"  {line}" for line in table]
    more = more_text(summary)
    return [*lines, f"  {more}"] if more else lines


def next_line(summary: SweepSummary) -> str:
    """Return what to type next."""
    if not summary.ended:
        return "next: the same command goes on where it was"
    return f"next: hotlap analyze {summary.name} · hotlap report {summary.name}"


def _fit(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    reset = "\x1b[0m" if "\x1b" in text else ""
    return f"{text[: max(0, width - 1)]}…{reset}"
