"""An open study: its folders, its config, its history in memory, and the facts it appends."""

import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import hotlap
from hotlap.config.load import config_from_values
from hotlap.config.parts import source_hashes
from hotlap.config.schema import FREE_KEYS, RunConfig
from hotlap.core.errors import StudyError
from hotlap.core.processes import processor_name
from hotlap.core.records import AgentCall, Decision, History, Proposal, RecordClaim, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.speed import MeasuredSpeed
from hotlap.core.study_folder import ProjectFolder, StudyFolder
from hotlap.launch.devices import run_devices
from hotlap.launch.environment import worker_threads
from hotlap.runs.history import load_history, new_sitting, stamp, steady_clock
from hotlap.search.race import Recordings
from hotlap.study.code import StudyCode, open_code
from hotlap.study.manifest import evaluator_hash
from hotlap.study.settings import StudySettings

SWEEP_SCHEMA: Final = "hotlap/sweep/1"
"""What the protocol of a sweep says it is."""
ABLATION_SCHEMA: Final = "hotlap/ablation/1"
"""The same of an ablation."""
_KINDS: Final = {SWEEP_SCHEMA: "a sweep", ABLATION_SCHEMA: "an ablation"}


@dataclass(slots=True)
class Study:
    """The facts of a study and the way to add one; every fact goes to disk before it is acted on."""

    project: ProjectFolder
    folder: StudyFolder
    config: RunConfig
    settings: StudySettings
    history: History
    sitting: str
    first_run: int
    """Runs that earlier sittings had made."""
    _spent_before: float
    _began_at: float
    drawn_rungs: tuple[int, ...] = ()
    """The kept proposals that the picture shows."""
    now: Callable[[], float] = time.time
    """The clock that the ledger's stamps come from; a simulation has its own."""
    recordings: Recordings | None = None
    """The curves of its runs, once racing has read some."""
    code: StudyCode | None = None
    """The code that its runs are made of, where the config lets proposals change any."""

    def append(self, record: Proposal | Decision | RecordClaim) -> None:
        """Add a proposal, a decision or a claim."""
        kinds = {
            Proposal: ("proposal", "proposals"),
            Decision: ("decision", "decisions"),
            RecordClaim: ("claim", "claims"),
        }
        event, name = kinds[type(record)]
        self._write(event, dataclasses.asdict(record), **{name: (*getattr(self.history, name), record)})

    def append_run(self, facts: Mapping[str, Any], record: RunRecord | None = None) -> None:
        """Note that a run starts or, with its record, that it has ended."""
        self._write("run", facts, **({"runs": (*self.history.runs, record)} if record else {}))

    def protect(self, files: Mapping[str, str]) -> None:
        """Note what the prepared data hold: SHA-256 by path, relative to the project where they lie in it."""
        self._write("protected", {"files": dict(files)})

    def note_agent(self, facts: Mapping[str, Any]) -> None:
        """Note a call of an agent: what it cost, and what came of it."""
        call = AgentCall.from_event(facts)
        others = (known for known in self.history.calls if known.number != call.number)
        self._write("agent", facts, calls=(*others, call))

    def note_speed_begun(self, bench: str) -> None:
        """Note that a bench of its own has begun and how old the study is, so that it goes on with it after a kill."""
        self._write("speed_begun", {"bench": bench, "age": self.age_seconds})

    def note_speed(self, facts: Mapping[str, Any]) -> None:
        """Note what that bench measured."""
        self._write("speed", facts, speed=MeasuredSpeed.from_event(facts))

    def end(self, reason: str) -> None:
        """Note why the study ended."""
        self._write("ended", {"reason": reason}, ended=reason)

    def _write(self, event: str, facts: Mapping[str, Any], **changes: Any) -> None:
        """Append a fact, then change the history as replaying the ledger would."""
        now = stamp(self.sitting, self.now)
        self.folder.append(event, {**facts, **now})
        self.history = replace(self.history, seconds_spent=self._spent_before + (now["at"] - self._began_at), **changes)

    @property
    def age_seconds(self) -> float:
        """Wall seconds that the study has gone on by now, over all its sittings."""
        return self._spent_before + (self.now() - self._began_at)

    @property
    def new_run_folders(self) -> list[RunFolder]:
        """The folders of the runs that this sitting has made."""
        return [RunFolder(self.project.runs_path / run.run_id) for run in self.history.runs[self.first_run :]]

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that runs are timed on."""
        return devices_of(self.config)


def open_study(project: ProjectFolder, config: RunConfig, now: Callable[[], float] | None = None) -> Study:
    """Open the study that the config names, new or begun earlier; the caller holds its lock.

    Raises StudyError when its protocol has changed, ConfigError when the config cannot be studied.
    """
    config, _ = as_studied(config)
    settings = StudySettings.from_config(config)
    folder = project.study(config.name).create()
    protocol = study_protocol(config, project.project)
    if checked_protocol(folder, protocol) != protocol:
        folder.write_protocol(protocol)  # with a new budget or patience, too: the journal tells them
    base = config.model_dump(mode="json")
    history = load_history(project, folder, base, config.clock)
    code = open_code(project, folder, config)
    study = begin_sitting(project, folder, config, settings, history, now)
    study.code = code
    return study


def checked_protocol(folder: StudyFolder, protocol: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the protocol that a study was begun under, None for a new study.

    Raises StudyError when its runs cannot be compared with runs under `protocol`.
    """
    stored = folder.protocol()
    if stored is not None:
        refuse_other_kind(folder.name, stored, "", "give the speedrun another one: -s name=...")
        # settings and facts that came with a newer hotlap have their defaults
        values = config_from_values(stored["config"]).model_dump(mode="json")
        stored = {"evaluator": protocol["evaluator"], **stored, "config": values}
        refuse_changed_protocol(folder.name, stored, protocol)
    return stored


