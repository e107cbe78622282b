"""What stands at the top of SPEEDRUN.md and of `hotlap status`: one summary of a study, computed once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from hotlap.core.clock import ClockName
from hotlap.core.goals import Goal, parse_goal
from hotlap.core.records import History, RecordClaim

STATUS_SCHEMA: Final = "hotlap/status/1"

COMMAND_SIGN: Final = "your own command: "
"""How the task of a study of somebody else's command begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFigures:
    """How noisy the clock is, and what that lets the study see."""

    sigma: float
    """Standard deviation of log time to target between seeds."""
    degrees_of_freedom: int
    smallest_visible_effect: float
    """Largest ratio of times (below 1) that a screen and its confirmation mostly see."""
    runs_needed: Mapping[float, int]
    """Runs of each side that show a gain of so much (0.01: 1 % less time)."""
    expected_false_keeps: float
    """Changes without effect that would be kept in as many tries as were made."""
    clock_sigma: float = math.nan
    """Standard deviation of log step time between runs of one recipe."""
    smallest_visible_timing: float = math.nan
    """Largest ratio of step times (below 1) that the systems lane mostly sees."""
    metric: str = ""
    """Metric of the first target; the figures below are those of the calibration runs at one reading of the clock."""
    metric_at_seconds: float = math.nan
    metric_mean: float = math.nan
    metric_sigma: float = math.nan
    metric_slope: float = math.nan
    """Change of the metric per second at that reading."""
    drifts: tuple[float, ...] = ()
    """Step time after each change of the machine's speed, relative to before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFigures:
    """What the unselected runs of a candidate say; infinite seconds are misses."""

    median_seconds: float
    low: float
    high: float
    reached: int
    runs: int
    steps: float = math.nan
    seconds_per_step: float = math.nan
    least_seconds: float = math.nan
    """The median, or what it is at least: a miss counts with its last reading. Not a number before it has run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFigures:
    """What the calls of an agent took, and what may still be spent on it."""

    calls: int
    calls_allowed: int
    proposals: int
    """Calls that led to a proposal."""
    seconds: float
    prompt_tokens: int | None
    """Tokens that were read, None where nobody counted any."""
    completion_tokens: int | None
    cost: float | None
    """US dollars; a call that nobody told the price of counts with the most that it can have cost. None: unknown."""
    is_cost_known: bool
    """Whether each call's price was told."""
    cost_allowed: float | None

    @property
    def calls_left(self) -> int:
        """Calls that may still be made."""
        return max(0, self.calls_allowed - self.calls)

    @property
    def cost_left(self) -> float | None:
        """US dollars that may still be spent, None without a limit."""
        return None if self.cost_allowed is None else max(0.0, self.cost_allowed - (self.cost or 0.0))


