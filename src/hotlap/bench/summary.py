"""Write what a bench answers into its folder: summary.json, bench.md, bench.csv and bench.svg.

written = write_summary(BenchFolder(path))
print(headline(written.answers))
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from hotlap.bench.answers import Answers, answers_of
from hotlap.bench.pictures import heats_of, panels_of, shares_of
from hotlap.bench.tables import cell_grid, csv_rows, knee_grid, memory_grid, prediction_grid, scaling_grid
from hotlap.bench.words import facts_of, headline, method_facts, names_of
from hotlap.config.set_in_yaml import value_text
from hotlap.core.bench_folder import BenchFolder
from hotlap.core.errors import MissingExtraError
from hotlap.core.files import write_atomic
from hotlap.report.bench_pictures import draw_bench
from hotlap.report.report_tables import Grid
from hotlap.report.text import fenced, one_line, table
from hotlap.runs.views import csv_text, finite

SUMMARY_SCHEMA: Final = "hotlap/bench-summary/1"
MARKER: Final = "<!-- written by hotlap bench -->"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and what it says."""

    answers: Answers
    paths: tuple[Path, ...]
    not_drawn: str
    """Why there is no picture; empty where there is one, or nothing to draw."""


def write_summary(folder: BenchFolder) -> Written:
    """Write the answers of a bench, also of one that is not through.

    Without matplotlib there is no picture, and `not_drawn` says so. Raises StudyError where there is no bench,
    ConfigError when its config cannot be read, StorageError when a file cannot be written.
    """
    answers = answers_of(folder)
    picture, not_drawn = None, ""
    try:
        picture = draw_bench(heats_of(answers), panels_of(answers), shares_of(answers), folder.svg_path)
    except MissingExtraError as error:
        not_drawn = f"no picture: {error}"
    text = json.dumps(summary_document(answers), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(folder.csv_path, csv_text(csv_rows(answers)))
    write_atomic(folder.markdown_path, render_bench(answers, folder.svg_path.name if picture is not None else None))
    write_atomic(folder.summary_path, text)
    paths = (folder.markdown_path, folder.csv_path, folder.summary_path, *([picture] if picture is not None else []))
    return Written(answers, paths, not_drawn)


def summary_document(answers: Answers) -> dict[str, Any]:
    """Return everything that a bench answers as plain values for JSON."""
    cells = [
        {
            **asdict(cell),
            "settings": dict(cell.settings),
            "uncertainty": answers.noise.uncertainty(cell.num_repeats) if cell.is_measured else None,
        }
        for cell in answers.cells
    ]
    verdicts = [{**asdict(each), "text": each.text, "advice": each.advice} for each in answers.verdicts]
    document: dict[str, Any] = finite(
        {
            "schema": SUMMARY_SCHEMA,
            "bench": answers.bench_id,
            "name": answers.name,
            "headline": headline(answers),
            "facts": [list(fact) for fact in facts_of(answers)],
            "device": answers.device,
            "is_complete": answers.is_complete,
            "unit": answers.unit,
            "base": dict(answers.base),
            "axes": [{**asdict(axis), "name": names_of(answers)[axis.key]} for axis in answers.axes],
            "noise": answers.noise._asdict(),
            "drift": answers.drift,
            "cells": cells,
            "effects": [{**each._asdict(), "axis": each.axis.key} for each in answers.effects],
            "knees": [each._asdict() for each in answers.knees],
            "memory": [each._asdict() for each in answers.memory],
            "scaling": [each._asdict() for each in answers.scalings],
            "left_out": answers.left_out._asdict(),
            "predictions": [each._asdict() for each in answers.predictions],
            "worth_measuring": [each._asdict() for each in answers.worth_measuring],
            "verdicts": verdicts,
            "suggestion": asdict(answers.suggestion) if answers.suggestion is not None else None,
        }
    )
    return document


def render_bench(answers: Answers, picture: str | None) -> str:
    """Return the answers as Markdown; the same lines give the same bytes. `picture` is the name of a file beside it."""
    title = f"# Bench {answers.bench_id}: {answers.name}".replace(" :", ":")
    names = names_of(answers)
    short = [f"{names[axis.key]}: `{axis.key}`" for axis in answers.axes if names[axis.key] != axis.key]
    change = "\n".join(patch_lines(answers))
    parts = [
        MARKER,
        one_line(title),
        f"**{one_line(headline(answers))}**",
        _bullets(facts_of(answers)),
        f"![Throughput over the settings; the tables hold the numbers]({picture})" if picture else "",
        f"## Suggested change\n\n{fenced(change, 'diff')}" if change else "",
        "## Cells",
        _markdown(cell_grid(answers)) or "None yet.",
        f"{'; '.join(short)}." if short else "",
        *_section("Knees", knee_grid(answers)),
        *_section("Memory", memory_grid(answers)),
        *_section("Devices", scaling_grid(answers)),
        *_section("Not measured: predicted", prediction_grid(answers)),
        "## How it was measured",
        _bullets(method_facts(answers)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def patch_lines(answers: Answers) -> list[str]:
    """Return what is suggested as lines of a diff of settings; empty where nothing changes."""
    if answers.suggestion is None:
        return []
    lines = []
    for key, value in answers.suggestion.patch.items():
        before = answers.base.get(key)
        lines += [] if before is None else [f"- {key}: {value_text(before)}"]
        lines.append(f"+ {key}: {value_text(value)}")
    return lines


def _section(title: str, grid: Grid) -> list[str]:
    return [f"## {title}", _markdown(grid)] if grid.rows else []


def _markdown(grid: Grid) -> str:
    return table(grid.headers, grid.rows, grid.words) if grid.rows else ""


def _bullets(facts: list[tuple[str, str]]) -> str:
    return "\n".join(f"- **{label}** {one_line(text)}" for label, text in facts)
