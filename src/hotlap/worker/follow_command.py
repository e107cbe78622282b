"""Start a command, hand on what it prints, read its metrics, and stop it when that is decided."""

import json
import os
import platform
import re
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import hotlap
from hotlap.capture.capture import Capture
from hotlap.capture.lines import LineReader
from hotlap.config.command import SEED, CommandConfig
from hotlap.config.in_worktree import in_worktree
from hotlap.core.capped_log import CappedLog
from hotlap.core.containers import container_ids, stop_containers
from hotlap.core.masking import Mask, with_secrets
from hotlap.core.processes import processor_name, usable_cores
from hotlap.core.records import Outcome
from hotlap.core.relocate import relocate
from hotlap.core.run_folder import RUN_VARIABLE
from hotlap.knobs.docker_run import for_containers
from hotlap.knobs.render import Rendered, render
from hotlap.worker.child import ChildProcess
from hotlap.worker.command_settings import CommandSettings
from hotlap.worker.git import git_commit
from hotlap.worker.record_command import CommandRecord
from hotlap.worker.session import Session

LOOK_SECONDS: Final = 0.02
"""Longest time between two looks at limits, signals and the files that a command writes metrics to."""
GRACE_SECONDS: Final = 4.0
"""What a command gets to end by itself; whoever stops the whole run waits 5 s."""
CONTAINER_GRACE_SECONDS: Final = 1.0
"""The same for one in a container, whose first process the kernel shields from SIGTERM unless it handles that."""
START_SECONDS: Final = 900.0
"""What a command may take until it tells its own clock for the first time, beyond the limit on that clock."""
REST_SECONDS: Final = 0.2
"""Silence after the end of a command whose descendants keep its terminal open."""
LONGEST_REST_SECONDS: Final = 5.0
"""What they may go on printing after it: then the run has ended, and they are."""
_LAST_LINES: Final = 40
_OUT_OF_MEMORY: Final = re.compile(r"out of memory|OutOfMemory|MemoryError|oom-kill", re.IGNORECASE)

Ending = tuple[Outcome, str]


