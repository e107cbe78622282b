"""What carries out one run of a study: here as a process of this machine, in a simulation as numbers.

    record = LocalRunner().run(study, action, watcher, interrupts)

A runner notes in the ledger that the run has started, races it where the plan says so, and returns its record.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import Any, Final, Protocol, final

from hotlap.config.load import config_from_values, config_text
from hotlap.core.capped_log import log_position
from hotlap.core.files import read_json_lines
from hotlap.core.records import Role, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.launch.environment import worker_threads
from hotlap.launch.evaluate import evaluate_again
from hotlap.launch.local import Job, LaunchFacts, LocalLauncher
from hotlap.launch.locks import device_lock
from hotlap.launch.system import SystemSampler, calibrated_range, contamination, stood_still
from hotlap.launch.trackers import tracker_lines
from hotlap.runs.ingest import ingest
from hotlap.search.race import Point, RaceContext, Racer, Recordings, race_context
from hotlap.search.trust import ClockStamps
from hotlap.study.guards import Evaluate, Guards, RunGuard, other_data
from hotlap.study.plan import StartRun
from hotlap.study.study import Study
from hotlap.study.sweep_plan import Start
from hotlap.study.watching import Interrupts, Watcher
from hotlap.study.worktree import Workspace

POLL_SECONDS: Final = 0.2
HANG_SECONDS: Final = 120.0
"""Least wall seconds without a new point after which a run counts as hung; its start may take longer."""
START_SECONDS: Final = 900.0
HANG_SHARE: Final = 0.25
"""Silence grows with a run: evaluations lie apart by a share of the clock."""
LONGEST_LOOK_SECONDS: Final = 5.0
"""Time between two looks at a run, unless the driver is held up."""


class Runner(Protocol):
    """Makes the runs that the plan asks for."""

    def run(self, study: Study, action: StartRun, watcher: Watcher, interrupts: Interrupts) -> RunRecord | None:
        """Note the start in the ledger, make the run and return its record; None when it was never started."""


@final
class LocalRunner:
    """Makes runs as processes of this machine, one at a time on a device."""

    def __init__(self, launcher: LocalLauncher | None = None, evaluate: Evaluate = evaluate_again) -> None:
        self._launcher = launcher or LocalLauncher()
        self._evaluate = evaluate
        self._guards: Guards | None = None

    def run(self, study: Study, action: StartRun, watcher: Watcher, interrupts: Interrupts) -> RunRecord | None:
        """Wait for the device, start the run and follow it to its end."""
        with ExitStack() as held:
            with interrupts.breaking_off():
                held.enter_context(device_lock(study.devices, watcher.says))
            return None if interrupts.count else self._run_now(study, action, watcher, interrupts)

    def _run_now(self, study: Study, action: StartRun, watcher: Watcher, interrupts: Interrupts) -> RunRecord:
        guards = self._guards_of(study)
        guards.refuse_changes()
        folder = prepare_folder(study, action.candidate, action.seed)
        guard = guards.open(folder)
        # Before the worktree is made: a driver that is killed meanwhile finds by it what it has to take away.
        study.append_run({**started_facts(folder.run_id, action), "why": action.why})
        with ExitStack() as held:
            if study.code is not None:
                workspace = study.code.workspace(study.history, action.candidate, folder.run_id)
                guard.workspace = held.enter_context(workspace)
            return self._run_in_place(study, action, watcher, interrupts, guard, folder)

    def _run_in_place(
        self,
        study: Study,
        action: StartRun,
        watcher: Watcher,
        interrupts: Interrupts,
        guard: RunGuard,
        folder: RunFolder,
    ) -> RunRecord:
        context = context_of(study, action, lambda run_id: RunFolder(study.project.runs_path / run_id).points())
        job = self._launcher.start(folder, _launch_facts(study, action, guard.workspace))
        with never_left_behind(job), SystemSampler(folder, job.pid) as sampler:
            _follow(study, job, context, watcher, interrupts, guard.clock)
        disturbed = disturbance(study, action.role, folder, sampler.samples)
        for line in tracker_lines(folder):
            watcher.says(line)
        record = ingest(folder, guard.close(folder, disturbed, lambda: interrupts.count >= 2))
        assert record is not None, f"{folder.path} has ended"
        return record

    def _guards_of(self, study: Study) -> Guards:
        if self._guards is None or self._guards.study is not study:
            self._guards = Guards(study, self._evaluate)
        return self._guards


def settle_runs(study: Study) -> None:
    """Note how the runs ended whose driver was killed before it could, and whether the machine was quiet meanwhile.

    A run that finished by itself counts as if its driver had seen it; call it once, before the study goes on.
    """
    events = [event for event in study.folder.ledger() if event["event"] == "run"]
    settled = {event.get("run") for event in events if event.get("phase") == "ended"}
    for run in study.history.runs:
        if run.run_id in settled:
            continue
        folder = RunFolder(study.project.runs_path / run.run_id)
        samples = read_json_lines(folder.system_path)
        disturbed = "" if run.is_infrastructure_failure else disturbance(study, run.role, folder, samples)
        facts = {"run": run.run_id, "role": run.role, "candidate": run.candidate, "seed": run.seed, "phase": "ended"}
        study.append_run({**facts, "outcome": run.outcome, "contaminated": disturbed})
        runs = (replace(known, contaminated=disturbed) if known is run else known for known in study.history.runs)
        study.history = replace(study.history, runs=tuple(runs))


def started_facts(run_id: str, action: StartRun | Start) -> dict[str, Any]:
    """Return what the ledger says of a run that starts."""
    return {"run": run_id, "role": action.role, "candidate": action.candidate, "seed": action.seed, "phase": "started"}


def context_of(study: Study, action: StartRun, points_of: Callable[[str], Sequence[Point]]) -> RaceContext | None:
    """Return what a screen is raced against, None for a run that is left alone; `points_of` reads a run's points."""
    if not action.is_raced:
        return None
    study.recordings = study.recordings or Recordings(points_of)  # each run is read once a sitting
    proposal, targets = study.history.proposal(action.candidate), study.config.parsed_targets()
    return race_context(study.history, proposal, study.recordings, targets, action.limit_seconds)


