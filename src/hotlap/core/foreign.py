"""Runs that another program made, as far as its files tell: what every reader of foreign files returns.

Such a run has no clock of hotlap's: it can be shown, compared and analysed, but is never judged and never a record.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import DataError
from hotlap.core.records import Outcome

SECONDS: Final = "source_seconds"
"""Metric that holds how long a run took by the clock of the program that made it."""
_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How wandb writes these numbers into JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRun:
    """What a file tells of one run."""

    own_id: str
    """Its id where it comes from; no two runs of a source have the same."""
    identity: str
    """What makes it the same run wherever it is met again; it names the source where its id alone would not do."""
    outcome: Outcome
    reason: str
    """How it ended, in the words of its program."""
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Its settings under their own names, nested or dotted."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Final values that its points do not tell, or tell otherwise."""
    points: Sequence[Mapping[str, Any]] = ()
    """Flat lines with a whole `step` and any metrics, by step."""
    steps: int = 0
    """Steps it took; 0 where only its points tell."""
    started_at: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is worth keeping: tags, the sweep it was part of, the direction of its metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignSource:
    """All runs of a file or folder."""

    kind: str
    """What it is, in words such as `wandb export`."""
    place: str
    """Where it lies."""
    label: str
    """What its runs may be called together."""
    runs: tuple[ForeignRun, ...]
    notices: tuple[str, ...] = ()
    """What was left out, and what a user should know to mend that; a sentence each."""


def number_of(value: object) -> int | float | None:
    """Return a value that is a number, also one that wandb wrote as text; None for everything else."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def numbers_in(values: Mapping[str, Any]) -> dict[str, int | float]:
    """Return the entries of a mapping that are numbers."""
    return {key: number for key, value in values.items() if (number := number_of(value)) is not None}


def read_json_object(path: Path) -> dict[str, Any]:
    """Return a JSON object; raises DataError with file and line for anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values
