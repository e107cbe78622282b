"""The tables and sentences of a report: what stands under every chart, and what the Markdown form consists of.

Each function takes plain values and returns a `Grid` of texts or a sentence; the HTML and the Markdown form share them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from hotlap.analysis.correlation import Correlation, Correlations
from hotlap.analysis.effects import Effect
from hotlap.analysis.importance import Importances
from hotlap.analysis.table import RunTable
from hotlap.analysis.words import score_name, score_text
from hotlap.report.report_data import Cell, Cells, ReportData
from hotlap.report.text import NOTHING, count_text, seconds_text

YES, NO = "✓ yes", "✗ no"


class Grid(NamedTuple):
    """A table of texts."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]
    """Headers of the columns that hold words and align left."""


def place_grid(data: ReportData) -> Grid:
    """Return the ladder or the best points."""
    rows = tuple(tuple(map(cell_text, row)) for row in data.place_table.rows)
    words = ("change", "verdict", "run", "outcome", "what differs from the baseline", "name", "variant", "outcomes")
    return Grid(data.place_table.headers, rows, words)


def place_title(data: ReportData) -> str:
    """Return what the places are called."""
    return {"speedrun": "Ladder", "sweep": "Best points", "ablation": "Variants", "import": "Best runs"}[data.kind]


def curve_title(data: ReportData) -> str:
    """Return what the curves are called."""
    return f"{data.metric} against the {'steps' if data.kind == 'import' else 'clock'}"


def best_title(data: ReportData) -> str:
    """Return what the best config is held against; imported runs have no baseline."""
    return data.best_name if data.kind == "import" else f"{data.best_name}, against the baseline"


def place_text(data: ReportData) -> str:
    """Say what the chart of the places shows."""
    if not data.places:
        return "Nothing has come to an end yet."
    first, last = data.places[0], data.places[-1]
    if data.kind == "speedrun":
        steps = f"{count_text(len(data.places) - 1, 'kept change')} above the baseline"
        return f"Time to target of each rung: {steps}, from {first.text} to {last.text}."
    if data.kind == "ablation":
        return (
            f"{data.value_name}, mean over seeds: {', '.join(f'{place.label} {place.text}' for place in data.places)}."
        )
    what = "runs" if data.kind == "import" else "points"
    return f"The metric of the best {what}, best first: {first.text} for {first.label}."


def curve_grid(data: ReportData) -> Grid:
    """Return where each curve begins, ends and is lowest."""
    rows = tuple(
        (
            curve.run_id,
            curve.label or NOTHING,
            str(len(curve.values)),
            value_text(curve.values[0]),
            value_text(min(curve.values)),
            value_text(max(curve.values)),
            value_text(curve.values[-1]),
            f"{curve.seconds[-1]:,.0f}" if data.kind == "import" else seconds_text(curve.seconds[-1]),
        )
        for curve in data.curves
    )
    return Grid(
        ("run", "what", "points", f"first {data.metric}", "lowest", "highest", "last", "ends at"), rows, ("run", "what")
    )


def curve_text(data: ReportData) -> str:
    """Say what the chart of the curves shows."""
    if not data.curves:
        return f"No run has told its {data.metric} yet."
    ends = [curve.values[-1] for curve in data.curves]
    wanted = f" The dashed line is the target, {data.target:g}." if data.target is not None else ""
    axis = data.axis.partition(",")[0]
    return (
        f"{data.metric} of {count_text(len(data.curves), 'run')} against the {axis}; they end between "
        f"{value_text(min(ends))} and {value_text(max(ends))}.{wanted} Long curves are thinned out evenly."
    )


def importance_grid(found: Importances) -> Grid:
    """Return each parameter's share with its interval and what chance gives."""
    visible = {one.parameter for one in found.visible}
    rows = tuple(
        (one.parameter, f"{one.share:.2f}", f"{one.low:.2f} to {one.high:.2f}", f"{one.chance:.2f}", _yes(is_visible))
        for one in found.parameters
        for is_visible in [one.parameter in visible]
    )
    headers = ("parameter", "share of variance", "90 % interval", "by chance", "above chance")
    return Grid(headers, rows, ("parameter", "above chance"))


