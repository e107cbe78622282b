"""Trackers mirror a run folder while it fills: which there are, how they are started, and what became of them.

    require_trackers(config)                  # before anything runs: is it installed?
    Trackers().start(folder)                  # after the worker has been started
    settled_lines([folder])                   # when all is over: a line for each tracker that failed

hotlap's own files stay the truth. Trackers run in processes of their own, which get only what the timed process leaves
idle; what fails there is written into `trackers.json` of the run folder and told in one line, and no run waits for it.
"""

import importlib.util
import netrc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlparse

import psutil

from hotlap.config.load import load_config
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError, MissingExtraError, StorageError
from hotlap.core.processes import is_alive, process_identity
from hotlap.core.run_folder import RUN_VARIABLE, RunFolder
from hotlap.launch.environment import worker_environment

TRACKERS: Final = {
    "tensorboard": "hotlap.launch.to_tensorboard:TensorboardTracker",
    "wandb": "hotlap.launch.to_wandb:WandbTracker",
    "trackio": "hotlap.launch.to_trackio:TrackioTracker",
}
"""Where each tracker is made, by the name of its package and of the extra that installs it."""
ALL: Final = "all"
SCHEMA: Final = "hotlap/trackers/1"
SUPERVISOR: Final = (sys.executable, "-P", "-m", "hotlap.launch.tracking")
FINISH_SECONDS: Final = 60.0
"""What trackers get to finish once their run has ended; then they are killed."""
GONE_WRONG: Final = ("failed", "stopped")
"""States of a tracker that has not mirrored its run to the end."""

_NEXT: Final = "next_supervisor"
"""Key of the process that is about to look after the trackers of a run."""
_PATIENCE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1
_SAID_AFTER_SECONDS: Final = 3.0
_WANDB_HOST: Final = "https://api.wandb.ai"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a run when it starts; nothing in it is a secret."""

    run_id: str
    name: str
    project: str
    study: str
    """The study that the run belongs to; empty for a single run."""
    config: Mapping[str, Any]
    directory: Path
    """The run folder, for trackers that keep their files beside it."""
    home: Path
    """The project's `.hotlap`."""
    before: Mapping[str, str]
    """What `start` returned for an earlier attempt of the same run; empty for a new one."""


class Tracker(Protocol):
    """Mirrors one run. Its methods are called one after the other, in this order; whatever they raise ends it."""

    def start(self, run: TrackedRun) -> Mapping[str, str]:
        """Open the run, or open it again; return what names it for a later attempt, with a `url` where there is one."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take one point; steps never fall within an attempt."""

    def show(self, step: int, samples: Sequence[Mapping[str, str]]) -> None:
        """Take generated samples: texts by `prompt`, `expected`, `generated`."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Take outcome and last metrics, and close the run."""


class Trackers:
    """Starts the trackers of runs; keeps no run waiting and raises nothing."""

    def __init__(self) -> None:
        self._pids: list[int] = []

    def start(self, folder: RunFolder) -> None:
        """Start what mirrors a run that has just been started, as its config says."""
        self._reap()
        names = wanted_trackers(stored_config(folder))
        if not names:
            return
        argv = [*SUPERVISOR, str(folder.path.absolute()), str(FINISH_SECONDS), *(f"{n}={TRACKERS[n]}" for n in names)]
        try:
            pid = _spawn(argv, folder.trackers_log_path, tracker_environment(os.environ))
            self._pids.append(pid)
            with suppress(psutil.Error, StorageError):  # until it has said so itself, also for a second attempt
                folder.write(
                    "trackers", {**(folder.read("trackers") or {"schema": SCHEMA}), _NEXT: process_identity(pid)}
                )
        except OSError as error:
            facts = {"state": "failed", "phase": "start", "problem": f"cannot be started: {error.strerror or error}"}
            with suppress(StorageError):
                folder.write("trackers", {"schema": SCHEMA, "trackers": {name: dict(facts) for name in names}})

    def _reap(self) -> None:
        """Take note of those that have ended, so that no process stays in the system's list."""
        for pid in list(self._pids):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    continue
            self._pids.remove(pid)


