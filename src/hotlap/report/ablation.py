"""An ablation in figures, and these figures as tables: what `hotlap ablate` prints, its journal and its report.

A difference is called distinguishable only where its interval leaves out zero; everything else is told as what it is,
a difference that these runs cannot tell from luck.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from hotlap.analysis.ablation import ALPHA, Comparison, Figures, Quantity
from hotlap.core.clock import ClockName
from hotlap.core.durations import format_seconds
from hotlap.report.header import CLOCK_DEFINITIONS
from hotlap.report.journal import MARKER
from hotlap.report.report_tables import Grid, value_text
from hotlap.report.text import NOTHING, count_text, one_line, seconds_text, table

SUMMARY_SCHEMA: Final = "hotlap/ablation-summary/1"
NO_EVIDENCE: Final = "no run has come to an end yet"

RunRow = tuple[str, str, int, str, float, int, float, str]
"""Run, variant, seed, outcome, last value of the metric, steps, last reading of the clock, note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantFacts:
    """One of the configs that are compared."""

    number: int
    """0 for the reference."""
    title: str
    changes: tuple[tuple[str, str], ...]
    """Key and value of what it changes on the reference."""
    outcomes: Mapping[str, int]
    """Of the runs that count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationSummary:
    """Where an ablation stands."""

    name: str
    clock: ClockName
    task: str
    metric: str
    """The loss that the variants are compared by."""
    targets: tuple[str, ...]
    keys: tuple[str, ...]
    variants: tuple[VariantFacts, ...]
    seeds: int
    """Runs that each variant is to have."""
    at_step: int | None
    """Step at which losses were asked for."""
    quantities: tuple[Quantity, ...]
    """Empty before a run has come to an end."""
    runs: tuple[RunRow, ...]
    num_counted: int
    run_seconds: float
    """Longest run, on the clock."""
    seconds_spent: float
    seconds_total: float
    machine: str
    ended: str

    @property
    def reference(self) -> str:
        """What the first variant is called."""
        return self.variants[0].title

    def document(self) -> dict[str, Any]:
        """Return the summary as plain values for JSON."""
        values = asdict(self)
        return {
            "schema": SUMMARY_SCHEMA,
            "alpha": ALPHA,
            "correction": "holm",
            **values,
            "quantities": [_quantity_document(quantity) for quantity in self.quantities],
            "runs": [dict(zip(_run_keys(self.metric), row, strict=True)) for row in self.runs],
        }


def _run_keys(metric: str) -> tuple[str, ...]:
    """Return what the figures of a run are called."""
    return ("run", "variant", "seed", "outcome", metric, "steps", "seconds", "note")


def _quantity_document(quantity: Quantity) -> dict[str, Any]:
    figures = [{**each._asdict(), "values": dict(each.values)} for each in quantity.figures]
    comparisons = [each._asdict() for each in quantity.comparisons]
    return {**quantity._asdict(), "figures": figures, "comparisons": comparisons}


def ablation_headline(summary: AblationSummary) -> str:
    """Return the result in one line: what can be told apart at equal steps and at equal clock."""
    found = [quantity for quantity in summary.quantities if quantity.key in ("steps", "clock")]
    if not found:
        return f"{summary.name}: {NO_EVIDENCE}"
    parts = [f"{_place_text(summary, quantity)} {_apart_text(summary, quantity)}" for quantity in found]
    return f"{summary.name}, against {summary.reference}: {'; '.join(parts)}"


def _apart_text(summary: AblationSummary, quantity: Quantity) -> str:
    told = [each for each in quantity.comparisons if each.is_distinguishable]
    if not told:
        return "nothing can be told apart"
    words = [
        f"{summary.variants[each.variant].title} is {'better' if each.is_better else 'worse'} "
        f"({difference_text(quantity, each)}, {interval_text(quantity, each)})"
        for each in told
    ]
    left = len(quantity.comparisons) - len(told)
    return ", ".join(words) + (f", {count_text(left, 'other')} cannot be told apart" if left else "")


def ablation_facts(summary: AblationSummary) -> list[tuple[str, str]]:
    """Return what was compared, how, and what it cost: label and text."""
    places = "; ".join(text for quantity in summary.quantities if (text := _used_text(summary, quantity)))
    facts = [
        ("Task", summary.task),
        ("Variants", f"{len(summary.variants)} of {', '.join(summary.keys)}; the reference is {summary.reference}"),
        ("Runs", f"{summary.num_counted} of {summary.seeds * len(summary.variants)}, {_seeds_text(summary)}"),
        ("Differences", _method_text()),
    ]
    if summary.targets:
        facts.append(("Targets", f"{' and '.join(summary.targets)}, which end a run"))
    if places:
        facts.append(("Places", places))
    facts += [
        ("Clock", f"{summary.clock}: {CLOCK_DEFINITIONS[summary.clock]}"),
        ("Hardware", summary.machine),
        ("Cost", f"{seconds_text(summary.seconds_spent)} of {seconds_text(summary.seconds_total)} used"),
    ]
    return [*facts, ("Ended", summary.ended)] if summary.ended else facts


def _seeds_text(summary: AblationSummary) -> str:
    return f"{count_text(summary.seeds, 'seed')} of each variant, in turn"


def _method_text() -> str:
    return (
        "means over seeds of the differences from the reference's run with the same seed; intervals by Student's t, "
        f"alpha {ALPHA:g} over all variants by Holm's procedure; distinguishable: the interval leaves out zero"
    )


def overview_grid(summary: AblationSummary) -> Grid:
    """Return one row a variant: means and standard deviations over seeds."""
    headers = ("variant", "outcomes", *(quantity_title(summary, quantity) for quantity in summary.quantities))
    rows = tuple(
        (
            variant.title,
            _outcomes_text(variant),
            *(figures_text(quantity, quantity.figures[variant.number]) for quantity in summary.quantities),
        )
        for variant in summary.variants
    )
    return Grid(headers, rows, ("variant", "outcomes"))


def comparison_grid(summary: AblationSummary) -> Grid:
    """Return one row for each variant and quantity: the difference from the reference, and is it more than luck."""
    rows = tuple(
        (
            variant.title,
            quantity_title(summary, quantity),
            difference_text(quantity, found),
            interval_text(quantity, found),
            str(found.pairs),
            verdict_text(found),
        )
        for variant in summary.variants[1:]
        for quantity in summary.quantities
        for found in quantity.comparisons
        if found.variant == variant.number
    )
    headers = ("variant", "quantity", f"against {summary.reference}", "interval", "seeds", "distinguishable")
    return Grid(headers, rows, ("variant", "quantity", "distinguishable"))


def run_grid(summary: AblationSummary) -> Grid:
    """Return every run in the order in which they were made."""
    rows = tuple(
        (run, variant, str(seed), outcome, value_text(loss), f"{steps:,}", seconds_text(seconds), note)
        for run, variant, seed, outcome, loss, steps, seconds, note in summary.runs
    )
    headers = ("run", "variant", "seed", "outcome", summary.metric, "steps", f"{summary.clock} clock", "note")
    return Grid(headers, rows, ("run", "variant", "outcome", "note"))


def quantity_title(summary: AblationSummary, quantity: Quantity) -> str:
    """Return what a quantity is called in a table, with the place at which runs are compared."""
    match quantity.key:
        case "steps" | "clock":
            return f"{summary.metric} {_place_text(summary, quantity)}"
        case "final":
            return f"{summary.metric} at the end"
        case "target":
            return "time to target"
        case "speed":
            return "tokens/s"


def _place_text(summary: AblationSummary, quantity: Quantity) -> str:
    if quantity.key == "steps":
        return f"at step {quantity.place:,.0f}"
    return f"at {format_seconds(quantity.place)} ({summary.clock} clock)"


def _used_text(summary: AblationSummary, quantity: Quantity) -> str:
    """Say which evaluations stand for a place, where they do not lie at it."""
    first, last = quantity.used
    if quantity.key not in ("steps", "clock") or math.isnan(first):
        return ""
    what = "the last step that all runs reached" if quantity.key == "steps" else "the earliest last reading of a run"
    if quantity.key == "steps" and summary.at_step is not None and quantity.place == summary.at_step:
        what = "as asked for"
    if first == last == quantity.place:
        where = "every run was evaluated there"
    elif quantity.key == "steps":
        where = f"by evaluations at steps {first:,.0f} to {last:,.0f}"
    else:
        where = f"by evaluations at {format_seconds(first)} to {format_seconds(last)}"
    return f"{_place_text(summary, quantity)}, {what}: {where}"


def figures_text(quantity: Quantity, figures: Figures) -> str:
    """Return mean and spread of a variant, with what is missing: `1.234 ± 0.005`, `12.3 s ± 0.4 (2 of 3)`."""
    values = [value for _, value in figures.values]
    total = len(values) + len(figures.lacking)
    if math.isnan(figures.mean):
        return "a miss" if any(map(math.isinf, values)) else NOTHING
    finite = sum(map(math.isfinite, values))
    spread = "" if math.isnan(figures.spread) else f" ± {_amount_text(quantity, figures.spread)}"
    part = f" ({finite} of {total})" if finite < total else ""
    return f"{_value_text(quantity, figures.mean)}{spread}{part}"


def difference_text(quantity: Quantity, found: Comparison) -> str:
    """Return a difference with its sign: `−0.054`, or as a share: `−12.3 %`."""
    return _signed(quantity, found.difference)


def interval_text(quantity: Quantity, found: Comparison) -> str:
    """Return the interval of a difference with its level."""
    if math.isnan(found.low) or found.reason:
        return NOTHING
    level = f"{100 * found.level:.4g} %"
    return f"{_signed(quantity, found.low)} to {_signed(quantity, found.high)} ({level})"


def verdict_text(found: Comparison) -> str:
    """Say whether a difference is more than luck, and in which direction."""
    if found.is_distinguishable:
        return f"yes, {'better' if found.is_better else 'worse'}"
    return f"no: {found.reason}" if found.reason else "no"


def _outcomes_text(variant: VariantFacts) -> str:
    counts = [f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(variant.outcomes.items())]
    return ", ".join(counts) or "none yet"


def _value_text(quantity: Quantity, value: float) -> str:
    if quantity.key == "target":
        return format_seconds(value)
    return f"{value:,.0f}" if quantity.key == "speed" else f"{value:.4f}"


def _amount_text(quantity: Quantity, value: float) -> str:
    if quantity.key == "target":
        return format_seconds(value)
    return f"{value:,.0f}" if quantity.key == "speed" else f"{value:.2g}"


def _signed(quantity: Quantity, value: float) -> str:
    if math.isnan(value):
        return NOTHING
    text = f"{100 * value:+.1f} %" if quantity.is_relative else f"{value:+.3g}"
    return text.replace("-", "−")


# ---- the journal


def render_ablation(summary: AblationSummary) -> str:
    """Return the journal of an ablation; the same facts give the same bytes."""
    parts = [
        MARKER,
        f"# Ablation: {one_line(summary.name)}",
        f"**{one_line(ablation_headline(summary))}**",
        "\n".join(f"- **{label}** {one_line(text)}" for label, text in ablation_facts(summary)),
        "## Variants",
        _markdown(overview_grid(summary)),
        "Means ± standard deviations over seeds.",
        "## Differences",
        _markdown(comparison_grid(summary)) or f"{NO_EVIDENCE[0].upper()}{NO_EVIDENCE[1:]}.",
        "## What the variants change",
        "\n".join(_change_line(variant) for variant in summary.variants),
        "## Runs",
        _markdown(run_grid(summary)) or "None yet.",
    ]
    return "\n\n".join(parts) + "\n"


def _change_line(variant: VariantFacts) -> str:
    if not variant.number:
        return f"- {one_line(variant.title)}: the reference"
    changes = "; ".join(f"{key}: {value}" for key, value in variant.changes)
    return f"- {one_line(variant.title)}: {one_line(changes)}"


def _markdown(grid: Grid) -> str:
    return table(grid.headers, grid.rows, grid.words) if grid.rows else ""