def importance_text(found: Importances) -> str:
    """Say how the shares came about and which of them stand out."""
    if not found.parameters:
        return found.text or "There is no parameter that varies."
    names = ", ".join(one.parameter for one in found.visible) or "none"
    return (
        f"Share of the variance of {score_name(found.score_name)} by {found.evaluator} over "
        f"{count_text(found.num_runs, 'run')}; whiskers are 90 % intervals, the mark is what a shuffled copy gets. "
        f"Above chance: {names}. {found.text}"
    ).strip()


def pair_grid(found: Importances) -> Grid:
    """Return what pairs of parameters do together; only those that stand out."""
    rows = tuple(
        (" × ".join(pair.parameters), f"{pair.share:.2f}", f"{pair.low:.2f} to {pair.high:.2f}", f"{pair.chance:.2f}")
        for pair in found.visible_pairs
    )
    return Grid(("pair", "share of variance", "90 % interval", "by chance"), rows, ("pair",))


def correlation_grid(found: Correlations) -> Grid:
    """Return every pair of numbers with its rank correlation, the strongest first."""
    return _pair_grid(found.pairs)


def clear_correlation_grid(found: Correlations, most: int) -> Grid:
    """Return the strongest pairs that tell of the runs and whose interval does not hold 0."""
    grid = _pair_grid([pair for pair in found.learned_pairs if pair.is_clear])
    return Grid(grid.headers[:-1], tuple(row[:-1] for row in grid.rows[:most]), grid.words)


def _pair_grid(pairs: Sequence[Correlation]) -> Grid:
    rows = tuple(
        (
            *map(score_name, pair.names),
            f"{pair.rho:+.2f}",
            f"{pair.low:+.2f} to {pair.high:+.2f}",
            str(pair.num_runs),
            _yes(pair.is_clear),
        )
        for pair in sorted(pairs, key=_strength)
    )
    headers = ("first", "second", "rank correlation", "95 % interval", "runs", "clear")
    return Grid(headers, rows, ("first", "second", "clear"))


def link_grid(found: Correlations) -> Grid:
    """Return how each category goes with each number that was measured."""
    rows = tuple(
        (
            link.category,
            score_name(link.number),
            f"{link.eta:.2f}",
            f"{link.p_value:.3f}",
            str(link.num_runs),
            _yes(link.is_clear),
        )
        for link in sorted(found.learned_categories, key=lambda link: (link.p_value, -link.eta))
    )
    return Grid(("category", "number", "eta", "p", "runs", "clear"), rows, ("category", "number", "clear"))


def correlation_text(found: Correlations) -> str:
    """Say what the heat map shows."""
    pairs = found.learned_pairs
    if not pairs:
        return "There are too few runs, or too little varies, for a correlation."
    clear = sum(pair.is_clear for pair in pairs)
    strongest = min(pairs, key=_strength)
    names = " with ".join(map(score_name, strongest.names))
    return (
        f"Rank correlation of each number with each; in brackets where the interval holds 0. {clear} of "
        f"{count_text(len(pairs), 'pair')} are clear; the strongest is {names}, "
        f"{strongest.rho:+.2f}. {found.source}."
    )


def effect_grid(effect: Effect, table: RunTable) -> Grid:
    """Return the median at each value of a parameter, in the unit of what was measured."""
    rows = tuple(
        (
            level.label,
            str(level.num_runs),
            score_text(table, level.median),
            _range_text(table, level.interval) if level.interval else NOTHING,
        )
        for level in effect.levels
    )
    return Grid(("value", "runs", f"median {score_name(table.score_name)}", "90 % interval"), rows, ("value",))