def wanted_trackers(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the trackers that the values of a config name; `all` are those that are installed."""
    named = (values.get("training") or {}).get("report_to") or ()
    known = [name for name in TRACKERS if name in named or (ALL in named and _is_installed(name))]
    return tuple(known)


def stored_config(folder: RunFolder) -> Mapping[str, Any]:
    """Return the values of a run's config as it is now; empty for a run of another program."""
    text = folder.config_text()
    values = folder.config_values(text) if text is not None else {}
    if values is not None:
        return values
    try:
        return load_config(folder.config_path).model_dump(mode="json")
    except ConfigError:
        return {}


def require_trackers(config: RunConfig) -> None:
    """Raise MissingExtraError, in one line, for a tracker that is named and not installed."""
    for name in config.training.report_to:
        if name != ALL and not _is_installed(name):
            raise MissingExtraError(f"report_to: {name} is not installed; run: pip install 'hotlap[{name}]'")


def tracker_notices(config: RunConfig) -> list[str]:
    """Return what the user should know of the trackers of a config before a run starts."""
    is_wanted = "wandb" in wanted_trackers({"training": {"report_to": config.training.report_to}})
    if is_wanted and not os.environ.get("WANDB_MODE") and wandb_mode(os.environ) == "offline":
        return ["wandb: nobody is logged in, so runs are kept offline in .hotlap/wandb; send one later with wandb sync"]
    return []


def wandb_mode(environment: Mapping[str, str]) -> str:
    """Return the mode that wandb is used in: the one that WANDB_MODE names, else offline unless somebody logged in."""
    if mode := environment.get("WANDB_MODE"):
        return mode
    if any(environment.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return "online"
    host = urlparse(environment.get("WANDB_BASE_URL") or _WANDB_HOST).hostname or ""
    return "online" if _knows_login(host, environment) else "offline"


def tracker_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the processes that mirror: the driver's, with one thread and without a run's mark."""
    environment = worker_environment(given)
    environment.pop(RUN_VARIABLE, None)
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**environment, **dict.fromkeys(threads, "1"), "CUDA_VISIBLE_DEVICES": ""}


def tracker_lines(folder: RunFolder) -> list[str]:
    """Return a line for each tracker of a run that has not mirrored it to the end."""
    told = (folder.read("trackers") or {}).get("trackers") or {}
    return [
        f"{folder.run_id}: {name} {facts['state']}: {facts.get('problem', '')}; the run itself is not affected"
        for name, facts in told.items()
        if facts.get("state") in GONE_WRONG
    ]


def settled_lines(folders: Sequence[RunFolder], say: Callable[[str], object] = lambda _: None) -> list[str]:
    """Wait until the trackers of runs that have ended are done, which takes a bounded time; return what went wrong.

    `say` is told once when that takes a while. The same problem of several runs is one line.
    """
    began, has_said = time.monotonic(), False
    found: dict[tuple[str, str], list[str]] = {}
    for folder in folders:
        while _is_supervised(folder) and time.monotonic() - began < FINISH_SECONDS + _PATIENCE_SECONDS:
            time.sleep(_POLL_SECONDS)
            if not has_said and time.monotonic() - began > _SAID_AFTER_SECONDS:
                say(f"waiting for trackers to finish, at most {FINISH_SECONDS:.0f} s")
                has_said = True
        for name, facts in ((folder.read("trackers") or {}).get("trackers") or {}).items():
            if facts.get("state") in GONE_WRONG:
                found.setdefault((name, str(facts.get("problem", ""))), []).append(folder.run_id)
    lines = []
    for (name, problem), runs in found.items():
        where = runs[0] if len(runs) == 1 else f"{len(runs)} runs from {runs[0]} to {runs[-1]}"
        lines.append(f"{name} did not mirror {where} to the end: {problem}; the figures are in the run folder")
    return lines


def _is_supervised(folder: RunFolder) -> bool:
    """Say whether somebody still looks after the trackers of a run, or is about to."""
    told = folder.read("trackers") or {}
    return any(is_alive(told.get(key) or {}) for key in ("supervisor", _NEXT))


def _is_installed(name: str) -> bool:
    """Say whether a package is there; a mere folder of its name, such as wandb makes one, is none."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def _knows_login(host: str, environment: Mapping[str, str]) -> bool:
    """Say whether a netrc file holds a login for a host, as wandb looks for one."""
    home = Path(environment.get("HOME") or Path.home())
    named = environment.get("NETRC")
    for path in [Path(named)] if named else [home / ".netrc", home / "_netrc"]:
        with suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError):
            if netrc.netrc(path).authenticators(host):
                return True
    return False


def _spawn(argv: list[str], log: Path, environment: Mapping[str, str]) -> int:
    """Start a process in a session of its own, which nobody waits for; return its pid."""
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), appended, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        return os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsid=True)
    except NotImplementedError:  # a system whose new processes make their session themselves
        return os.posix_spawn(argv[0], argv, environment, file_actions=actions)
