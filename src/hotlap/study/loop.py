"""The study loop: look at the history, do the next thing, write it down, render the journal.

It reads like the table in the design: propose → launch → race → ingest → judge → journal.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any, Final, Protocol

from hotlap.config.load import config_from_values, config_text, refuse_protocol_keys
from hotlap.core.files import read_json_lines
from hotlap.core.records import RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.launch.environment import worker_threads
from hotlap.launch.local import Job, LaunchFacts, LocalLauncher
from hotlap.launch.locks import device_lock
from hotlap.launch.system import SystemSampler, calibrated_range, contamination
from hotlap.policies.rules import AblationPolicy, RulesPolicy
from hotlap.runs.ingest import ingest
from hotlap.search.race import RaceContext, race, race_context
from hotlap.study.plan import Action, Claim, Decide, End, Propose, StartRun, next_action
from hotlap.study.study import Study

POLL_SECONDS: Final = 0.2
HANG_SECONDS: Final = 120.0
"""Least wall seconds without a new point after which a run counts as hung; its start may take longer."""
START_SECONDS: Final = 900.0
HANG_SHARE: Final = 0.25
"""Silence grows with a run: evaluations lie apart by a share of the clock."""


class Watcher(Protocol):
    """Whoever shows a study to people; it changes nothing."""

    def acts(self, action: Action, study: Study) -> None:
        """Called before an action is carried out."""

    def follows(self, folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        """Called a few times a second while a run goes on."""

    def ended(self, record: RunRecord) -> None:
        """Called with each finished run."""

    def says(self, text: str) -> None:
        """Called with a sentence for the user."""


class Interrupts:
    """Counts Ctrl-C: once finishes the current run, twice stops now. SIGTERM stops now."""

    def __init__(self, watcher: Watcher) -> None:
        self.count = 0
        self._watcher = watcher
        self._breaks_off = False

    @contextmanager
    def caught(self) -> Iterator["Interrupts"]:
        """Catch the signals inside the block."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Leave the block at the first signal: nothing runs yet that could be finished."""
        self._breaks_off = True
        try:
            yield
        except KeyboardInterrupt:
            pass  # it is counted
        finally:
            self._breaks_off = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1 if number == signal.SIGINT else 2
        if self._breaks_off:
            raise KeyboardInterrupt
        if self.count == 1:
            self._watcher.says("finishing the current run, then stopping; Ctrl-C again stops now")


def run_study(
    study: Study, watcher: Watcher, write_journal: Callable[[Study], object], launcher: LocalLauncher | None = None
) -> str:
    """Drive a study until it ends or is interrupted; return why. It can be taken up again at any time."""
    launcher = launcher or LocalLauncher()
    ideas_left = True
    with Interrupts(watcher).caught() as interrupts:
        while not interrupts.count:
            action = next_action(study.history, study.settings, ideas_left, study.first_run)
            watcher.acts(action, study)
            match action:
                case Propose():
                    ideas_left = _propose(study, action)
                case StartRun():
                    _run(study, action, launcher, watcher, interrupts)
                case Decide():
                    study.append(action.decision)
                    write_journal(study)
                case Claim():
                    study.append(action.claim)
                    write_journal(study)
                case End():
                    study.end(action.reason)
                    write_journal(study)
                    return action.reason
    write_journal(study)
    return "interrupted"


def _propose(study: Study, action: Propose) -> bool:
    """Append the next proposal, leave-one-out ones when the rules have none; return False when nothing is left."""
    proposal = None if action.is_ablation else RulesPolicy().propose(study.history)
    proposal = proposal or AblationPolicy().propose(study.history)
    if proposal is None:
        return False
    refuse_protocol_keys(proposal.patch)
    study.append(proposal)
    return True


def _run(study: Study, action: StartRun, launcher: LocalLauncher, watcher: Watcher, interrupts: Interrupts) -> None:
    """Wait for the device, start one run, follow it to its end, and add its record to the history."""
    with ExitStack() as held:
        with interrupts.breaking_off():
            held.enter_context(device_lock(study.devices, watcher.says))
        if not interrupts.count:
            _run_now(study, action, launcher, watcher, interrupts)


