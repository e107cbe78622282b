"""One section of SPEEDRUN.md for one proposal: observation, hypothesis, diff, result, verdict."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from hotlap.core.clock import ClockName
from hotlap.core.records import Decision, History, Proposal, RunRecord
from hotlap.core.targets import parse_target
from hotlap.report.summary import LadderRow
from hotlap.report.text import (
    NOTHING,
    delta_text,
    fenced,
    inside_html,
    number_text,
    one_line,
    percent_text,
    ratio_text,
    revisit_text,
    seconds_text,
    step_time_text,
    table,
    time_text,
)
from hotlap.runs.notes import Note

DERIVED_METRICS: Final = ("eval_loss_gain_last_tenth",)
"""Figures for the rules that propose, which no evaluation has measured."""
Notes = Mapping[str, Sequence[Note]]
"""Notes by run id."""


def proposal_section(
    proposal: Proposal, history: History, notes: Notes, row: LadderRow | None = None, before: LadderRow | None = None
) -> str:
    """Return the section of a proposal; what was not kept is folded. `row` is its rung of the ladder."""
    decision = history.verdict(proposal.number)
    body = "\n\n".join(_body(proposal, history, notes))
    name = f"{proposal.number} · {proposal.title}"
    if row is not None and before is not None:
        return f"### {one_line(f'{name}: {_step(row, before)}, keep')}\n\n{body}"
    verdict = decision.verdict if decision else "not decided yet"
    return (
        f"<details>\n<summary><b>{inside_html(name)}</b>: {verdict}{inside_html(_in_short(decision))}</summary>\n\n"
        f"{body}\n\n</details>"
    )


def runs_table(runs: Sequence[RunRecord], told: str = "") -> str:
    """Return runs with both clocks, steps, step time, final metrics and outcome, one a line.

    `told` is what is said of them elsewhere: a reason that stands there is not repeated.
    """
    headers = ["run", "role", "seed", "train", "wall", "steps", "ms/step", "final evaluation", "outcome"]
    return table(headers, [_run_row(run, told) for run in runs], words=("run", "role", "final evaluation", "outcome"))


def _body(proposal: Proposal, history: History, notes: Notes) -> list[str]:
    """Return the paragraphs of a section."""
    parent = f"#{proposal.parent}" if proposal.parent else "the baseline"
    expected = f"*Predicted: {_predicted(proposal, parent)}* ({one_line(proposal.proposer)})."
    runs = [run for run in history.runs if run.candidate == proposal.number]
    decisions = [decision for decision in history.decisions if decision.proposal == proposal.number]
    parts = [
        f"**Observation** {one_line(proposal.observation)}",
        f"**Hypothesis** {one_line(proposal.hypothesis)} {expected}",
        f"**Diff** against {parent}",
        fenced(proposal.diff, "diff") if proposal.diff.strip() else "(nothing recorded)",
        "**Result** " + ("time to target on both clocks" if runs else "it has not run yet"),
    ]
    if runs:
        parts.append(runs_table(runs, "\n".join(decision.reason for decision in decisions)))
    parts += [f"**Note** on {run.run_id}: {one_line(note.text)}" for run in runs for note in notes.get(run.run_id, ())]
    return parts + _verdicts(decisions)


def _predicted(proposal: Proposal, parent: str) -> str:
    gain = 1 - proposal.predicted_ratio
    step = proposal.predicted_step_seconds
    told = f", {step_time_text(step)} ms a step by the bench" if step is not None else ""
    if not gain:
        return f"as fast as {parent}{told}"
    return f"{percent_text(abs(gain))} {'more' if gain < 0 else 'less'} time than {parent}{told}"


def _verdicts(decisions: Sequence[Decision]) -> list[str]:
    """Return all decisions on a proposal, the last one being the one that stands, with their statistics."""
    parts = []
    for number, decision in enumerate(decisions, start=1):
        label = "**Verdict**" if number == len(decisions) else "**At first**"
        sentence, _, rest = decision.reason.strip().partition("\n")
        parts.append(f"{label} {decision.verdict}: {one_line(sentence)}")
        if rest.strip():
            parts.append(fenced(rest))  # the last lines of a log
        if decision.statistics:
            parts.append("*Statistics* " + ", ".join(_statistic(*pair) for pair in sorted(decision.statistics.items())))
        if number == len(decisions) and (reopens := revisit_text(decision.revisit_if)):
            parts.append(f"*Revisit if* {reopens}")
    return parts


def _statistic(name: str, value: float) -> str:
    if name.endswith("_seconds"):
        return f"{name.removesuffix('_seconds').replace('_', ' ')} {seconds_text(value)}"
    return f"{name.replace('_', ' ')} {number_text(value)}"


def _step(row: LadderRow, before: LadderRow) -> str:
    """Return `3:21 → 2:31 (−50.0 s, 1.33× faster)`."""
    times = f"{seconds_text(before.figures.median_seconds)} → {seconds_text(row.figures.median_seconds)}"
    return (
        times if math.isnan(row.ratio) else f"{times} ({delta_text(row.delta_seconds)}, {ratio_text(row.ratio)} faster)"
    )


def _in_short(decision: Decision | None) -> str:
    return f", {decision.reason.strip().splitlines()[0]}" if decision else ""


def _run_row(run: RunRecord, told: str) -> list[str]:
    outcome = run.outcome.replace("_", " ")
    if run.outcome != "reached" and run.reason and run.reason.strip() not in told:
        outcome = f"{outcome}: {run.reason.strip().splitlines()[0]}"
    if run.contaminated:
        outcome = f"{outcome}, repeated: {run.contaminated}"
    elif run.outcome == "reached" and (why := run.guards.get("evaluated_again")):
        outcome = f"{outcome}, evaluated again ({why})"
    steps = run.time_to_target.get("step", run.steps) if run.time_to_target else run.steps
    aims = _targeted(run)
    metrics = [
        f"{name} {number_text(value)}"
        for name, value in run.metrics.items()
        if name in aims or (name.startswith("eval_") and name not in DERIVED_METRICS)
    ]
    return [
        run.run_id,
        run.role,
        str(run.seed),
        time_text(run, "train"),
        time_text(run, "wall"),
        f"{int(steps):,}",
        step_time_text(run.seconds_per_step),
        ", ".join(metrics) or NOTHING,
        outcome,
    ]


def _targeted(run: RunRecord) -> set[str]:
    """Return the metrics that the targets of somebody else's command are about, whatever they are called."""
    targets = run.config.get("targets") if run.config.get("command") else ()
    return {parse_target(str(text), is_any_metric=True).metric for text in targets or ()}


def times_text(runs: Sequence[RunRecord], clock: ClockName) -> str:
    """Return the times of runs on one clock, each with its id."""
    return ", ".join(f"{run.run_id} {time_text(run, clock)}" for run in runs) or NOTHING