def prepare_folder(study: Study, candidate: int, seed: int) -> RunFolder:
    """Make the folder of a candidate's run with everything that is written before it starts."""
    folder = RunFolder.create(study.project.runs_path)
    key = study.config.seed_key
    patch = {**study.history.config_of(candidate), **({key: seed} if key else {})}
    config = config_from_values(study.history.base_config, patch)
    folder.write_config(config_text(config), config.model_dump(mode="json"))
    if candidate:
        proposal = study.history.proposal(candidate)
        folder.write("proposal", asdict(proposal))
        folder.write_diff(proposal.diff)
    return folder


def _launch_facts(study: Study, action: StartRun, workspace: Workspace | None) -> LaunchFacts:
    return LaunchFacts(
        directory=workspace.directory if workspace is not None else study.project.project,
        project=study.project.project if workspace is not None else None,
        study=study.folder.name,
        role=action.role,
        candidate=action.candidate,
        seed=action.seed,
        limits={f"{study.settings.clock}_seconds": action.limit_seconds},
        devices=study.config.devices,
    )


def _follow(
    study: Study, job: Job, context: RaceContext | None, watcher: Watcher, interrupts: Interrupts, clock: ClockStamps
) -> None:
    """Watch a run until it ends; stop it when it is raced out, hangs, or the user or the budget says so."""
    reader = job.folder.point_reader()
    points: list[dict[str, Any]] = []
    racer = Racer(context) if context is not None else None
    silence, looked, printed = 0.0, time.monotonic(), (0, 0)
    budget_left = study.settings.total_seconds - study.history.seconds_spent
    deadline = time.monotonic() + max(budget_left, 0.0)
    while not job.poll():
        now = time.monotonic()
        new = reader.read_new()
        points.extend(new)
        lives = bool(new) or (
            study.config.command is not None and printed != (printed := log_position(job.folder.stdout_path))
        )
        # What passed while this process itself was held says nothing of the run.
        silence = 0.0 if lives else silence + min(now - looked, LONGEST_LOOK_SECONDS)
        looked = now
        clock.look(now - job.launched_monotonic, new[-1] if new else None, job.folder.read("result"))
        if interrupts.count >= 2:
            job.stop("interrupted", "stopped by the user")
        elif racer is not None and (kill := racer.look(new)) is not None:
            job.stop("raced", kill.reason, details={"kill": asdict(kill)})
        elif silence > patience_with(points):
            job.stop("invalid", f"no sign of life for {silence:.0f} s")
        elif now > deadline:
            job.stop("interrupted", "the study's budget was used up")
        watcher.follows(job.folder, points)
        time.sleep(POLL_SECONDS)
    now, new = time.monotonic(), reader.read_new()
    clock.look(now - job.launched_monotonic, new[-1] if new else None, job.folder.read("result"))


def patience_with(points: Sequence[dict[str, Any]]) -> float:
    """Return the wall seconds without a new point that are still normal for a run."""
    return max(HANG_SECONDS, HANG_SHARE * float(points[-1]["wall_seconds"])) if points else START_SECONDS


@contextmanager
def never_left_behind(job: Job) -> Iterator[None]:
    """Stop the run when whoever follows it fails, on a full disk for one: nobody else would."""
    try:
        yield
    except BaseException:
        job.stop("interrupted", "its driver failed")
        raise


def disturbance(study: Study, role: Role, folder: RunFolder, samples: Sequence[dict[str, Any]]) -> str:
    """Say why a run cannot be compared with the others of its study; empty when it can."""
    environment, command = folder.read("environment") or {}, folder.read("command") or {}
    is_meant_to_be_alone = int(command.get("slots") or 1) == 1  # else runs disturb each other all the time
    busy = _contamination(study, role, samples) if is_meant_to_be_alone else ""
    return stood_still(samples) or busy or other_data(study.history, environment)


def _contamination(study: Study, role: Role, samples: Sequence[dict[str, Any]]) -> str:
    """Say why a run was not alone; what the calibration runs saw is normal for this machine."""
    if role == "baseline":
        return ""
    baselines = study.history.runs_of(0, "baseline")
    seen = [read_json_lines(RunFolder(study.project.runs_path / run.run_id).system_path) for run in baselines]
    return contamination(samples, worker_threads(), calibrated_range(seen))