def _run_now(study: Study, action: StartRun, launcher: LocalLauncher, watcher: Watcher, interrupts: Interrupts) -> None:
    folder = RunFolder.create(study.project.runs_path)
    patch = {**study.history.config_of(action.candidate), "training.seed": action.seed}
    folder.write_config(config_text(config_from_values(study.history.base_config, patch)))
    if action.candidate:
        proposal = study.history.proposal(action.candidate)
        folder.write("proposal", asdict(proposal))
        folder.write_diff(proposal.diff)
    facts = {"run": folder.run_id, "role": action.role, "candidate": action.candidate, "seed": action.seed}
    limits = {f"{study.settings.clock}_seconds": action.limit_seconds}
    launch = LaunchFacts(
        directory=study.project.project,
        study=study.folder.name,
        role=action.role,
        candidate=action.candidate,
        seed=action.seed,
        limits=limits,
        devices=study.config.devices,
    )
    context = _race_context(study, action)
    study.append_run({**facts, "phase": "started", "why": action.why})
    job = launcher.start(folder, launch)
    with SystemSampler(folder, job.pid) as sampler:
        _follow(study, job, context, watcher, interrupts)
    contaminated = _contamination(study, action, sampler.samples) or _other_data(study, folder)
    record = ingest(folder, contaminated)
    assert record is not None, f"{folder.path} has ended"
    study.append_run({**facts, "phase": "ended", "outcome": record.outcome, "contaminated": contaminated}, record)
    watcher.ended(record)


def _follow(study: Study, job: Job, context: RaceContext | None, watcher: Watcher, interrupts: Interrupts) -> None:
    """Watch a run until it ends; stop it when it is raced out, hangs, or the user or the budget says so."""
    reader = job.folder.point_reader()
    points: list[dict[str, Any]] = []
    last_sign = time.monotonic()
    budget_left = study.settings.total_seconds - study.history.seconds_spent
    deadline = time.monotonic() + max(budget_left, 0.0)
    while not job.poll():
        new = list(reader.read_new())
        points.extend(new)
        now = time.monotonic()
        last_sign = now if new else last_sign
        if interrupts.count >= 2:
            job.stop("interrupted", "stopped by the user")
        elif context is not None and new and (reason := race(points, context)) is not None:
            job.stop("raced", reason)
        elif now - last_sign > _patience_with(points):
            job.stop("invalid", f"no sign of life for {now - last_sign:.0f} s")
        elif now > deadline:
            job.stop("interrupted", "the study's budget was used up")
        watcher.follows(job.folder, points)
        time.sleep(POLL_SECONDS)


def _patience_with(points: Sequence[dict[str, Any]]) -> float:
    """Return the wall seconds without a new point that are still normal for a run."""
    return max(HANG_SECONDS, HANG_SHARE * float(points[-1]["wall_seconds"])) if points else START_SECONDS


def _race_context(study: Study, action: StartRun) -> RaceContext | None:
    """Return what a screen is raced against, None for a run that is left alone."""
    if not action.is_raced:
        return None
    history = study.history
    wanted = {run.run_id for run in (*history.unselected_runs(history.incumbent), *history.runs_of(0, "baseline"))}
    points = {run_id: RunFolder(study.project.runs_path / run_id).points() for run_id in wanted}
    return race_context(history, history.proposal(action.candidate), points, study.config.parsed_targets())


def _other_data(study: Study, folder: RunFolder) -> str:
    """Say so when a run saw other data than the study's first one; its time cannot be compared."""
    before = next((run.environment.get("data", {}).get("hash") for run in study.history.runs if run.environment), None)
    now = (folder.read("environment") or {}).get("data", {}).get("hash")
    if before is None or now is None or before == now:
        return ""
    return (
        f"the corpus has changed during the study (hash {before} before, {now} now): put it back, or start a new study"
    )


def _contamination(study: Study, action: StartRun, samples: Sequence[dict[str, Any]]) -> str:
    """Say why a run was not alone; what the calibration runs saw is normal for this machine."""
    if action.role == "baseline":
        return ""
    baselines = study.history.runs_of(0, "baseline")
    seen = [read_json_lines(RunFolder(study.project.runs_path / run.run_id).system_path) for run in baselines]
    return contamination(samples, worker_threads(), calibrated_range(seen))
