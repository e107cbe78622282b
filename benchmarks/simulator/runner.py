"""Play the real study loop over simulated trainings: real planner, real race, real judge; only the time is virtual.

    clock = VirtualClock()
    study = open_study(MemoryProject(), task.start, clock)
    run_study(study, Silence(), lambda study: None, SimulatedRunner(task, clock), policy)

Nothing touches the disk: the ledger is a list, and runs leave only their records and points.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, final

from hotlap.config.load import config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.evaluations import brief_evaluations
from hotlap.core.records import RunRecord
from hotlap.core.run_folder import RunFolder
from hotlap.core.study_folder import ProjectFolder, StudyFolder
from hotlap.search.race import Racer
from hotlap.study.plan import Action, StartRun
from hotlap.study.runner import context_of, started_facts
from hotlap.study.study import Study
from hotlap.study.watching import Interrupts, Watcher
from simulator.trace import Played, Point, Trace, play

BEGINNING: Final = 1.8e9
"""Where virtual clocks start, in seconds since 1970."""
_SHARES: Final[Mapping[str, float]] = {"data": 0.02, "forward": 0.3, "backward": 0.55, "optimizer": 0.13}
"""Parts of a step; made up, and the same for every recipe."""


class Trainable(Protocol):
    """A task that answers to configs: simulated, or recorded from real runs."""

    name: str
    start: RunConfig
    """The config that a study starts from."""

    def train(self, config: RunConfig, seed: int, attempt: int = 0) -> Trace:
        """Return how a training goes when nobody stops it; each attempt with a seed has its own clock."""

    def true_seconds(self, config: RunConfig) -> float:
        """Return the training seconds to the target without noise; infinite for a config that never gets there."""


class VirtualClock:
    """Seconds since 1970 that pass only when something is simulated."""

    def __init__(self) -> None:
        self.seconds = BEGINNING

    def __call__(self) -> float:
        return self.seconds


@final
class MemoryStudy(StudyFolder):
    """The folder of a study that is never written."""

    def __init__(self, name: str) -> None:
        super().__init__(Path("/simulated/studies") / name)
        self._events: list[dict[str, Any]] = []
        self._stored: dict[str, Any] | None = None

    def create(self) -> "MemoryStudy":
        """Do nothing."""
        return self

    def write_protocol(self, protocol: Mapping[str, Any]) -> None:
        """Remember it."""
        self._stored = dict(protocol)

    def protocol(self) -> dict[str, Any] | None:
        """Return what was remembered."""
        return self._stored

    def append(self, event: str, facts: Mapping[str, Any]) -> None:
        """Remember a fact."""
        self._events.append({"event": event, **facts})

    def ledger(self) -> list[dict[str, Any]]:
        """Return all facts."""
        return self._events


@final
class MemoryProject(ProjectFolder):
    """A project that is never written."""

    def __init__(self) -> None:
        super().__init__(Path("/simulated"))
        self._studies: dict[str, MemoryStudy] = {}

    def study(self, name: str) -> MemoryStudy:
        """Return the study with this name, the same one every time."""
        return self._studies.setdefault(name, MemoryStudy(name))


class Silence:
    """Looks on and says nothing."""

    def acts(self, action: Action, study: Study) -> None:
        """Do nothing."""

    def follows(self, folder: RunFolder, points: Sequence[dict[str, Any]]) -> None:
        """Do nothing."""

    def ended(self, record: RunRecord) -> None:
        """Do nothing."""

    def says(self, text: str) -> None:
        """Do nothing."""


@final
class SimulatedRunner:
    """Makes the runs of a study out of numbers, and lets the study's clock pass."""

    def __init__(self, task: Trainable, clock: VirtualClock) -> None:
        self.points: dict[str, Sequence[Point]] = {}
        """Points of the finished runs."""
        self._task = task
        self._clock = clock
        self._configs: dict[int, tuple[RunConfig, dict[str, Any]]] = {}

    def run(self, study: Study, action: StartRun, watcher: Watcher, interrupts: Interrupts) -> RunRecord | None:
        """Note the start in the ledger, play the run and return its record."""
        run_id = f"r{len(self.points) + 1:04}"
        context = context_of(study, action, self.points.__getitem__)
        racer = Racer(context) if context is not None else None
        study.append_run({**started_facts(run_id, action), "why": action.why})
        config, values = self._config(study, action.candidate)
        trace = self._task.train(config, action.seed, attempt=len(self.points))
        played = play(
            trace,
            targets=study.config.parsed_targets(),
            clock=study.settings.clock,
            limit_seconds=action.limit_seconds,
            wall_left=study.settings.total_seconds - study.history.seconds_spent,
            stop=(lambda point: racer.look([point])) if racer is not None else lambda point: None,
        )
        self._clock.seconds += played.wall_seconds
        self.points[run_id] = played.points
        return record_of(run_id, action, trace, played, values)

    def _config(self, study: Study, candidate: int) -> tuple[RunConfig, dict[str, Any]]:
        """Return a candidate's config, also as plain values; proposals never change, so it is made once."""
        if candidate not in self._configs:
            config = config_from_values(study.history.base_config, study.history.config_of(candidate))
            self._configs[candidate] = config, config.model_dump(mode="json")
        return self._configs[candidate]


