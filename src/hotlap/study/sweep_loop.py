"""The loop of a sweep: ask for a point, start it, race it against the others on the clock, write down how it ended.

Several runs may go on at once, each with cores or a device of its own. Everything is in the ledger before it is acted
on, so a sweep that was killed is taken up where it was.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from hotlap.core.errors import HotlapError, StudyError
from hotlap.core.files import LineReader
from hotlap.core.processes import separate_cores
from hotlap.core.records import History, Proposal, RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.launch.environment import worker_threads
from hotlap.launch.local import Job, LaunchFacts, LocalLauncher
from hotlap.launch.system import SystemSampler
from hotlap.launch.trackers import tracker_lines
from hotlap.runs.ingest import ingest
from hotlap.search.rungs import RungRules
from hotlap.study.runner import (
    LONGEST_LOOK_SECONDS,
    disturbance,
    never_left_behind,
    patience_with,
    prepare_folder,
    settle_runs,
    started_facts,
)
from hotlap.study.study import Study
from hotlap.study.sweep_plan import Ask, Start, Stop, SweepAction, SweepSettings, Wait, next_sweep_action
from hotlap.study.watching import Interrupts

POLL_SECONDS: Final = 0.2

Suggest = Callable[[History, Sequence[Start]], Proposal | None]
"""Returns the next point as a proposal, None when there is none left; a pure function."""


class SweepWatcher(Protocol):
    """Whoever shows a sweep to people; it changes nothing."""

    def started(self, folder: RunFolder, start: Start, study: Study) -> None:
        """Called when a run has been started."""

    def follows(self, running: Mapping[str, Sequence[Mapping[str, Any]]], study: Study) -> None:
        """Called a few times a second with the points of the runs that go on, by run id."""

    def ended(self, record: RunRecord, study: Study) -> None:
        """Called with each finished run."""

    def says(self, text: str) -> None:
        """Called with a sentence for the user."""


@dataclass(slots=True)
class _Flight:
    """One run that goes on."""

    start: Start
    slot: int
    job: Job
    reader: LineReader
    sampler: SystemSampler
    stack: ExitStack
    points: list[dict[str, Any]] = field(default_factory=list)
    passed: int = 0
    """Rungs that it has passed."""
    silence: float = 0.0

    @property
    def run_id(self) -> str:
        """Id of its run."""
        return self.job.folder.run_id


class SweepDriver:
    """Drives one sweep: as many runs at a time as it has slots."""

    def __init__(
        self,
        study: Study,
        settings: SweepSettings,
        suggest: Suggest,
        rules: RungRules | None,
        watcher: SweepWatcher,
        launcher: LocalLauncher | None = None,
    ) -> None:
        self._study, self._settings, self._suggest = study, settings, suggest
        self._rules, self._watcher = rules, watcher
        self._launcher = launcher or LocalLauncher()
        self._flights: list[_Flight] = []
        self._past: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._interrupts = Interrupts(watcher)
        self._no_points = ""
        self._looked = time.monotonic()

    def run(self) -> Stop:
        """Go on until the sweep ends or is interrupted; return why. It can be taken up again at any time.

        The caller holds the devices.
        """
        settle_runs(self._study)
        with self._interrupts.caught(), self._no_run_left_behind():
            end = self._drive()
        if end.cause == "end":
            self._study.end(end.reason)
        return end

    def _drive(self) -> Stop:
        while True:
            if self._interrupts.count and not self._flights:
                return Stop("interrupted", "interrupted")
            match Wait() if self._interrupts.count else self._next():
                case Start() as start:
                    self._launch(start)
                case Ask():
                    self._ask()
                case Stop() as end:
                    return end
                case Wait():
                    self._look()
                    time.sleep(POLL_SECONDS)

    def _next(self) -> SweepAction:
        return next_sweep_action(
            self._study.history,
            [flight.start for flight in self._flights],
            self._settings,
            spent_seconds=self._study.age_seconds,
            no_points=self._no_points,
            sitting_start=self._study.first_run,
        )

    def _ask(self) -> None:
        """Add the next point; where there is none, what runs still ends, and the best are repeated."""
        try:
            proposal = self._suggest(self._study.history, [flight.start for flight in self._flights])
        except StudyError as error:
            self._no_points = str(error)
            return
        if proposal is None:
            self._no_points = "the space is exhausted"
        else:
            self._study.append(proposal)

    def _launch(self, start: Start) -> None:
        study, taken = self._study, {flight.slot for flight in self._flights}
        slot = next(number for number in range(self._settings.slots) if number not in taken)
        folder = prepare_folder(study, start.candidate, start.seed)
        study.append_run(started_facts(folder.run_id, start))
        job = self._launcher.start(folder, _launch_facts(study, self._settings, start, slot))
        with never_left_behind(job):
            stack = ExitStack()
            sampler = stack.enter_context(SystemSampler(folder, job.pid))
            self._flights.append(_Flight(start, slot, job, folder.point_reader(), sampler, stack))
        self._watcher.started(folder, start, study)

    def _look(self) -> None:
        """Read what the runs have written, stop those that have to be stopped, and note those that have ended."""
        now = time.monotonic()
        elapsed = min(now - self._looked, LONGEST_LOOK_SECONDS)  # what passed while this process was held is no silence
        self._looked = now
        for flight in list(self._flights):
            has_ended = flight.job.poll()
            new = list(flight.reader.read_new())
            flight.points.extend(new)
            flight.silence = 0.0 if new else flight.silence + elapsed
            if has_ended:
                self._land(flight)
            else:
                self._stop_if_needed(flight)
        self._watcher.follows({flight.run_id: flight.points for flight in self._flights}, self._study)

    def _stop_if_needed(self, flight: _Flight) -> None:
        if self._interrupts.count >= 2:
            flight.job.stop("interrupted", "stopped by the user")
        elif flight.silence > patience_with(flight.points):
            flight.job.stop("invalid", f"no sign of life for {flight.silence:.0f} s")
        elif self._study.age_seconds > self._settings.total_seconds:
            flight.job.stop("interrupted", "the sweep's budget was used up")
        elif self._rules is not None and flight.start.role == "screen":
            self._race(flight, self._rules)

    def _race(self, flight: _Flight, rules: RungRules) -> None:
        while rules.due(flight.points, flight.passed):
            kill = rules.verdict(flight.points, list(self._others(flight)), flight.passed)
            if kill is not None:
                flight.job.stop("raced", kill.reason, details={"kill": asdict(kill)})
                return
            flight.passed += 1

    def _others(self, flight: _Flight) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield the points of one run of every other candidate."""
        study, seen = self._study, {flight.start.candidate}
        for run in study.history.runs:
            if run.is_infrastructure_failure or run.candidate in seen:
                continue
            seen.add(run.candidate)
            if run.run_id not in self._past:
                self._past[run.run_id] = RunFolder(study.project.runs_path / run.run_id).points()
            yield self._past[run.run_id]
        yield from (other.points for other in self._flights if other.start.candidate not in seen)

    def _land(self, flight: _Flight) -> None:
        """Note how a run has ended."""
        flight.stack.close()
        self._flights.remove(flight)
        folder, study = flight.job.folder, self._study
        disturbed = disturbance(study, flight.start.role, folder, flight.sampler.samples)
        record = ingest(folder, disturbed)
        assert record is not None, f"{folder.path} has ended"
        facts = {**started_facts(folder.run_id, flight.start), "phase": "ended", "outcome": record.outcome}
        study.append_run({**facts, "contaminated": disturbed}, record)
        self._watcher.ended(record, study)
        for line in tracker_lines(folder):
            self._watcher.says(line)

    @contextmanager
    def _no_run_left_behind(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for flight in self._flights:
                with suppress(HotlapError):  # on a full disk each of them has ended all the same
                    flight.job.stop("interrupted", "its driver failed")
                flight.stack.close()
            raise


def cores_of(slot: int, slots: int) -> tuple[int, ...]:
    """Return the cores of a slot: every slot has the same number, none where one slot has the whole machine.

    All slots together have as many as one run alone computes with: no core twice for its two hardware threads, and no
    more than a container's quota. Where there are more slots than cores, several share one.
    """
    if slots == 1:
        return ()
    cores = separate_cores()[: worker_threads()]
    share = max(1, len(cores) // slots)
    first = slot * share % len(cores)
    return tuple(cores[first : first + share])


def _launch_facts(study: Study, settings: SweepSettings, start: Start, slot: int) -> LaunchFacts:
    devices, cores = study.devices, cores_of(slot, settings.slots)
    is_on_gpu = devices[0] != "cpu"
    return LaunchFacts(
        directory=study.project.project,
        study=study.folder.name,
        role=start.role,
        candidate=start.candidate,
        seed=start.seed,
        limits={f"{settings.clock}_seconds": settings.run_seconds},
        devices=study.config.devices,
        cores=cores,
        gpu=slot if is_on_gpu and settings.slots > 1 else None,
        slots=settings.slots,
    )
