"""The opening of SPEEDRUN.md and the body of `hotlap status`: the same facts, in the same words."""

import math
from typing import Final

from hotlap.core.clock import GRID_RATIO
from hotlap.core.records import History, RecordClaim
from hotlap.report.summary import COMMAND_SIGN, AgentFigures, CandidateFigures, NoiseFigures, StudySummary
from hotlap.report.text import count_text, interval_text, number_text, percent_text, ratio_text, seconds_text

PACE_WORTH_TELLING: Final = 0.01
CLOCK_DEFINITIONS: Final = {
    "train": (
        "seconds inside optimizer steps, read with the device synchronised; "
        "start-up, compiling, evaluating and saving are not counted"
    ),
    "wall": "seconds since the launcher started the process; everything counts",
}


def headline(summary: StudySummary) -> str:
    """Return the result in one sentence, and how far it is proven."""
    before = seconds_text(summary.baseline.median_seconds)
    if summary.record:
        claim = summary.record
        gain = ratio_text(summary.speedup, is_lower_bound=summary.is_lower_bound)
        within = interval_text(summary.speedup_interval)
        proof = f"90 % interval {within}, p = {claim.p_value:.3g}" if within else f"p = {claim.p_value:.3g}"
        return f"{before} → {seconds_text(claim.median_seconds)}: {gain} faster, a record ({proof})"
    if not summary.baseline.runs:
        return "the baseline has not run yet"
    if not summary.incumbent_number:
        return f"the baseline stands at {before}; nothing was kept so far"
    gain = ratio_text(summary.speedup, is_lower_bound=summary.is_lower_bound)
    return f"{before} → {seconds_text(summary.incumbent.median_seconds)}: {gain} faster, not confirmed as a record"


def header_facts(summary: StudySummary) -> list[tuple[str, str]]:
    """Return label and sentence of every fact about a study: what came out, then how it was measured."""
    return [*result_facts(summary), *measuring_facts(summary)]


def result_facts(summary: StudySummary) -> list[tuple[str, str]]:
    """Return what came out: the aim, the evidence, the noise and the cost."""
    facts = [
        ("Task", summary.task),
        ("Targets", f"{_targets(summary)}, on the {summary.clock} clock"),
        ("Record", _record(summary)),
        ("Baseline", figures_text(summary.baseline)),
    ]
    if summary.incumbent_number:
        facts.append(("Incumbent", f"#{summary.incumbent_number}: {figures_text(summary.incumbent)}"))
    if summary.goal:
        facts.append(("Goal", _goal(summary)))
    return [
        *facts,
        ("Tries", _tries(summary)),
        ("Noise", _noise(summary)),
        *_drift(summary.noise),
        ("Cost", _cost(summary)),
        *_agent(summary.agent),
    ]


def measuring_facts(summary: StudySummary) -> list[tuple[str, str]]:
    """Return how the times were measured."""
    return [
        ("Hardware", summary.machine),
        ("Clock", f"{summary.clock}: {CLOCK_DEFINITIONS[summary.clock]}; {_resolution(summary)}"),
        *_calibration(summary.noise),
    ]


def guards_facts(history: History) -> list[tuple[str, str]]:
    """Return what the guards found, in one sentence; nothing for a study that had none."""
    states = ("passed", "failed")
    runs = [run for run in history.runs if run.guards.get("state") in states and not run.is_infrastructure_failure]
    if not runs:
        return []
    failed = [run.run_id for run in runs if run.guards["state"] == "failed"]
    again = sum("evaluated_again" in run.guards for run in runs)
    gaps = [float(run.guards["audit_gap"]) for run in runs if run.guards.get("audit_gap") is not None]
    low, high = (
        (f"{100 * math.expm1(gap):+.1f}".replace("-", "−") for gap in (min(gaps), max(gaps))) if gaps else ("", "")
    )
    text = f"{count_text(len(runs), 'run')} checked, {again} of them evaluated again from their saved weights"
    text += f"; loss on audit data {low} to {high} % against the evaluation data" if gaps else ""
    return [("Guards", f"{text}; invalid: {', '.join(failed)}" if failed else f"{text}; none failed")]


def figures_text(figures: CandidateFigures) -> str:
    """Return median, spread and n of a candidate."""
    if not figures.runs:
        return "no run that counts yet"
    text = f"{seconds_text(figures.median_seconds)}, median of {count_text(figures.runs, 'run')}"
    return f"{text} ({spread_text(figures)}; {figures.reached} of {figures.runs} reached)"


def spread_text(figures: CandidateFigures) -> str:
    """Return the fastest and the slowest run of a candidate."""
    if figures.runs == 1 or math.isnan(figures.low):
        return seconds_text(figures.low)
    return f"{seconds_text(figures.low)} to {seconds_text(figures.high)}"


def _resolution(summary: StudySummary) -> str:
    if summary.task.startswith(COMMAND_SIGN):
        return "the command evaluates when it does, and no time is known more finely than its evaluations lie apart"
    return f"evaluations lie {GRID_RATIO[summary.clock] - 1:.0%} apart, so no time is known more finely".replace(
        "%", " %"
    )