NO_RUNS: Final = CandidateFigures(median_seconds=math.inf, low=math.inf, high=math.inf, reached=0, runs=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRow:
    """One rung: the baseline, or a kept change."""

    number: int
    title: str
    figures: CandidateFigures
    delta_seconds: float
    """Difference to the rung before; not a number where either is a miss."""
    ratio: float
    """How many times faster than the rung before."""
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """Where a study stands."""

    name: str
    clock: ClockName
    targets: tuple[str, ...]
    task: str
    machine: str
    noise: NoiseFigures
    baseline: CandidateFigures
    incumbent_number: int
    incumbent: CandidateFigures
    record: RecordClaim | None
    """The last confirmed claim."""
    speedup: float
    """Baseline over record, or over incumbent while there is no record; not a number while neither reached."""
    speedup_interval: tuple[float, float] | None
    """90 % interval of a claimed speedup; an end that the runs do not bound is 0 or infinite."""
    is_lower_bound: bool
    """Whether the median baseline is a miss, so that the speedup is at least this."""
    tries: int
    """Decided proposals that ran; leave-one-out ones are no tries."""
    kept: int
    num_runs: int
    seconds_spent: float
    budget_seconds: float
    ladder: tuple[LadderRow, ...]
    ended: str
    goal: Goal | None = None
    """Where the study was asked to stop (`stop_when`)."""
    goal_seconds: float = math.nan
    """The time to target that reaches it; not a number while the baseline has not run."""
    agent: AgentFigures | None = None
    """The calls of its agent, None where it has none."""

    @property
    def has_reached_goal(self) -> bool:
        """Whether the incumbent's unselected runs are as fast as was asked."""
        return self.incumbent.median_seconds <= self.goal_seconds

    @property
    def budget_left_seconds(self) -> float:
        """What is left of the study's budget."""
        return max(0.0, self.budget_seconds - self.seconds_spent)

    @property
    def record_seconds(self) -> float | None:
        """Median of the record runs, None until a claim is confirmed."""
        return self.record.median_seconds if self.record else None

    def document(self) -> dict[str, Any]:
        """Return the facts as one JSON document; misses and what is not a number are null."""
        noise = asdict(self.noise)
        noise["runs_needed"] = {f"{effect:g}": runs for effect, runs in self.noise.runs_needed.items()}
        facts = {
            "schema": STATUS_SCHEMA,
            "name": self.name,
            "clock": self.clock,
            "targets": self.targets,
            "baseline_seconds": self.baseline.median_seconds,
            "record_seconds": self.record_seconds,
            "incumbent_seconds": self.incumbent.median_seconds,
            "speedup": self.speedup,
            "speedup_is_lower_bound": self.is_lower_bound,
            "speedup_interval": self.speedup_interval,
            "tries": self.tries,
            "kept": self.kept,
            "runs": self.num_runs,
            "seconds_spent": self.seconds_spent,
            "budget_left_seconds": self.budget_left_seconds,
            "baseline": asdict(self.baseline),
            "incumbent": {"candidate": self.incumbent_number, **asdict(self.incumbent)},
            "record": asdict(self.record) if self.record else None,
            "goal": str(self.goal) if self.goal else None,
            "goal_seconds": self.goal_seconds,
            "has_reached_goal": self.has_reached_goal if self.goal else None,
            "noise": noise,
            "agent": self._agent_document(),
            "ladder": [asdict(row) for row in self.ladder],
            "ended": self.ended,
        }
        plain: dict[str, Any] = _null_for_not_finite(facts)
        return plain

    def _agent_document(self) -> dict[str, Any] | None:
        if (agent := self.agent) is None:
            return None
        return {**asdict(agent), "calls_left": agent.calls_left, "cost_left": agent.cost_left}


def summarize(
    history: History,
    protocol: Mapping[str, Any],
    noise: NoiseFigures,
    candidates: Mapping[int, CandidateFigures],
) -> StudySummary:
    """Return the summary of a study; `candidates` needs the baseline and every kept proposal."""
    config = protocol.get("config", {})
    incumbent = history.incumbent
    baseline = candidates.get(0, NO_RUNS)
    record = next((claim for claim in reversed(history.claims) if claim.confirmed), None)
    best = record.median_seconds if record else candidates.get(incumbent, NO_RUNS).median_seconds
    changes = {p.number for p in history.proposals if p.role != "ablation"}
    decided = {decision.proposal for decision in history.decisions}
    goal = parse_goal(config["stop_when"]) if config.get("stop_when") else None
    return StudySummary(
        name=config.get("name", "study"),
        clock=history.clock,
        targets=tuple(config.get("targets", ())),
        task=_task(history, config),
        machine=_machine(history, protocol),
        noise=noise,
        baseline=baseline,
        incumbent_number=incumbent,
        incumbent=candidates.get(incumbent, NO_RUNS),
        record=record,
        speedup=_speedup(baseline, record, best),
        speedup_interval=record.speedup_interval if record else None,
        is_lower_bound=baseline.runs > 0 and not math.isfinite(baseline.median_seconds),
        tries=sum(bool(history.runs_of(number)) for number in changes & decided),
        kept=len(changes & set(history.kept())),
        num_runs=len(history.runs),
        seconds_spent=history.seconds_spent,
        budget_seconds=float(config.get("budget", {}).get("total", math.nan)),
        ladder=tuple(_ladder(history, candidates)),
        ended=history.ended,
        goal=goal,
        goal_seconds=goal.limit_seconds(baseline.least_seconds) if goal else math.nan,
        agent=_agent(history, config.get("agent")),
    )


def _agent(history: History, settings: Mapping[str, Any] | None) -> AgentFigures | None:
    """Return what a study's agent was asked and what that took; None where nobody asks one."""
    calls = history.calls
    if settings is None and not calls:
        return None
    settings = settings or {}
    costs = [call.cost for call in calls if call.cost is not None]
    return AgentFigures(
        calls=len(calls),
        calls_allowed=int(settings.get("calls", len(calls))),
        proposals=sum(call.proposal is not None for call in calls),
        seconds=sum(call.seconds or 0.0 for call in calls),
        prompt_tokens=_sum_of([call.prompt_tokens for call in calls]),
        completion_tokens=_sum_of([call.completion_tokens for call in calls]),
        cost=sum(costs) if costs else None,
        is_cost_known=all(call.is_cost_known for call in calls),
        cost_allowed=settings.get("cost"),
    )


def _sum_of(counts: Sequence[int | None]) -> int | None:
    """Return the sum of what is known, None where nothing is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _speedup(baseline: CandidateFigures, record: RecordClaim | None, best: float) -> float:
    """Return the claimed speedup where there is one: the machine may have changed its speed since."""
    if record is not None and record.speedup is not None:
        return record.speedup
    return baseline.least_seconds / best if best > 0 and math.isfinite(best) else math.nan


def _ladder(history: History, candidates: Mapping[int, CandidateFigures]) -> list[LadderRow]:
    rows: list[LadderRow] = []
    for number in (0, *history.kept()):
        figures = candidates.get(number, NO_RUNS)
        now = figures.median_seconds
        before = rows[-1].figures.median_seconds if rows else math.nan
        both = math.isfinite(now) and math.isfinite(before) and now > 0
        rows.append(
            LadderRow(
                number=number,
                title=history.proposal(number).title if number else "baseline",
                figures=figures,
                delta_seconds=now - before if both else math.nan,
                ratio=before / now if both else math.nan,
                verdict="keep" if number else "",
            )
        )
    return rows


def _task(history: History, config: Mapping[str, Any]) -> str:
    """Return the task and its data in one phrase."""
    if command := config.get("command"):
        return f"{COMMAND_SIGN}{command['run']}"
    name = str(config.get("task", {}).get("name", "unknown"))
    data = next((found for run in history.runs if (found := run.environment.get("data"))), None)
    if not isinstance(data, Mapping):
        return name
    num_train = data.get("num_train", "?")
    trained_on = "endless" if num_train is None else f"{num_train:,}"
    sizes = f"{trained_on} training and {data.get('num_eval', '?'):,} evaluation examples"
    return f"{name}: {sizes} from {data.get('source', 'unknown')} (hash {str(data.get('hash', '?'))[:12]})"


def _machine(history: History, protocol: Mapping[str, Any]) -> str:
    """Return device and versions in one phrase."""
    environment = next((run.environment for run in history.runs if run.environment), {})
    device = str(protocol.get("device", environment.get("device", "unknown device")))
    of_device = protocol.get("processor") if device == "cpu" else environment.get("device_name")
    parts = [f"{device} ({of_device})" if of_device else device]
    if threads := protocol.get("threads"):
        parts.append(f"{threads} threads")
    parts += [f"{name} {version}" for name in ("python", "torch", "hotlap") if (version := protocol.get(name))]
    return ", ".join(parts)


def _null_for_not_finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _null_for_not_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_null_for_not_finite(inner) for inner in value]
    return value
