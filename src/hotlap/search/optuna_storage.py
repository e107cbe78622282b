"""Read the studies in an Optuna storage: a SQLite file, its `sqlite:///` address, or a journal file.

The storage is copied before it is opened, since opening one may write to it. Parameters become settings, values and
attributes that are numbers become metrics, intermediate values become points.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hotlap.core.errors import DataError
from hotlap.core.foreign import SECONDS, ForeignRun, ForeignSource, number_of, numbers_in
from hotlap.core.records import Outcome

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_ADDRESS: Final = "sqlite:///"
_DATABASES: Final = ("cockroachdb", "mariadb", "mssql", "mysql", "oracle", "postgres", "postgresql", "redis", "sqlite")
"""How addresses of databases begin."""
_SQLITE: Final = b"SQLite format 3\0"
_HEAD_BYTES: Final = 4096
_BESIDE: Final = ("", "-wal", "-journal")
"""Endings of the files that SQLite keeps a database in."""
_ENDINGS: Final[dict[str, tuple[Outcome, str]]] = {
    "COMPLETE": ("missed", "imported: complete there"),
    "PRUNED": ("raced", "imported: pruned there"),
    "FAIL": ("crashed", "imported: it failed there"),
}
"""What an ended trial counts as here; no target of hotlap's was looked at, so none was reached."""
_NO_NAME: Final = "no-name-"


def is_optuna_storage(place: str) -> bool:
    """Say whether a place is an address of a database, or a file that Optuna may have written."""
    scheme, separator, _ = place.partition("://")
    if separator:
        return scheme.lower().partition("+")[0] in _DATABASES
    if not Path(place).is_file():
        return False
    head = _head(Path(place))
    return head.startswith(_SQLITE) or _is_journal(head)


def read_optuna_storage(place: str) -> tuple[ForeignSource, ...]:
    """Read every study of a storage.

    Raises DataError, with file and line where there is one, for a storage that cannot be read or has no study.
    """
    import optuna  # 0.3 s that only this needs

    if "://" in place and not place.startswith(_ADDRESS):
        raise DataError(
            f"{place}: only SQLite is read here; copy the study into a file with optuna.copy_study(..., "
            "to_storage='sqlite:///copy.db'), then import that"
        )
    path = Path(place.removeprefix(_ADDRESS).partition("?")[0]) if place.startswith(_ADDRESS) else Path(place)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an Optuna storage (SQLite or journal file)")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _opened(path) as storage:
        names = optuna.get_all_study_names(storage)
        studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
        found = tuple(_source(study, path) for study in studies)
    if not found:
        raise DataError(f"{path}: there is no study of Optuna's in it")
    return found


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _is_journal(head: bytes) -> bool:
    return head.startswith(b"{") and b'"op_code"' in head.split(b"\n")[0]


@contextmanager
def _opened(path: Path) -> Iterator["BaseStorage"]:
    """Open a copy of a storage; raises DataError when it cannot be read."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    with tempfile.TemporaryDirectory(prefix="hotlap-") as folder:
        copy = Path(folder) / "storage"
        try:
            for ending in _BESIDE:
                if (beside := path.with_name(path.name + ending)).is_file():
                    shutil.copyfile(beside, copy.with_name(copy.name + ending))
            storage = _journal(path, copy) if _is_journal(_head(path)) else RDBStorage(f"{_ADDRESS}{copy}")
            try:
                yield storage
            finally:
                if isinstance(storage, RDBStorage):
                    storage.remove_session()
                    storage.engine.dispose()
        except (SQLAlchemyError, RuntimeError, OSError) as error:  # RuntimeError: a schema of another version
            said = str(error).partition("\n")[0]
            raise DataError(f"{path}: cannot be read as an Optuna storage: {said}") from error


def _journal(path: Path, copy: Path) -> "BaseStorage":
    """Return the storage that a copied journal makes; `path` is the original's."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    _check_journal(path)
    try:
        return JournalStorage(JournalFileBackend(str(copy)))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path}: not a whole Optuna journal: {type(error).__name__}: {error}") from error


def _check_journal(path: Path) -> None:
    """Raise DataError with the line that is damaged; a last line that is still being written is none."""
    lines = path.read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            is_object = isinstance(json.loads(line), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise DataError(f"{path}:{number}: not a line of an Optuna journal: expected a JSON object")


def _source(study: "Study", path: Path) -> ForeignSource:
    names = _value_names(study)
    trials = study.get_trials(deepcopy=False)
    ended = [trial for trial in trials if trial.state.name in _ENDINGS]
    notices = []
    if without := len(trials) - len(ended):
        notices.append(f"{without} of {len(trials)} trials left out: they have not ended; import again when they have")
    return ForeignSource(
        kind="Optuna study",
        place=str(path),
        label=path.stem if study.study_name.startswith(_NO_NAME) else study.study_name,
        runs=tuple(_run(trial, study, names, path) for trial in ended),
        notices=tuple(notices),
    )


def _value_names(study: "Study") -> list[str]:
    """Return the names of the values that a trial gives."""
    count = len(study.directions)
    return study.metric_names or (["value"] if count == 1 else [f"value_{number}" for number in range(count)])


def _run(trial: "FrozenTrial", study: "Study", names: list[str], path: Path) -> ForeignRun:
    outcome, reason = _ENDINGS[trial.state.name]
    values = dict(zip(names, trial.values or (), strict=False))
    started = trial.datetime_start.isoformat(timespec="microseconds") if trial.datetime_start else ""
    seconds: dict[str, Any] = {SECONDS: trial.duration.total_seconds()} if trial.duration else {}
    points = tuple({"step": step, names[0]: value} for step, value in sorted(trial.intermediate_values.items()))
    directions = {name: direction.name.lower() for name, direction in zip(names, study.directions, strict=False)}
    texts = {key: value for key, value in trial.user_attrs.items() if number_of(value) is None}
    return ForeignRun(
        own_id=str(trial.number),
        identity=f"optuna:{study.study_name}#{trial.number}@{started or path.resolve()}",
        name=f"{study.study_name} {trial.number}",
        outcome=outcome,
        reason=reason,
        config=dict(trial.params),
        metrics={**numbers_in(trial.user_attrs), **seconds, **values},
        points=points,
        started_at=started,
        facts={"study": study.study_name, "directions": directions, **texts},
    )
