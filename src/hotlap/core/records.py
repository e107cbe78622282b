"""The nouns of hotlap: records that are written once and never edited.

A **candidate** is a config under test: number 0 is the baseline, number n is what proposal n makes of its parent.
The records here are plain values; the run folder and the ledger are where they are kept.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeVar

from hotlap.core.clock import ClockName
from hotlap.core.speed import MeasuredSpeed

Outcome = Literal[
    "reached",
    "missed",
    "out_of_budget",
    "raced",
    "diverged",
    "out_of_memory",
    "crashed",
    "interrupted",
    "lost",
    "invalid",
]
Role = Literal["baseline", "screen", "confirm", "incumbent", "record", "ablation", "timing", "audit", "manual"]
Verdict = Literal["keep", "discard", "inconclusive", "crash"]
T = TypeVar("T")

SELECTED_ROLES: Final = ("screen", "confirm", "ablation")
"""Roles whose runs were chosen for being fast, or for not being slow; they never enter an estimate."""
UNCOUNTED_ROLES: Final = (*SELECTED_ROLES, "timing", "audit", "manual")
"""Roles whose runs say nothing about a candidate's time to target: timing runs end long before it."""

EXIT_CODES: Final[Mapping[str, int]] = {
    "reached": 0,
    "missed": 3,
    "raced": 3,
    "diverged": 4,
    "out_of_memory": 5,
    "crashed": 5,
    "lost": 5,
    "invalid": 5,
    "out_of_budget": 124,
    "interrupted": 130,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Why racing stopped a run, or would have stopped one that was left alone."""

    rule: str
    """Name of the rule: broken, throughput, cap, envelope, behind, extrapolation or rung."""
    reason: str
    at_seconds: float
    """Reading of the judged clock at the last point that the rule saw."""
    saved_seconds: float = 0.0
    """Seconds of the judged clock that the run would at most have gone on; 0 where nobody can say."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """The numbers that the rule compared; finite."""

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What happened in one run that has ended."""

    run_id: str
    role: Role
    candidate: int
    seed: int
    outcome: Outcome
    reason: str = ""
    steps: int = 0
    train_seconds: float = 0.0
    wall_seconds: float = 0.0
    tokens: int = 0
    time_to_target: Mapping[str, float] | None = None
    """Readings of both clocks (`train`, `wall`) and the `step` at which all targets first held."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The last evaluation and the training figures (units in the names)."""
    evaluations: tuple[Mapping[str, float], ...] = ()
    """At most 24 evaluations, first to last, with step and clock readings (`core.evaluations`)."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Where the time went: setup, steps, evaluation, saving and the parts of a step."""
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    contaminated: str = ""
    """Why the machine was not quiet during the run; empty when it was."""
    trace: tuple[tuple[int, float], ...] = ()
    """Step and training loss of its first lines of figures: two runs that do the same work have the same ones."""
    kill: Kill | None = None
    """The verdict of racing on a run that it stopped."""
    guards: Mapping[str, Any] = field(default_factory=dict)
    """What the study's guards found: `state` (pending, passed, failed, skipped), `problems` and their figures."""

    def clock_to_target(self, clock: ClockName) -> float:
        """Seconds to target on a clock; infinite for a miss and for a reading that is no positive number."""
        if self.outcome != "reached" or self.time_to_target is None:
            return math.inf
        seconds = self.time_to_target.get(clock)
        return float(seconds) if seconds is not None and seconds > 0 else math.inf  # NaN > 0 is false

    def reading(self, clock: ClockName) -> float:
        """Last reading of a clock in seconds, whether or not the run reached its targets."""
        return self.train_seconds if clock == "train" else self.wall_seconds

    @property
    def seconds_per_step(self) -> float:
        """Mean training seconds of one optimizer step; not a number before the first step."""
        return self.train_seconds / self.steps if self.steps else math.nan

    @property
    def told_step_seconds(self) -> float:
        """Seconds of a step alone; not a number where nobody knows.

        For a command of the user's own they come from its lines: the mean has its start-up in it, and where its lines
        name no step what it counts are lines.
        """
        if not self.config.get("command"):
            return self.seconds_per_step
        return float(self.environment.get("told_step_seconds", math.nan))

    @property
    def whole_step_seconds(self) -> float:
        """Seconds of the whole run for each of its steps, start-up included; not a number where it counted lines."""
        is_told = not self.config.get("command") or self.environment.get("has_told_steps")
        return self.seconds_per_step if is_told else math.nan

    @property
    def is_infrastructure_failure(self) -> bool:
        """Whether the run says nothing about its config and has to be repeated."""
        return self.outcome in ("lost", "interrupted") or bool(self.contaminated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One change to try: what was seen, what is expected of the change, and the change itself."""

    number: int
    parent: int
    """Candidate that the change starts from."""
    family: str
    title: str
    observation: str
    hypothesis: str
    patch: Mapping[str, Any]
    """Dotted config keys and their new values."""
    predicted_ratio: float
    """Expected time to target, relative to the parent's."""
    simplifies: bool = False
    """Whether the change only removes something, so that a tie is decided for it."""
    exempt_from_race_until: float = 0.0
    """Fraction of the incumbent's time during which slow starts are normal for this family."""
    proposer: str = "rules"
    role: Role = "screen"
    """`ablation` for a kept change that is tried without."""
    diff: str = ""
    """Unified diff of the parent's config, and of its code, against the new ones."""
    code: str = ""
    """Git diff of the parent's code against the new one; empty where only settings change."""
    predicted_step_seconds: float | None = None
    """Seconds of a step that the study's bench predicts; None where it has nothing to say of the change."""

    @property
    def signature(self) -> str:
        """What makes two proposals the same idea: the parent, the patch with four significant digits, and the code."""
        rounded = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in self.patch.items()}
        same = f"{self.parent}:{sorted(rounded.items())}"
        return f"{same}:{self.code}" if self.code else same


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was concluded about a proposal; a later decision about the same proposal replaces it."""

    proposal: int
    verdict: Verdict
    reason: str
    statistics: Mapping[str, float] = field(default_factory=dict)
    revisit_if: Mapping[str, float] = field(default_factory=dict)
    """What would reopen a change that was not kept, any one of: `keeps` so many more kept changes, `sigma_below` a
    noise below this. Empty for a keep, and in ledgers older than the field."""

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("a decision needs a reason, got an empty one")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordClaim:
    """The outcome of one look: fresh runs of the last record's config and of the incumbent, in turn."""

    look: int
    candidate: int
    against: int
    p_value: float
    alpha: float
    confirmed: bool
    median_seconds: float
    reason: str
    speedup: float | None = None
    """Baseline's median over the claimed one, both in seconds of the same machine; None where either is a miss."""
    speedup_interval: tuple[float, float] | None = None
    """The 90 % interval of the speedup; an end that the runs do not bound is 0 or infinite."""
    pace: float = 1.0
    """Step time at the look, relative to when the baseline was measured; the speedup is told at this pace."""

    def __post_init__(self) -> None:
        if self.speedup_interval is not None:  # a ledger has it as a list
            low, high = self.speedup_interval
            object.__setattr__(self, "speedup_interval", (float(low), float(high)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCall:
    """One call of an agent: what it took, and what came of it."""

    number: int
    is_over: bool = False
    """False while it goes on, and for ever where its driver was killed meanwhile."""
    cost: float | None = None
    """US dollars; where nobody told, the most that it can have cost; None where no price is known."""
    is_cost_known: bool = False
    seconds: float | None = None
    """Wall seconds."""
    prompt_tokens: int | None = None
    """Tokens that the model has read, None where nobody counted them."""
    completion_tokens: int | None = None
    """Tokens that the model has written."""
    proposal: int | None = None
    """The proposal that it led to."""
    problem: str = ""
    """Why it led to none."""

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "AgentCall":
        """Return the call that a ledger's event `agent` tells of."""
        told = {each.name: event[each.name] for each in fields(cls) if each.name in event}
        return cls(number=int(event["call"]), is_over=event.get("phase") == "ended", **told)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything a study has learned so far, in the order it happened; policies and judges read nothing else."""

    clock: ClockName
    base_config: Mapping[str, Any]
    runs: tuple[RunRecord, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    decisions: tuple[Decision, ...] = ()
    claims: tuple[RecordClaim, ...] = ()
    calls: tuple[AgentCall, ...] = ()
    """Calls of an agent that were begun."""
    speed: MeasuredSpeed | None = None
    """Step times that were measured before the first run."""
    seconds_spent: float = 0.0
    """Seconds that the study has run, over all its sittings."""
    ended: str = ""
    """Why the study ended; empty while it can go on."""
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """Return what `compute` makes of this history, computed at the first call only: a history never changes."""
        if name not in self._known:
            self._known[name] = compute()
        found: T = self._known[name]
        return found

    def proposal(self, number: int) -> Proposal:
        """Return a proposal by its number (proposals are numbered from 1 without gaps)."""
        return self.proposals[number - 1]

    def verdict(self, number: int) -> Decision | None:
        """Return the last decision on a proposal."""
        return self.once("verdicts", lambda: {d.proposal: d for d in self.decisions}).get(number)

    def kept(self) -> tuple[int, ...]:
        """Return the numbers of the proposals that stand as kept, oldest first: the ladder above the baseline."""
        return self.once("kept", self._kept)

    def _kept(self) -> tuple[int, ...]:
        return tuple(p.number for p in self.proposals if (d := self.verdict(p.number)) and d.verdict == "keep")

    @property
    def incumbent(self) -> int:
        """The candidate that holds the best place: the last kept proposal, or 0 for the baseline."""
        return max(self.kept(), default=0)

    def runs_of(self, candidate: int, *roles: Role) -> tuple[RunRecord, ...]:
        """Return the runs of a candidate that count: contaminated, lost and interrupted ones do not."""
        runs = self.once("runs by candidate", self._runs_by_candidate).get(candidate, ())
        return tuple(run for run in runs if run.role in roles) if roles else runs

    def _runs_by_candidate(self) -> dict[int, tuple[RunRecord, ...]]:
        found: dict[int, list[RunRecord]] = defaultdict(list)
        for run in self.runs:
            if not run.is_infrastructure_failure:
                found[run.candidate].append(run)
        return {candidate: tuple(runs) for candidate, runs in found.items()}

    def unselected_runs(self, candidate: int) -> tuple[RunRecord, ...]:
        """Return the runs of a candidate that were not chosen for being fast.

        Those that no one can compare, since the machine changed its speed, are still in it: what enters an estimate
        is `noise.counted_runs`.
        """
        return tuple(run for run in self.runs_of(candidate) if run.role not in UNCOUNTED_ROLES)

    def config_of(self, candidate: int) -> dict[str, Any]:
        """Return the dotted config values that a candidate changes on the base config, oldest change first."""
        merged: dict[str, Any] = {}
        for proposal in self.changes_of(candidate):
            merged.update(proposal.patch)
        return merged

    def changes_of(self, candidate: int) -> tuple[Proposal, ...]:
        """Return the proposals that a candidate is made of, oldest first; none for the baseline."""
        found: list[Proposal] = []
        while candidate:
            found.append(self.proposal(candidate))
            candidate = found[-1].parent
        return tuple(reversed(found))

    def code_of(self, candidate: int) -> tuple[str, ...]:
        """Return the code changes that a candidate is made of, oldest first, each against the one before it."""
        return tuple(proposal.code for proposal in self.changes_of(candidate) if proposal.code)