def _noise(summary: StudySummary) -> str:
    noise = summary.noise
    needed = ", ".join(f"{effect:.0%} {runs}".replace("%", " %:") for effect, runs in noise.runs_needed.items())
    text = (
        f"σ = {percent_text(noise.sigma)} of the time ({count_text(noise.degrees_of_freedom, 'degree')} of freedom); "
        f"smallest visible effect {percent_text(1 - noise.smallest_visible_effect)} less time; "
        f"runs of each side that would show {needed}"
    )
    if math.isnan(noise.clock_sigma):
        return text
    return (
        f"{text}; step time σ = {percent_text(noise.clock_sigma)}, so a change of the step time alone shows from "
        f"{percent_text(1 - noise.smallest_visible_timing)}"
    )


def _calibration(noise: NoiseFigures) -> list[tuple[str, str]]:
    """Return what the calibration runs say of the metric, and what a part of the time is worth in it."""
    if not noise.metric or math.isnan(noise.metric_mean):
        return []
    worth = abs(noise.metric_slope) * noise.metric_at_seconds / 100
    moves = "falls" if noise.metric_slope < 0 else "rises"
    value, at = number_text(noise.metric_mean), seconds_text(noise.metric_at_seconds)
    text = (
        f"{noise.metric} of the baseline at {at} is {value}, "
        f"σ = {number_text(noise.metric_sigma, '.2g')} between seeds; it {moves} by "
        f"{number_text(abs(noise.metric_slope), '.2g')} a second: 1 % of the time is worth {number_text(worth, '.2g')}"
    )
    return [("Calibration", text)]


def _drift(noise: NoiseFigures) -> list[tuple[str, str]]:
    """Say by how much the machine changed its speed, and what was made of it."""
    if not noise.drifts:
        return []
    changes = ", ".join(f"{ratio - 1:+.1%}".replace("%", " %").replace("-", "−") for ratio in noise.drifts)
    text = f"step times changed by {changes}; times from before count in seconds of the machine as it is now"
    return [("Drift", text)]


def _tries(summary: StudySummary) -> str:
    expected = number_text(summary.noise.expected_false_keeps, ".2g")
    tried = count_text(summary.tries, "change")
    return f"{tried} tried, {summary.kept} kept; by chance alone {expected} without effect would be among the kept"


def _record(summary: StudySummary) -> str:
    claim = summary.record
    if claim is None:
        return "none claimed yet"
    against = f"#{claim.against}" if claim.against else "the baseline"
    within = interval_text(summary.speedup_interval)
    return (
        f"#{claim.candidate}: {seconds_text(claim.median_seconds)}, median of its record runs; against {against} "
        f"p = {claim.p_value:.3g} where {claim.alpha:.3g} or less was needed"
        + (f"; speedup over the baseline {within} (90 % interval)" if within else "")
        + _pace(summary, claim)
    )


def _pace(summary: StudySummary, claim: RecordClaim) -> str:
    """Say what the baseline's time counts for, where the machine was faster or slower by the time of the look."""
    if abs(claim.pace - 1) < PACE_WORTH_TELLING or not math.isfinite(summary.baseline.median_seconds):
        return ""
    counted = seconds_text(claim.pace * summary.baseline.median_seconds)
    return f", with the baseline at {counted}: its steps took {claim.pace:.2f} times as long by then"


def _goal(summary: StudySummary) -> str:
    """Say what was asked for and how far the study has come."""
    asked = f"{summary.goal} (stop_when)"
    if math.isnan(summary.goal_seconds):
        return asked
    now = seconds_text(summary.incumbent.median_seconds)
    reached = "reached" if summary.has_reached_goal else "not reached"
    who = f"#{summary.incumbent_number}" if summary.incumbent_number else "the baseline"
    return f"{asked}, so {seconds_text(summary.goal_seconds)} or less: {reached}, {who} takes {now}"


def _targets(summary: StudySummary) -> str:
    together = " at the same evaluation" if len(summary.targets) > 1 else ""
    return " and ".join(summary.targets) + together


def _agent(agent: AgentFigures | None) -> list[tuple[str, str]]:
    """Say what the calls of an agent took, and what may still be spent on it."""
    if agent is None:
        return []
    proposals = count_text(agent.proposals, "proposal")
    parts = [f"{agent.calls} of {count_text(agent.calls_allowed, 'call')} made ({agent.calls_left} left), {proposals}"]
    if agent.calls:
        parts.append(seconds_text(agent.seconds))
    if agent.prompt_tokens is not None or agent.completion_tokens is not None:
        parts.append(f"{agent.prompt_tokens or 0:,} tokens read, {agent.completion_tokens or 0:,} written")
    if agent.cost is not None:
        most = "" if agent.is_cost_known else "at most "
        parts.append(f"{most}${agent.cost:.4f}")
    elif agent.calls:
        parts.append("cost not known")
    if (left := agent.cost_left) is not None:
        parts.append(f"${left:.4f} of ${agent.cost_allowed:g} left")
    return [("Agent", "; ".join(parts))]


def _cost(summary: StudySummary) -> str:
    spent = f"{seconds_text(summary.seconds_spent)} of {seconds_text(summary.budget_seconds)} used"
    return f"{spent} by {count_text(summary.num_runs, 'run')}" + (f"; ended: {summary.ended}" if summary.ended else "")