def refuse_other_kind(name: str, stored: Mapping[str, Any], schema: str, advice: str) -> None:
    """Raise StudyError when the study of a name is of another kind (empty: a speedrun) than the one to be opened."""
    found = str(stored.get("schema"))
    if (found if found in _KINDS else "") != schema:
        raise StudyError(f"{name!r} is the name of {_KINDS.get(found, 'a speedrun')}; {advice}")


def begin_sitting(
    project: ProjectFolder,
    folder: StudyFolder,
    config: RunConfig,
    settings: StudySettings,
    history: History,
    now: Callable[[], float] | None = None,
) -> Study:
    """Note in the ledger that a sitting starts, and return the open study."""
    now = now or steady_clock()
    sitting = new_sitting()
    first = stamp(sitting, now)
    folder.append("sitting", first)
    return Study(
        project=project,
        folder=folder,
        config=config,
        settings=settings,
        history=replace(history, ended=""),
        sitting=sitting,
        first_run=len(history.runs),
        _spent_before=history.seconds_spent,
        _began_at=first["at"],
        now=now,
    )


def read_study(project: ProjectFolder, name: str | None = None) -> tuple[RunConfig, History, dict[str, Any]]:
    """Return config, history and protocol of a study for reading only (default: the one touched last).

    Raises StudyError when there is none.
    """
    folder = found_study(project, name)
    protocol = folder.protocol() or {}
    config = config_from_values(protocol["config"])
    return config, load_history(project, folder, protocol["config"], config.clock), protocol


def found_study(project: ProjectFolder, name: str | None = None) -> StudyFolder:
    """Return the folder of a study that has begun (default: the one touched last).

    Raises StudyError when there is none.
    """
    folders = [folder for folder in project.studies() if folder.protocol() is not None]
    if name is not None:
        folders = [folder for folder in folders if folder.name == name]
    if not folders:
        wanted = f"no study {name!r}" if name else "no study yet"
        known = ", ".join(folder.name for folder in project.studies() if folder.protocol() is not None)
        advice = f"there are: {known}" if known else "start one with: hotlap speedrun"
        raise StudyError(f"{wanted} in {project.path}; {advice}")
    return max(folders, key=lambda folder: folder.path.stat().st_mtime_ns)


def as_studied(config: RunConfig) -> tuple[RunConfig, tuple[str, ...]]:
    """Return the config as a study runs it, and the settings that it sets aside.

    All runs are evaluated on the same grid of clock readings, and none goes on from a checkpoint.
    """
    if config.command is not None:  # when it evaluates and saves is its own business
        return config, ()
    training = config.training
    idle = {
        "eval_strategy": None,
        "eval_steps": None,
        "eval_delay": 0.0,
        "eval_on_start": False,
        "save_strategy": "no",
        "save_steps": None,
        "save_every": None,
        "load_best_model_at_end": False,
        "metric_for_best_model": None,
        "greater_is_better": None,
    }
    default = type(training)()
    changed = tuple(key for key in idle if getattr(training, key) not in (idle[key], getattr(default, key)))
    return config.model_copy(update={"training": training.model_copy(update=idle)}), changed


def study_protocol(config: RunConfig, directory: Path) -> dict[str, Any]:
    """Return what must be equal for two runs to be compared, and the config that the study starts from.

    The project's own parts (`module:function`) belong to it with the hashes of their source.
    """
    return {
        "schema": "hotlap/protocol/1",
        "config": config.model_dump(mode="json"),
        "hotlap": hotlap.__version__,
        "python": platform.python_version(),
        "torch": _version("torch"),
        "device": devices_of(config)[0],
        "sources": source_hashes(config, directory),
        "evaluator": evaluator_hash(),
        "threads": worker_threads(),
        "processor": processor_name(),
    }


def refuse_changed_protocol(name: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise StudyError that lists what differs; the free keys may change meanwhile."""
    free = tuple(f"config.{key}." for key in FREE_KEYS)
    before, after = _flatten(stored), _flatten(now)
    changed = (key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    keys = sorted(key for key in changed if not f"{key}.".startswith(free))
    if keys:
        rows = [f"  {key.removeprefix('config.')}: {before.get(key)!r} → {after.get(key)!r}" for key in keys]
        head = f"the study {name!r} was begun under another protocol; its runs cannot be compared with new ones:"
        advice = "undo the change, or start a new study with another name (-s name=...)"
        raise StudyError("\n".join([head, *rows, advice]))


def devices_of(config: RunConfig) -> tuple[str, ...]:
    """Return the devices that the runs of a config use, seen without loading torch."""
    return run_devices(config.devices, use_cpu=config.training.use_cpu)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
