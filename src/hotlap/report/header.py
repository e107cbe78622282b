"""The opening of SPEEDRUN.md and the body of `hotlap status`: the same facts, in the same words."""

import math
from typing import Final

from hotlap.core.clock import GRID_RATIO
from hotlap.report.summary import CandidateFigures, StudySummary
from hotlap.report.text import count_text, number_text, percent_text, ratio_text, seconds_text

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
        return f"{before} → {seconds_text(claim.median_seconds)}: {gain} faster, a record (p = {claim.p_value:.3g})"
    if not summary.baseline.runs:
        return "the baseline has not run yet"
    if not summary.incumbent_number:
        return f"the baseline stands at {before}; nothing was kept so far"
    gain = ratio_text(summary.speedup, is_lower_bound=summary.is_lower_bound)
    return f"{before} → {seconds_text(summary.incumbent.median_seconds)}: {gain} faster, not confirmed as a record"


def header_facts(summary: StudySummary) -> list[tuple[str, str]]:
    """Return label and sentence of every fact at the top."""
    facts = [
        ("Task", summary.task),
        ("Targets", " and ".join(summary.targets) + " at the same evaluation"),
        ("Hardware", summary.machine),
        ("Clock", f"{summary.clock}: {CLOCK_DEFINITIONS[summary.clock]}; {_resolution(summary)}"),
        ("Noise", _noise(summary)),
        ("Tries", _tries(summary)),
        ("Baseline", figures_text(summary.baseline)),
    ]
    if summary.incumbent_number:
        facts.append(("Incumbent", f"#{summary.incumbent_number}: {figures_text(summary.incumbent)}"))
    facts.append(("Record", _record(summary)))
    facts.append(("Budget", _budget(summary)))
    return facts


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
    return f"evaluations lie {GRID_RATIO[summary.clock] - 1:.0%} apart, so no time is known more finely".replace(
        "%", " %"
    )


def _noise(summary: StudySummary) -> str:
    noise = summary.noise
    needed = ", ".join(f"{effect:.0%} {runs}".replace("%", " %:") for effect, runs in noise.runs_needed.items())
    return (
        f"σ = {percent_text(noise.sigma)} of the time ({count_text(noise.degrees_of_freedom, 'degree')} of freedom); "
        f"smallest visible effect {percent_text(1 - noise.smallest_visible_effect)} less time; "
        f"runs of each side that would show {needed}"
    )


def _tries(summary: StudySummary) -> str:
    expected = number_text(summary.noise.expected_false_keeps, ".2g")
    tried = count_text(summary.tries, "change")
    return f"{tried} tried, {summary.kept} kept; by chance alone {expected} without effect would be among the kept"


def _record(summary: StudySummary) -> str:
    claim = summary.record
    if claim is None:
        return "none claimed yet"
    against = f"#{claim.against}" if claim.against else "the baseline"
    return (
        f"#{claim.candidate}: {seconds_text(claim.median_seconds)}, median of its record runs; against {against} "
        f"p = {claim.p_value:.3g} where {claim.alpha:.3g} or less was needed"
    )


def _budget(summary: StudySummary) -> str:
    spent = f"{seconds_text(summary.seconds_spent)} of {seconds_text(summary.budget_seconds)} used"
    return f"{spent} by {count_text(summary.num_runs, 'run')}" + (f"; ended: {summary.ended}" if summary.ended else "")
