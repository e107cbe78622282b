"""Take in runs that another program made: each becomes a run folder of its own, marked as imported.

    source = read_source(Path("wandb_export.csv"))
    import_runs(project, source)

Such a folder holds `import.json` (where the run comes from), `config.yaml`, `metrics.jsonl` and `result.json`. There is
no `command.json` and no `worker.json`, since hotlap started nothing, and no reading of a clock, since none of ours ran:
its role is `manual`, no ledger names it, and it can neither be judged nor become an incumbent or a record.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from filelock import FileLock
from ruamel.yaml import YAML

from hotlap.core.errors import DataError, StorageError
from hotlap.core.files import write_atomic
from hotlap.core.foreign import ForeignRun, ForeignSource
from hotlap.core.run_folder import RunFolder, runs_in
from hotlap.core.secret_names import is_secret
from hotlap.core.study_folder import REPLAY_SIGN, ProjectFolder
from hotlap.runs.foreign_columns import Chosen
from hotlap.runs.foreign_table import SUFFIXES
from hotlap.runs.import_table import read_table
from hotlap.runs.import_trainer import STATE_NAME, read_trainer_states
from hotlap.runs.import_wandb import read_wandb_folders, run_folders
from hotlap.runs.ingest import last_metrics

IMPORT_SCHEMA: Final = "hotlap/import/1"
GROUP_SUFFIX: Final = f"{REPLAY_SIGN}import"
"""Ends what imported runs have in place of a study; no study can be called so."""

_CLOCKS: Final = ("train_seconds", "wall_seconds", "tokens")
"""Names of hotlap's own readings; what another program called so is kept as `source_train_seconds` and so on."""
_FORMS: Final = (
    "a table (.csv, .tsv, .jsonl, .json), a trainer_state.json or a folder of them, a run folder of wandb or a folder "
    "of them, or an Optuna storage (SQLite or journal file)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import has done."""

    group: str
    """What the new runs have in place of a study."""
    added: tuple[str, ...]
    """Ids of the new runs."""
    known: int
    """Runs that were here already, as they are in the source."""
    changed: tuple[str, ...]
    """Ids of runs that were here already and are not what the source says now; they were left as they are."""


@dataclass(frozen=True, slots=True)
class _Known:
    folder: RunFolder
    digest: str
    is_whole: bool
    """Whether it was written to its end."""


def refuse_address(place: str) -> None:
    """Raise DataError for an address of the web: nothing is fetched."""
    if "://" not in place:
        return
    if "wandb" in place:
        raise DataError(
            f"{place}: hotlap import reads files and fetches nothing; export the runs table on that page as CSV (the "
            "download button above the table) and import that file, or import the wandb/ folder that the runs wrote"
        )
    raise DataError(f"{place}: hotlap import reads files and fetches nothing; download it, then import {_FORMS}")


def read_source(path: Path, chosen: Chosen | None = None) -> ForeignSource:
    """Read a file or folder with runs of another program, apart from an Optuna storage.

    `chosen` are the columns of a table that the user has named. Raises DataError, with file and line, for what cannot
    be read.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected {_FORMS}")
    is_trainer = path.name.endswith(STATE_NAME)
    if chosen not in (None, Chosen()) and (path.is_dir() or is_trainer or path.suffix == ".wandb"):
        raise DataError(f"{path}: is no table, so it has no columns to choose")
    if path.is_dir():
        return read_wandb_folders(path) if run_folders(path) else read_trainer_states(path)
    if is_trainer:
        return read_trainer_states(path)
    if path.suffix == ".wandb":
        return read_wandb_folders(path.absolute().parent)
    if path.suffix.lower() in SUFFIXES:
        return read_table(path, chosen or Chosen())
    raise DataError(f"{path}: cannot tell what this is; expected {_FORMS}")


def import_runs(project: ProjectFolder, source: ForeignSource, name: str = "") -> Imported:
    """Write the runs of a source down that are not here yet; `name` is what they are called together.

    One that an earlier import did not finish is finished. Raises StorageError when they cannot be written.
    """
    project.create()
    group = group_name(name or source.label)
    added: list[str] = []
    changed: list[str] = []
    count = 0
    try:
        with FileLock(project.path / "import.lock"):
            known = _known_runs(project)
            for run in source.runs:
                digest = _digest(run)
                here = known.get(run.identity) or known.get(digest)
                if here is None or not here.is_whole:
                    folder = here.folder if here else RunFolder.create(project.runs_path)
                    _fill(folder, run, _facts(run, source, group, digest))
                    added.append(folder.run_id)
                elif here.digest == digest:
                    count += 1
                else:
                    changed.append(here.folder.run_id)
    except OSError as error:
        raise StorageError(f"cannot write in {project.path}: {error.strerror or error}") from error
    return Imported(group=group, added=tuple(added), known=count, changed=tuple(changed))


def group_name(label: str) -> str:
    """Return what imported runs have in place of a study: a label without odd characters, and `@import`."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", label.removesuffix(GROUP_SUFFIX)).strip("-.")
    return f"{cleaned or 'runs'}{GROUP_SUFFIX}"