def effect_text(effect: Effect, table: RunTable) -> str:
    """Say where runs are best along a parameter, and whether that can be told."""
    sure = (
        "the intervals of best and worst do not meet" if effect.is_visible else "the intervals do not tell them apart"
    )
    best, worst = effect.best, effect.worst
    if best is worst:
        middle = score_text(table, best.median)
        return (
            f"Median {score_name(table.score_name)} is {middle} at {best.label}; of no other value are there five runs."
        )
    return (
        f"Median {score_name(table.score_name)} is best at {best.label} ({score_text(table, best.median)}) and worst "
        f"at {worst.label} ({score_text(table, worst.median)}); {sure}."
    )


def parallel_text(table: RunTable) -> str:
    """Say what the parallel coordinates show."""
    better = "higher" if table.score_name.startswith("-") else "lower"
    return (
        f"{count_text(len(table.run_ids), 'run')} as lines through their settings; the axis on the right is "
        f"{score_name(table.score_name)}, {better} is better{_rank_text(table)}. Drag along an axis to choose runs: "
        "the table of all runs follows."
    )


def slice_text(table: RunTable) -> str:
    """Say what the slices show."""
    crosses = ", crosses those that failed or missed, where they are ranked" if table.imputed else ""
    groups = "diamonds are the medians of groups with 90 % intervals"
    return f"Rings are runs{crosses}; {groups}. The other settings vary along."


def difference_grid(data: ReportData) -> Grid:
    """Return the best config as its differences from the baseline's; imported runs have none."""
    if data.kind == "import":
        return Grid(("key", "best"), tuple((key, best) for key, _, best in data.differences), ("key", "best"))
    return Grid(("key", "baseline", "best"), data.differences, ("key", "baseline", "best"))


def sample_grid(data: ReportData) -> Grid:
    """Return the samples of both runs side by side."""
    rows = tuple(
        (
            visible(pair.prompt),
            visible(pair.expected),
            _sample(pair.baseline, pair.expected),
            _sample(pair.best, pair.expected),
        )
        for pair in data.samples
    )
    baseline, best = data.sample_runs
    headers = ("prompt", "expected", f"baseline {baseline}".strip(), f"best {best}".strip())
    return Grid(headers, rows, headers)


def run_grid(runs: Cells) -> Grid:
    """Return all runs as texts; a column is one of numbers where it holds nothing else."""
    rows = tuple(tuple(map(cell_text, row)) for row in runs.rows)
    words = tuple(
        header
        for index, header in enumerate(runs.headers)
        if any(isinstance(row[index], str | bool) for row in runs.rows)
    )
    return Grid(runs.headers, rows, words)


def cell_text(value: Cell) -> str:
    """Return a plain value as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return value_text(value)
    return NOTHING if value is None else value


def value_text(value: float) -> str:
    """Return a number with four digits; a dash for what is not a number, a word for what is infinite."""
    if math.isnan(value):
        return NOTHING
    return f"{value:.4g}" if math.isfinite(value) else "infinite"


def visible(text: str) -> str:
    """Return a text in which separators and other signs that cannot be seen are written as in Python: `\\x0e`."""
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text)


def _sample(generated: str | None, expected: str) -> str:
    """Return a generation, marked where it is known to be right or wrong: as `eval_exact_match` counts."""
    if generated is None:
        return NOTHING
    if not expected:
        return visible(generated)
    return f"{'✓' if generated.strip() == expected.strip() else '✗'} {visible(generated)}"


def _rank_text(table: RunTable) -> str:
    """Return a clause on the runs whose score was not measured."""
    return f"; {len(table.imputed)} of them failed or missed and stand where they are ranked" if table.imputed else ""


def _range_text(table: RunTable, interval: tuple[float, float]) -> str:
    """Return an interval of scores, the smaller number first."""
    ends = [score_text(table, end) for end in interval]
    return " to ".join(reversed(ends) if table.score_name.startswith("-") else ends)


def _strength(pair: Correlation) -> float:
    return -abs(pair.rho)


def _yes(is_so: bool) -> str:
    return YES if is_so else NO
