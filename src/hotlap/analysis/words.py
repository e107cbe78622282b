"""What the runs support and what they do not, as one paragraph in plain words.

Nothing is claimed whose interval holds chance alone: such parameters are named as those without a visible effect.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from hotlap.analysis.correlation import ALPHA, CategoryLink, Correlation, Correlations
from hotlap.analysis.effects import Difference, Effect, Level
from hotlap.analysis.importance import PAIR_RUNS, Importance, Importances, Interaction
from hotlap.analysis.table import LOG_SECONDS, RunTable
from hotlap.runs.views import setting_text

_MOST_CORRELATIONS: Final = 5
_MOST_LINKS: Final = 3
_MOST_DIFFERENCES: Final = 8

Names = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Best:
    """The run whose config is called the best."""

    run_id: str
    score: float
    """The median over its seeds."""
    runs: int
    """With different seeds."""


def describe(
    table: RunTable,
    importances: Importances,
    correlations: Correlations,
    effects: Sequence[Effect],
    best: Best | None = None,
    differences: Sequence[Difference] = (),
) -> str:
    """Return the paragraph; `differences` are those of the best config against the baseline's.

    Everything has to come from the same table.
    """
    if not table.run_ids:
        return "There are no runs to say anything about."
    short = short_names([*table.names, *(difference.key for difference in differences)])
    sentences = [
        *_failure_words(table),
        *_importance_words(importances, short),
        *_interaction_words(importances, short),
        *_effect_words(table, effects, short),
        *_silence_words(table, importances, correlations, effects, short),
        *_correlation_words(table, correlations, short),
        *(_best_words(table, best, differences, short) if best else ()),
    ]
    return " ".join(sentences)


def _failure_words(table: RunTable) -> Iterator[str]:
    if count := len(table.imputed):
        is_timed = table.score_name == LOG_SECONDS
        what = "did not reach the target" if is_timed else f"failed or never told {table.metric}"
        verb = "counts" if count == 1 else "count"
        yield f"{count} of {_runs(len(table.run_ids))} {what} and {verb} as worse than the others."


def _importance_words(found: Importances, short: Names) -> Iterator[str]:
    if found.text:
        yield found.text
    if found.state == "not_enough":
        return
    if not found.has_learned:
        yield (
            "A forest predicts runs that it has not seen no better than their mean does, "
            "so the runs do not tell which parameter matters most."
        )
        return
    source = f"({found.evaluator}, {_runs(found.num_runs)}, R² on runs not seen {found.held_out_r2:.2f})"
    visible = found.visible
    if not visible:
        yield f"No parameter's share of the variance stands out from what a shuffled copy of it gets {source}."
        return
    each = [f"{one.share:.2f} {_interval(one)}" for one in visible]
    names = _listed([short[one.parameter] for one in visible])
    if len(visible) == 1:
        yield f"{names} explains {each[0]} of the variance of {score_name(found.score_name)} {source}."
        return
    whole = sum(one.share for one in visible)
    yield f"{names} explain {whole:.2f} of the variance of {score_name(found.score_name)}: {_listed(each)} {source}."
    if any(above.low <= below.high for above, below in pairwise(visible)):
        yield "Some of these intervals overlap, so their order is not certain."


def _interaction_words(found: Importances, short: Names) -> Iterator[str]:
    if found.state == "not_enough":
        return
    if found.num_runs < PAIR_RUNS:
        yield f"Pairs of parameters are looked at from {PAIR_RUNS} runs on."
        return
    for pair in found.visible_pairs:
        names = _listed([short[name] for name in pair.parameters])
        yield f"{names} act together: {pair.share:.2f} {_interval(pair)} of the variance beyond what each does alone."


def _effect_words(table: RunTable, effects: Sequence[Effect], short: Names) -> Iterator[str]:
    alike: dict[tuple[object, ...], list[Effect]] = {}
    for effect in effects:
        if effect.is_visible:
            parts = sorted((level.num_runs, level.median, level.interval or ()) for level in effect.levels)
            alike.setdefault(tuple(parts), []).append(effect)
    for group in alike.values():
        ends = [[getattr(effect, end) for effect in group] for end in ("best", "worst")]
        medians = " and ".join(_levels_words(table, levels, short, group) for levels in ends)
        together = " changed together, so nothing tells them apart" if len(group) > 1 else ""
        names = _listed([short[effect.parameter] for effect in group])
        yield f"{names}{together}: the median of {score_name(table.score_name)} is {medians}."


def _levels_words(table: RunTable, levels: Sequence[Level], short: Names, group: Sequence[Effect]) -> str:
    """Return the median at a level, for parameters that changed together at the level of each."""
    level = levels[0]
    labels = [level.label]
    if len(levels) > 1:
        labels = [f"{short[effect.parameter]} {one.label}" for effect, one in zip(group, levels, strict=True)]
    middle = score_text(table, level.median)
    ends = [score_text(table, end) for end in level.interval or ()]
    if table.score_name.startswith("-"):
        ends.reverse()
    interval = f" [{' to '.join(ends)}]" if ends and set(ends) != {middle} else ""
    return f"{middle}{interval} at {', '.join(labels)}"


def score_name(name: str) -> str:
    """Return a score as it is told: seconds in place of their logarithm, a metric in its own sign."""
    return "seconds to target" if name == LOG_SECONDS else name.removeprefix("-")


def score_value(table: RunTable, score: float) -> float:
    """Return a score in the unit in which it is told."""
    return math.exp(score) if table.score_name == LOG_SECONDS else table.measured(score)


def score_text(table: RunTable, score: float) -> str:
    """Return a score as text; one that lies beyond all that was measured is none."""
    known = [value for value, is_measured in zip(table.scores, table.is_measured, strict=True) if is_measured]
    if known and score > max(known):
        return "a miss" if table.score_name == LOG_SECONDS else "a failure"
    return _number(score_value(table, score))


def _silence_words(
    table: RunTable, found: Importances, known: Correlations, effects: Sequence[Effect], short: Names
) -> Iterator[str]:
    """Name the parameters of which nothing above or below says that they matter for the score."""
    if found.state == "not_enough":
        return
    seen = {one.parameter for one in found.visible}
    seen |= {name for pair in found.visible_pairs for name in pair.parameters}
    seen |= {effect.parameter for effect in effects if effect.is_visible}
    seen |= {name for pair in known.pairs if pair.is_clear and table.metric in pair.names for name in pair.names}
    seen |= {link.category for link in known.categories if link.is_clear and link.number == table.metric}
    hidden = [short[column.name] for column in table.parameters if column.name not in seen]
    if hidden:
        yield f"{_listed(hidden)}: no effect visible with {_runs(found.num_runs)}."


def _correlation_words(table: RunTable, known: Correlations, short: Names) -> Iterator[str]:
    """Name the strongest clear ones that tell of the runs, and not of which points were tried."""
    pairs, links = known.learned_pairs, known.learned_categories
    short = {**short, table.metric: score_name(table.score_name)}
    clear = sorted((pair for pair in pairs if pair.is_clear), key=lambda pair: -abs(pair.rho))
    told = [_pair_words(pair, short) for pair in clear[:_MOST_CORRELATIONS]]
    clear_links = sorted((link for link in links if link.is_clear), key=lambda link: -link.eta)
    told += [_link_words(link, short) for link in clear_links[:_MOST_LINKS]]
    number, looked_at = len(clear) + len(clear_links), len(pairs) + len(links)
    if not looked_at:
        return
    by_chance = ALPHA * looked_at
    if not told:
        yield f"Of the {_count(looked_at, 'correlation')} looked at none is clear."
        return
    yield f"By rank, {'; '.join(told)}."
    yield (
        f"{number} of {_count(looked_at, 'correlation')} looked at {'is' if number == 1 else 'are'} as clear as that; "
        f"chance alone gives about {by_chance:.1f}."
    )


def _pair_words(pair: Correlation, short: Names) -> str:
    first, second = pair.names
    return f"{short[first]} correlates with {short[second]} {pair.rho:.2f} {_interval(pair)}"


def _link_words(link: CategoryLink, short: Names) -> str:
    return f"{short[link.category]} goes with {short[link.number]} (eta {link.eta:.2f}, p {link.p_value:.3f})"


def _best_words(table: RunTable, best: Best, differences: Sequence[Difference], short: Names) -> Iterator[str]:
    what = "run" if best.runs == 1 else "config"
    times = "" if best.runs == 1 else f", median of {best.runs} runs"
    score = f"{best.run_id} ({score_name(table.score_name)} {score_text(table, best.score)}{times})"
    if differences:
        shown = [_difference_words(one, short) for one in differences[:_MOST_DIFFERENCES]]
        more = len(differences) - len(shown)
        rest = f" and {more} more" if more else ""
        yield f"The best {what}, {score}, differs from the baseline in {', '.join(shown)}{rest}."
    else:
        yield f"The best {what} is {score}."
    if best.runs == 1:
        yield "It was chosen for being the best of them, so repeat it with other seeds before believing its score."


def _difference_words(one: Difference, short: Names) -> str:
    return f"{short[one.key]} ({setting_text(one.baseline)} → {setting_text(one.best)})"


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return the last part of each dotted name, the whole name where several end alike."""
    distinct = list(dict.fromkeys(names))
    counts = Counter(name.rpartition(".")[2] for name in distinct)
    return {name: tail if counts[tail := name.rpartition(".")[2]] == 1 else name for name in distinct}


def _interval(one: Importance | Interaction | Correlation) -> str:
    return _range(one.low, one.high, ".2f")


def _range(low: float, high: float, form: str = ".4g") -> str:
    return f"[{low:{form}} to {high:{form}}]"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _listed(items: Sequence[str]) -> str:
    """Return `a`, `a and b` or `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def _runs(count: int) -> str:
    return _count(count, "run")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