def record_of(run_id: str, action: StartRun, trace: Trace, played: Played, config: Mapping[str, Any]) -> RunRecord:
    """Return what ingesting the run folder of such a run would have given."""
    points = played.points
    last: Mapping[str, Any] = points[-1] if points else {}
    reached = None
    if played.outcome == "reached":
        reached = {"train": last["train_seconds"], "wall": last["wall_seconds"], "step": last["step"]}
    steps, tokens = int(last.get("step", 0)), int(last.get("tokens", 0))
    values = config["training"]
    return RunRecord(
        run_id=run_id,
        role=action.role,
        candidate=action.candidate,
        seed=action.seed,
        outcome=played.outcome,
        reason=played.reason,
        steps=steps,
        train_seconds=played.train_seconds if steps else 0.0,
        wall_seconds=played.wall_seconds,
        tokens=tokens,
        time_to_target=reached,
        metrics=_metrics(points, tokens / played.train_seconds if steps else 0.0) if points else {},
        evaluations=brief_evaluations(points),
        kill=played.stopped_by,
        seconds={
            "setup": trace.setup_seconds,
            "steps": played.train_seconds,
            "evaluation": trace.evaluation_seconds * len(points),
            "saving": 0.0,
            **{part: share * played.train_seconds for part, share in _SHARES.items()},
        },
        config=config,
        environment=_environment(int(values["max_steps"])),
    )


def _metrics(points: Sequence[Point], tokens_per_second: float) -> dict[str, float]:
    last = points[-1]
    clocks = ("step", "train_seconds", "wall_seconds", "tokens")
    before = next(p for p in reversed(points) if p["train_seconds"] <= 0.9 * last["train_seconds"] or p is points[0])
    return {
        **{name: value for name, value in last.items() if name not in clocks},
        "recent_train_loss": last.get("train_loss", last["eval_loss"]),
        "eval_loss_gain_last_tenth": before["eval_loss"] - last["eval_loss"],
        "grad_norm": 1.0,
        "clipped_ratio": 0.0,
        "padding_ratio": 0.0,
        "tokens_per_second": tokens_per_second,
    }


def _environment(max_steps: int) -> dict[str, Any]:
    data = {"hash": "simulated", "num_train": 40_000, "num_eval": 64, "source": "thin air"}
    machine = {"device": "cuda", "device_name": "none", "bf16_is_fast": False, "threads": 1}
    return {**machine, "num_parameters": 400_000, "max_steps": max_steps, "data": data}
