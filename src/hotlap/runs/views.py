"""What commands and reports show of runs, as plain values: documents, differences, shares of time, flat rows."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from hotlap.config.schema import RunConfig
from hotlap.core.bench_records import STEP_PARTS
from hotlap.core.study_folder import ProjectFolder
from hotlap.runs.rows import StoredRun

SCHEMA: Final = "hotlap/runs/1"
NOTHING: Final = "nothing"
"""What imported runs are compared with."""

_FACTS: Final = (
    "run_id",
    "study",
    "role",
    "candidate",
    "seed",
    "outcome",
    "reason",
    "clock",
    "steps",
    "tokens",
    "train_seconds",
    "wall_seconds",
    "target_train_seconds",
    "target_wall_seconds",
    "target_step",
    "started_at",
    "contaminated",
)
_SEED_KEYS: Final = ("training.seed", "training.data_seed", "params.seed")


class TimePart(NamedTuple):
    """A share of a run's wall clock; the parts of a step lie inside `steps`."""

    name: str
    seconds: float
    share: float
    is_inside_steps: bool


def run_document(run: StoredRun) -> dict[str, Any]:
    """Return everything that the index knows of a run as plain JSON values; what is not finite becomes null."""
    facts = {name: getattr(run, name) for name in _FACTS}
    sections = {name: dict(getattr(run, name)) for name in ("metrics", "seconds", "config", "environment", "imported")}
    notes = [{"at": note.at, "text": note.text, "tags": list(note.tags)} for note in run.notes]
    document: dict[str, Any] = finite({**facts, **sections, "tags": list(run.tags), "notes": notes})
    return document


def runs_document(runs: Iterable[StoredRun], **more: Any) -> dict[str, Any]:
    """Return the JSON document of any list of runs."""
    return {"schema": SCHEMA, "runs": [run_document(run) for run in runs], **finite(more)}


def finite(value: Any) -> Any:
    """Return a value with null for every number that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def setting_text(value: Any) -> str:
    """Return a setting as analyses and reports show it: numbers with four digits, the rest as a config has it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def config_differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Return the dotted keys in which configs differ, with each one's value (None where it has none)."""
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)
    rows = {key: tuple(config.get(key) for config in flat) for key in keys}
    return {key: values for key, values in rows.items() if any(_differ(value, values[0]) for value in values)}


def base_of(run: StoredRun, runs: Iterable[StoredRun]) -> tuple[str, Mapping[str, Any]]:
    """Return name and config that a run is compared with: its study's first baseline, else hotlap's defaults.

    An imported run has settings of another program: it is compared with nothing.
    """
    if run.imported:
        return NOTHING, {}
    baselines = [other for other in runs if run.study and other.study == run.study and other.role == "baseline"]
    if baselines:
        return baselines[0].run_id, baselines[0].config
    return "the defaults", RunConfig.model_validate({}).model_dump(mode="json")


def changes_from_base(run: StoredRun, base: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return what a run's config changes on a base; seeds are no change."""
    found = config_differences([base, run.config]) if run.config else {}
    return {key: values for key, values in found.items() if key not in _SEED_KEYS}


def time_parts(run: StoredRun) -> list[TimePart]:
    """Return where a run's wall clock went, the unaccounted rest last."""
    whole = run.wall_seconds or math.inf
    outer = [(name, seconds) for name, seconds in run.seconds.items() if name not in STEP_PARTS]
    rest = run.wall_seconds - sum(seconds for _, seconds in outer)
    parts = []
    for name, seconds in [*outer, *([("other", rest)] if outer and rest > 0 else [])]:
        parts.append(TimePart(name, seconds, seconds / whole, False))
        if name == "steps":
            inner = [(part, run.seconds[part]) for part in STEP_PARTS if part in run.seconds]
            parts += [TimePart(part, spent, spent / whole, True) for part, spent in inner]
    return parts


def reproduce_argv(project: ProjectFolder, run: StoredRun) -> list[str]:
    """Return the command that repeats a run."""
    where = [] if project.project == Path() else ["-p", str(project.project)]
    return ["hotlap", "rerun", run.run_id, *where]


def flat_row(run: StoredRun) -> dict[str, Any]:
    """Return a run as one flat row: facts, then `metrics.*`, `seconds.*`, `config.*` and `imported.*`."""
    document = run_document(run)
    flat = {name: document[name] for name in _FACTS}
    for section in ("metrics", "seconds", "config", "imported"):
        flat.update(flatten(document[section], f"{section}."))
    return {**flat, "tags": " ".join(run.tags), "notes": " | ".join(note.text for note in run.notes)}


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; the columns are those of all rows, in the order in which they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)  # with \r\n, as RFC 4180 says: only then is a \r inside a value quoted
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _differ(value: Any, other: Any) -> bool:
    return bool(value != other and repr(value) != repr(other))  # two nan are no difference


def guards_text(guards: Mapping[str, Any]) -> str:
    """Return what a study's guards say of a run; empty for a run that none looked at."""
    match guards.get("state"):
        case "pending":
            return "in quarantine until it was checked; `hotlap speedrun` checks it before it goes on"
        case "skipped":
            return "not checked, since the run is repeated"
        case "failed":
            return "failed: the run does not count"
        case "passed":
            return f"passed{_evaluated_again(guards)}"
        case _:
            return ""


def _evaluated_again(guards: Mapping[str, Any]) -> str:
    if not (why := guards.get("evaluated_again")):
        return ""
    told = f"; evaluated again from its saved weights ({why})"
    if (loss := finite(guards.get("eval_loss_again"))) is not None:
        told += f": eval_loss {loss:.5g}"
    if (gap := finite(guards.get("audit_gap"))) is not None:
        told += f", audit loss {100 * math.expm1(gap):+.1f} %"
    return told