def plain(value: Any, name: str = "") -> Any:
    """Return a value as JSON has it, with `***` for text under the name of a secret, however deep it lies there."""
    if isinstance(value, Mapping):
        return {_whole(str(key)): plain(inner, f"{name}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, name) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return "***" if is_secret(name) else _whole(str(value))


def _whole(text: str) -> str:
    """Return text that UTF-8 can hold: JSON may have halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _known_runs(project: ProjectFolder) -> dict[str, _Known]:
    """Return the imported runs of a project by identity, and once more by the digest of their content."""
    found: dict[str, _Known] = {}
    for folder in runs_in(project.runs_path):
        facts = folder.read("import")
        if facts is not None:
            known = _Known(folder, str(facts.get("digest")), folder.read("result") is not None)
            found |= {known.digest: known, str(facts.get("identity")): known}
    return found


def _digest(run: ForeignRun) -> str:
    """Return what names the content of a run: the same run in a copy of its file has the same one."""
    content = [run.own_id, run.outcome, run.config, run.metrics, run.points, run.steps]
    text = json.dumps(plain(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _facts(run: ForeignRun, source: ForeignSource, group: str, digest: str) -> dict[str, Any]:
    facts: dict[str, Any] = plain(
        {
            "schema": IMPORT_SCHEMA,
            "kind": source.kind,
            "source": str(Path(source.place).absolute()),
            "id": run.own_id,
            "name": run.name,
            "group": group,
            "started_at": run.started_at,
            "imported_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "facts": run.facts,
            "identity": run.identity,
            "digest": digest,
        }
    )
    return facts


def _fill(folder: RunFolder, run: ForeignRun, facts: Mapping[str, Any]) -> None:
    """Write a run's files, its result last: a folder without one is filled again by the next import."""
    points = [plain(_without_clocks(point)) for point in run.points]
    folder.write("import", facts)
    config = plain(run.config)
    folder.write_config(_yaml_text(config), config)
    if points:
        write_atomic(folder.metrics_path, "".join(json.dumps(point, ensure_ascii=False) + "\n" for point in points))
    last_step = points[-1]["step"] if points else 0
    result = {
        "schema": "hotlap/result/1",
        "outcome": run.outcome,
        "reason": _whole(run.reason),
        "step": run.steps or last_step,
        "train_seconds": 0.0,
        "wall_seconds": 0.0,
        "tokens": 0,
        "time_to_target": None,
        "metrics": {**last_metrics(points), **plain(_without_clocks(run.metrics))},
        "seconds": {},
    }
    folder.write("result", result)


def _without_clocks(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"source_{key}" if key in _CLOCKS else key: value for key, value in values.items()}


def _yaml_text(config: Mapping[str, Any]) -> str:
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096  # text stays on its line
    out = io.StringIO()
    yaml.dump(dict(config), out)
    return out.getvalue()
