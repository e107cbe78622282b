"""SPEEDRUN.md: rendered from the facts after every decision, never parsed, so it may be deleted at any time.

write_journal(render_journal(summary, history, notes, picture="speedrun/NAME.svg"), project)
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hotlap.core.files import write_atomic
from hotlap.core.records import History, RecordClaim, RunRecord
from hotlap.core.study_folder import ProjectFolder
from hotlap.report.header import guards_facts, headline, measuring_facts, result_facts, spread_text
from hotlap.report.racing import RacingFigures, racing_section
from hotlap.report.sections import Notes, proposal_section, runs_table, times_text
from hotlap.report.speed import speed_section
from hotlap.report.summary import LadderRow, StudySummary
from hotlap.report.text import (
    NOTHING,
    delta_text,
    fenced,
    interval_text,
    number_text,
    one_line,
    ratio_text,
    seconds_text,
    step_time_text,
    table,
)

MARKER: Final = "<!-- written by hotlap; notes go in with: hotlap runs note -->"
JOURNAL_NAME: Final = "SPEEDRUN.md"


def render_journal(
    summary: StudySummary,
    history: History,
    notes: Notes | None = None,
    picture: str | None = None,
    no_picture_because: str = "",
    racing: RacingFigures | None = None,
) -> str:
    """Return the whole journal; the same facts give the same bytes.

    `picture` is the path of the drawn picture, relative to the journal; without one the journal says why.
    """
    notes = notes or {}
    parts = [
        MARKER,
        f"# Speedrun: {one_line(summary.name)}",
        f"**{one_line(headline(summary))}**",
        _bullets(result_facts(summary)),
        "## Ladder",
        _ladder_table(summary),
        _picture(picture, no_picture_because),
        "## How it was measured",
        _bullets([*measuring_facts(summary), *guards_facts(history)]),
        "## Baseline",
        _baseline(history, notes),
        "## Proposals",
        _proposals(summary, history, notes),
        *_titled("## Step times", speed_section(history)),
        *_titled("## Racing", racing_section(racing)),
        "## Records",
        _records(history),
        "## Reproduce",
        _reproduce(summary, history),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _bullets(facts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- **{label}** {one_line(text)}" for label, text in facts)


def _titled(title: str, text: str) -> tuple[str, ...]:
    return (title, text) if text else ()


def write_journal(text: str, project: ProjectFolder, name: str = JOURNAL_NAME) -> Path:
    """Write a journal and return where; a file of its name that hotlap did not write is left alone.

    `SPEEDRUN.hotlap.md` is written beside a `SPEEDRUN.md` of somebody else's. Raises StorageError when it cannot be
    written.
    """
    path = project.project / name
    if not _is_ours(path):
        path = path.with_name(f"{path.stem}.hotlap{path.suffix}")
    write_atomic(path, text)
    return path


def _is_ours(path: Path) -> bool:
    if not path.exists():
        return True
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(MARKER)


LADDER_HEADERS: Final = (
    "#",
    "change",
    "time to target",
    "spread",
    "n",
    "Δ",
    "faster",
    "steps",
    "ms/step",
    "verdict",
)


def _ladder_table(summary: StudySummary) -> str:
    return table(LADDER_HEADERS, [ladder_cells(row) for row in summary.ladder], words=("change", "verdict"))


def ladder_cells(row: LadderRow) -> list[str]:
    """Return a rung as the cells under `LADDER_HEADERS`."""
    figures = row.figures
    return [
        str(row.number),
        row.title,
        seconds_text(figures.median_seconds) if figures.runs else NOTHING,
        spread_text(figures) if figures.runs else NOTHING,
        f"{figures.reached} of {figures.runs}",
        delta_text(row.delta_seconds),
        ratio_text(row.ratio),
        number_text(figures.steps, ",.0f"),
        step_time_text(figures.seconds_per_step),
        row.verdict or NOTHING,
    ]


def _picture(picture: str | None, because: str) -> str:
    if picture is None:
        return f"*No picture: {one_line(because)}*" if because else ""
    return f"![Evaluation loss against the clock, and time to target of each rung of the ladder]({picture})"


def _baseline(history: History, notes: Notes) -> str:
    """Return every run of the starting point; record runs of it stand under the records."""
    runs = [run for run in history.runs if run.candidate == 0 and run.role != "record"]
    if not runs:
        return "It has not run yet."
    found = [f"**Note** on {run.run_id}: {one_line(note.text)}" for run in runs for note in notes.get(run.run_id, ())]
    return "\n\n".join([runs_table(runs), *found])


def _proposals(summary: StudySummary, history: History, notes: Notes) -> str:
    if not history.proposals:
        return "None yet."
    rungs = {row.number: (row, before) for before, row in zip(summary.ladder, summary.ladder[1:], strict=False)}
    sections = [proposal_section(p, history, notes, *rungs.get(p.number, ())) for p in history.proposals]
    return "\n\n".join(sections)


def _records(history: History) -> str:
    if not history.claims:
        return "No record was claimed yet: the figures above come from runs that helped to choose, and are no claim."
    parts = [
        "Fresh runs of both sides in turn; p is the share of all ways to deal the runs to the two sides that look at "
        "least as good (exact one-sided permutation test on ranks; runs without a time rank last)."
    ]
    for claim in history.claims:
        against = f"#{claim.against}" if claim.against else "the baseline"
        verdict = "confirmed" if claim.confirmed else "not confirmed"
        runs = look_runs(history, claim)
        sides = [(f"#{claim.candidate}", claim.candidate), (against, claim.against)]
        lines = [f"- {name}: {times_text([r for r in runs if r.candidate == n], history.clock)}" for name, n in sides]
        head = f"**Look {claim.look}** #{claim.candidate} against {against}: {verdict}: {one_line(claim.reason)}."
        if within := interval_text(claim.speedup_interval):
            about = f" {ratio_text(claim.speedup)}," if claim.speedup else ""
            head += f" Speedup over the baseline{about} 90 % interval {within}."
        parts.append("\n".join([head, "", *lines]))
    return "\n\n".join(parts)


def look_runs(history: History, claim: RecordClaim) -> list[RunRecord]:
    """Return the runs of one record look: the last unbroken row of record runs of its two sides."""
    sides = {claim.candidate, claim.against}
    rows: list[list[RunRecord]] = [[]]
    for run in history.runs:
        if run.is_infrastructure_failure or run.role in ("manual", "audit"):
            continue
        if run.role == "record" and run.candidate in sides:
            rows[-1].append(run)
        elif rows[-1]:
            rows.append([])
    complete = [row for row in rows if {run.candidate for run in row} == sides]
    return complete[-1] if complete else []


def _reproduce(summary: StudySummary, history: History) -> str:
    """Return the commands that run the best config and the whole study again."""
    best = summary.record.candidate if summary.record else summary.incumbent_number
    settings = [f"-s {shlex.quote(f'{key}={_value(value)}')}" for key, value in history.config_of(best).items()]
    run = "hotlap exec" if "command" in history.base_config else "hotlap train hotlap.yaml"
    lines = ["# the baseline", run, "# the best config" if settings else ""]
    if settings:
        lines.append(" \\\n    ".join([run, *settings]))
    if history.code_of(best):
        lines += ["# its code, written into the files", "hotlap apply ladder hotlap.yaml"]
    lines += ["# the whole study, from its first run", "hotlap speedrun hotlap.yaml -s name=again"]
    return fenced("\n".join(line for line in lines if line), "sh")


def _value(value: Any) -> str:
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, ensure_ascii=False)