class CommandRun:
    """One run of a command, from its start to its end."""

    def __init__(self, session: Session, settings: CommandSettings, mask: Mask) -> None:
        self._session = session
        self._folder = session.folder
        self._settings = settings
        self._mask = mask
        self._hand_on = CappedLog(self._folder.stdout_path).write
        self._directory = Path(session.command.get("directory", "."))
        self._command = self._in_worktree(settings.command)
        self._record = CommandRecord(self._folder, settings)
        self._lines = LineReader()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._folder.shared_path.mkdir(exist_ok=True)
        given = {**self._command.model_dump(), "metrics_file": str(self._folder.logged_path)}
        self._capture = Capture(given, self._directory)
        self._child: ChildProcess | None = None
        self._looked_seconds = 0.0
        self._start()

    def _start(self) -> None:
        """Render the command and start it."""
        session, folder = self._session, self._folder
        seed = int(session.command.get("seed") or self._settings.params.get(SEED) or 0)
        folder.scratch_path.mkdir(exist_ok=True)
        params = {**self._settings.params, SEED: seed}
        rendered = render(self._command, params, self._directory, folder.scratch_path)
        own = {
            "HOTLAP_METRICS_FILE": str(folder.logged_path.absolute()),
            "HOTLAP_RUN_ID": folder.run_id,
            "HOTLAP_RUN_DIR": str(folder.shared_path.absolute()),
            "HOTLAP_SEED": str(seed),
            "HOTLAP_PARAMS": json.dumps(params),
        }
        with_secrets(rendered.shell, os.environ)  # the shell puts them in; here they are only asked for
        given = {name: with_secrets(text, os.environ) for name, text in rendered.env.items()}
        passed = {**own, **given, "PYTHONUNBUFFERED": "1", RUN_VARIABLE: os.environ.get(RUN_VARIABLE, "")}
        shell = for_containers(rendered.shell, folder, self._directory, passed, has_terminal=self._command.pty)
        self._write_environment(shell, rendered)
        environment = {**self._environment_in_worktree({**os.environ, **given}), "PYTHONUNBUFFERED": "1", **own}
        self._child = ChildProcess(shell, environment, self._directory, has_terminal=self._command.pty)
        self._record.started_seconds = session.wall_seconds
        self._record.arrivals.note_start(session.wall_seconds)

    def _in_worktree(self, command: CommandConfig) -> CommandConfig:
        """Return a command whose absolute paths of the project point into the worktree that it is started in."""
        project = self._session.command.get("project")
        if not project:
            return command
        moved, moves = in_worktree(command, Path(project), self._directory)
        for move in moves:
            self._hand_on(self._mask.text(f"hotlap: {move}\n").encode())
        return moved

    def _environment_in_worktree(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return variables whose paths point into the worktree, as far as it has what they name."""
        project = self._session.command.get("project")
        if not project:
            return dict(environment)
        return {name: relocate(text, Path(project), self._directory)[0] for name, text in environment.items()}

    def _write_environment(self, shell: str, rendered: Rendered) -> None:
        """Write down machine, software and the command as it is started."""
        facts = {
            "hotlap": hotlap.__version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "processor": processor_name(),
            "threads": usable_cores(),
            "load_average": os.getloadavg()[0],
            "git_commit": git_commit(self._directory),
            "command": self._mask.text(shell),
            "files": {str(original): str(copy) for original, copy in rendered.files.items()},
        }
        self._folder.write("environment", facts)

    def follow(self) -> Ending:
        """Read what the command prints until it ends, or is to be ended; return outcome and reason.

        Raises DivergedError and ClockError as a reading calls for it.
        """
        assert self._child is not None
        quiet_since: float | None = None
        ended_since: float | None = None
        while True:
            data = self._child.read(LOOK_SECONDS)
            at_seconds = self._session.wall_seconds
            reached = self._take(data or b"", at_seconds)
            if reached or (bound := self._passed(at_seconds)) is not None:
                return self._reached() if reached else ("out_of_budget", str(bound))
            if (signal := self._session.interrupted_by) is not None:
                return "interrupted", f"{signal} at step {self._record.step}"
            if self._child.exit_code is not None:
                ended_since = ended_since or at_seconds
                quiet_since = None if data else quiet_since or at_seconds
                is_quiet = quiet_since is not None and at_seconds - quiet_since > REST_SECONDS
                if data == b"" or is_quiet or at_seconds - ended_since > LONGEST_REST_SECONDS:
                    return self._ended(at_seconds)
            elif data == b"":  # it has closed its output and goes on
                self._child.wait(LOOK_SECONDS)

    def _take(self, data: bytes, at_seconds: float) -> bool:
        """Hand on a piece of output and read its lines, and the files; return whether the targets hold."""
        if data:
            self._hand_on(self._mask.hide(data))
            self._record.arrivals.note_output(at_seconds)
        else:
            self._record.arrivals.note_silence()
        reached = self._read(self._lines.feed(data), at_seconds) if data else False
        if not reached and at_seconds - self._looked_seconds >= LOOK_SECONDS:
            self._looked_seconds = at_seconds
            readings = self._capture.poll(at_seconds, self._lines.tail)
            reached = any(self._record.book(reading, at_seconds) for reading in readings)
            self._record.look(at_seconds)
            self._record.flush()  # what comes after the last look is written at the stop
        return reached

    def _read(self, lines: Sequence[str], at_seconds: float) -> bool:
        """Read lines until the targets hold; return whether they do."""
        self._last_lines.extend(lines[-_LAST_LINES:])
        return any(self._record.book(reading, at_seconds) for reading in self._capture.feed_all(lines, at_seconds))

    def _passed(self, wall_seconds: float) -> str | None:
        """Say which limit is used up, or None."""
        record = self._record
        without_own_clock = max(0.0, wall_seconds - record.started_seconds - START_SECONDS)
        train = record.train_seconds(wall_seconds) if record.has_own_clock else without_own_clock
        for clock, reading in (("wall", wall_seconds), ("train", train)):
            limit = self._session.limit(clock)
            if limit is not None and reading > limit:
                return f"{reading:.1f} s on the {clock} clock, the limit is {limit:.1f} s"
        return None

    def _reached(self) -> Ending:
        """Return the ending of a run whose targets hold, as far as its times can be believed."""
        record = self._record
        if record.is_timed and (self._settings.clock == "wall" or record.has_own_clock):
            return "reached", f"all targets held at step {record.step}"
        problem = (
            "its output came in blocks, so when the targets held nobody can tell; print with flush=True, start python "
            "with -u, leave command.pty on, or have the lines carry a clock (command.clock_key) and set clock: train"
            if record.arrivals.is_buffered
            else "clock: train needs lines that carry a clock of the command's own, and none did; set clock: wall, or "
            "name the figure in command.clock_key"
        )
        record.reached = None
        if self._session.command.get("role", "manual") == "manual":
            return "reached", f"all targets held by step {record.step}, at an unknown time: {problem}"
        return "invalid", problem

    def _ended(self, at_seconds: float) -> Ending:
        """Return the ending of a run whose command has ended by itself."""
        assert self._child is not None
        code = self._child.exit_code or 0
        reached = self._read(self._lines.end(), at_seconds)
        if reached or any(self._record.book(reading, at_seconds) for reading in self._capture.end(at_seconds)):
            return self._reached()
        if code:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            is_memory = any(_OUT_OF_MEMORY.search(line) for line in self._last_lines)
            return ("out_of_memory" if is_memory else "crashed"), f"the command {how}"
        if not self._settings.targets:
            return "reached", f"the command has ended after {at_seconds:.1f} s; there was no target"
        return "missed", f"the command has ended and {self._why_missed()}"

    def _why_missed(self) -> str:
        """Say what was wrong with the targets at the end."""
        watch, metrics = self._record.watch, self._record.metrics
        unseen = sorted(watch.names - metrics.keys())
        if unseen:
            known = f"it told: {', '.join(sorted(metrics))}" if metrics else "no metric was found in its output"
            return f"{', '.join(unseen)} was never seen; {known}"
        rounded = ", ".join(f"{name} {text}" for name, text in watch.undecided.items())
        told = f"; {rounded} has too few digits to decide it" if rounded else ""
        return f"the targets did not hold{told}"

    def stop(self) -> None:
        """End the command and its containers; what it still prints is handed on."""
        child = self._child
        if child is None:
            return
        if child.exit_code is None:
            child.ask_to_end()
            is_contained = bool(container_ids(self._folder.containers_path))
            end = self._session.wall_seconds + (CONTAINER_GRACE_SECONDS if is_contained else GRACE_SECONDS)
            while child.exit_code is None and self._session.wall_seconds < end:
                if data := child.read(LOOK_SECONDS):
                    self._hand_on(self._mask.hide(data))
                elif data == b"":
                    child.wait(LOOK_SECONDS)
        self.kill()
        self._hand_on(self._mask.end())
        self._record.flush()
        child.close()

    def kill(self) -> None:
        """End the command and its containers at once."""
        if self._child is not None:
            self._child.kill()
        stop_containers(self._folder.containers_path)

    def facts(self) -> dict[str, Any]:
        """Return what result.json says beside outcome and reason."""
        record, wall_seconds = self._record, self._session.wall_seconds
        train_seconds = record.train_seconds(wall_seconds)
        if record.reached is not None:
            train_seconds = max(record.reached["train"], train_seconds if record.has_own_clock else 0.0)
        return {
            "step": record.step,
            "train_seconds": train_seconds,
            "wall_seconds": wall_seconds,
            "tokens": record.tokens,
            "time_to_target": record.reached,
            "metrics": record.metrics,
            "seconds": {"setup": record.started_seconds, "steps": train_seconds},
            "exit_code": self._child.exit_code if self._child is not None else None,
            "capture": {**record.facts(), "problems": self._capture.problems},
        }
