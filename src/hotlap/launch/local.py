"""Start a run as a process of this machine, follow it and stop it.

    job = LocalLauncher().start(folder, LaunchFacts(directory=Path(".")))
    while not job.poll(): ...

The worker gets a session of its own, so that Ctrl-C in the terminal reaches only the driver, and so that a stop
reaches everything that the worker started. For several devices the first process is torchrun, which starts a worker
for each.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

import psutil

from hotlap.core.containers import stop_containers
from hotlap.core.errors import HotlapError, StorageError
from hotlap.core.processes import process_identity
from hotlap.core.records import Outcome, Role
from hotlap.core.run_folder import RUN_VARIABLE, RunFolder
from hotlap.launch.environment import recorded_environment, worker_environment
from hotlap.launch.sessions import end_session, kill_session, run_mark
from hotlap.launch.trackers import Trackers

WORKER: Final = (sys.executable, "-P", "-m", "hotlap.worker")
"""What fills a run folder; -P keeps a `random.py` in the user's project from shadowing Python's own."""

TORCHRUN: Final = (sys.executable, "-P", "-m", "torch.distributed.run")
"""Starts a program once per device; the processes find each other through its variables."""

_POLL_SECONDS: Final = 0.05
_LEAST_FREE_BYTES: Final = 2**20
_INNOCENT_CODES: Final = (0, -signal.SIGKILL, -signal.SIGTERM, StorageError.exit_code, 120)
"""Exit codes that do not tell of a fault of the config; 120 is Python whose last lines did not fit on the disk."""


class LaunchError(HotlapError):
    """A run that could not be started."""

    exit_code: ClassVar[int] = 125


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchFacts:
    """What a run is started for, and within which limits."""

    directory: Path
    """The project, or a worktree of it: where the worker starts."""
    project: Path | None = None
    """The user's own project where `directory` is a worktree of it."""
    study: str = ""
    role: Role = "manual"
    candidate: int = 0
    seed: int = 0
    limits: Mapping[str, float | None] = field(default_factory=dict)
    """Bounds on `train_seconds` and `wall_seconds`; absent or None: no bound."""
    verb: str = "train"
    devices: int = 1
    """Processes of the run, a device each."""
    resume: str = ""
    """Checkpoint folder inside the run folder that the run goes on from; empty: from its start."""
    wall_before_seconds: float = 0.0
    """Reading of the wall clock when the resumed run had ended."""
    slots: int = 1
    """Runs that may go on at the same time on this machine: with more than one, no run's times are its own."""
    cores: tuple[int, ...] = ()
    """The cores that the run is kept on, and as many threads; empty: all of them."""
    gpu: int | None = None
    """The GPU of those visible that the run is shown; None: all of them."""


class Job:
    """One started run."""

    def __init__(self, folder: RunFolder, process: "subprocess.Popen[bytes]", launched: float) -> None:
        self.folder = folder
        self.launched_monotonic = launched
        self._process = process
        self._mark = run_mark(folder)
        self._watched = psutil.Process(process.pid)

    @property
    def pid(self) -> int:
        """Pid of the worker, or of the torchrun above several; id of its process group and session."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The worker's exit code (negative: the signal that killed it), None before `poll` has seen the end."""
        return self._process.returncode

    def poll(self) -> bool:
        """Say whether the run has ended; what the worker left running is then killed."""
        if self._process.returncode is None and self._has_exited():
            # Before reaping: until then the pid, and so the group's id, cannot be used again.
            kill_session(self.pid, self._mark)
            stop_containers(self.folder.containers_path)
            self._process.wait()
            self._explain_silent_end()
        return self._process.returncode is not None

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the end; False when the time is over first."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not self.poll():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def stop(
        self,
        outcome: Outcome,
        reason: str,
        grace_seconds: float = 5.0,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Say why in stop.json, then end all its processes; a run that has ended stays as it is.

        `details` go into stop.json, too.

        Raises RunFailedError when a process cannot be killed, and StorageError, once it has ended, when the reason
        cannot be written.
        """
        if self.poll():
            return
        try:
            if self.folder.read("stop") is None:  # the first to stop a run says why
                at_seconds = round(time.monotonic() - self.launched_monotonic, 3)
                said = {"outcome": outcome, "reason": reason, "at_seconds": at_seconds}
                self.folder.write("stop", {**said, **(details or {})})
        finally:  # on a full disk, too: a run that nobody follows would keep its device busy
            end_session(self.pid, grace_seconds, self._has_exited, self._mark)
            stop_containers(self.folder.containers_path)
            self._process.wait()

    def _explain_silent_end(self) -> None:
        """Book a process that broke without a result as crashed.

        One that was killed from outside stays lost, and so does one that could not write to the disk.
        """
        code = self._process.returncode
        if code in _INNOCENT_CODES or self.folder.read("result") or self.folder.read("stop"):
            return
        if shutil.disk_usage(self.folder.path).free < _LEAST_FREE_BYTES:
            return  # where nothing can be written, every program breaks
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        with suppress(StorageError):
            self.folder.write("stop", {"outcome": "crashed", "reason": f"the process {how} and left no result"})

    def _has_exited(self) -> bool:
        try:
            return bool(self._watched.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True


class LocalLauncher:
    """Starts runs on this machine."""

    def __init__(self, program: Sequence[str] = WORKER) -> None:
        self._program = tuple(program)  # a test passes its own; the run folder is its last argument
        self._trackers = Trackers()

    def start(self, folder: RunFolder, facts: LaunchFacts) -> Job:
        """Write command.json and start the worker; config.yaml must be there already.

        Raises LaunchError when it cannot be started, StorageError when nothing can be written.
        """
        directory = facts.directory.absolute()
        if not directory.is_dir():
            raise LaunchError(f"cannot start {folder.run_id}: the project folder {directory} is not there")
        argv = [*program_for(self._program, facts.devices), str(folder.path.absolute())]
        is_foreign = folder.has_command
        environment = worker_environment(_slot_environment(os.environ, facts), facts.devices, is_foreign=is_foreign)
        launched = time.monotonic()
        facts = replace(facts, verb="exec") if is_foreign else facts
        folder.write("command", _command(facts, argv, environment, launched))
        try:
            marked = {**environment, RUN_VARIABLE: run_mark(folder)}
            process = _spawn(argv, folder.stdout_path, directory, marked)
        except OSError as error:
            raise LaunchError(f"cannot start {folder.run_id}: {argv[0]}: {error.strerror or error}") from error
        job = Job(folder, process, launched)
        if facts.cores:
            with suppress(psutil.Error, AttributeError):  # gone already; or a system that keeps no process anywhere
                psutil.Process(process.pid).cpu_affinity(list(facts.cores))
        if not folder.is_running():
            # Closes the moment in which the run would look lost, also one that is resumed. A worker writes the same as
            # its first act; torchrun stays the one to ask for, since it lives as long as any of its processes.
            try:
                folder.write("worker", process_identity(process.pid))
            except StorageError:
                job.stop("interrupted", "it could not be written down who runs it", grace_seconds=0)
                raise
        self._trackers.start(folder)
        return job


def program_for(program: Sequence[str], devices: int) -> tuple[str, ...]:
    """Return the command that runs a program once per device; for one device the program itself."""
    if devices == 1:
        return tuple(program)
    one_machine = ("--standalone", "--nnodes=1", "--local-addr=127.0.0.1", "--max-restarts=0")
    # Without a folder for logs torchrun leaves one behind in the temporary folder each time.
    return (*TORCHRUN, *one_machine, f"--log-dir={os.devnull}", f"--nproc-per-node={devices}", "--no-python", *program)


def _slot_environment(given: Mapping[str, str], facts: LaunchFacts) -> dict[str, str]:
    """Return the driver's environment with what keeps a run in its slot."""
    environment = dict(given)
    if facts.cores:
        environment["OMP_NUM_THREADS"] = str(len(facts.cores))
    if facts.gpu is not None:
        visible = [name for name in given.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        environment["CUDA_VISIBLE_DEVICES"] = visible[facts.gpu] if facts.gpu < len(visible) else str(facts.gpu)
    return environment


def _command(
    facts: LaunchFacts, argv: Sequence[str], environment: Mapping[str, str], launched: float
) -> dict[str, object]:
    return {
        "argv": list(argv),
        "verb": facts.verb,
        "directory": str(facts.directory.absolute()),
        **({"project": str(facts.project.absolute())} if facts.project is not None else {}),
        "environment": recorded_environment(environment),
        "launched_monotonic": launched,
        "launched_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "driver": process_identity(),
        "study": facts.study,
        "role": facts.role,
        "candidate": facts.candidate,
        "seed": facts.seed,
        "limits": {"train_seconds": None, "wall_seconds": None, **facts.limits},
        "devices": facts.devices,
        "slots": facts.slots,
        "cores": list(facts.cores),
        "resume": facts.resume,
        "wall_before_seconds": facts.wall_before_seconds,
    }


def _spawn(
    argv: Sequence[str], stdout_path: Path, directory: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    with stdout_path.open("ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            start_new_session=True,
        )
