"""Everything that the runs of a study teach, in one value."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hotlap.analysis.correlation import Correlations, correlations
from hotlap.analysis.effects import Difference, Effect, config_difference, marginal_effects
from hotlap.analysis.importance import DEFAULT_EVALUATOR, Importances, importance
from hotlap.analysis.table import AnyRun, Conditions, RunTable, Scores, run_table
from hotlap.analysis.words import Best, describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What mattered, what goes with what, which config is best, and what of it is sure."""

    table: RunTable
    importances: Importances
    correlations: Correlations
    effects: tuple[Effect, ...]
    differences: tuple[Difference, ...]
    """What the best run's config changes on the baseline's."""
    best: Best | None
    """The run whose config is called the best; None where nothing was measured."""
    words: str

    def __repr__(self) -> str:
        return f"Analysis({len(self.table.run_ids)} runs by {self.table.score_name})"

    def _repr_html_(self) -> str:
        shares = self.importances.parameters
        rows = [(one.parameter, f"{one.share:.2f}", f"{one.low:.2f} to {one.high:.2f}") for one in shares]
        cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        head = "<tr><th>parameter</th><th>share of the variance</th><th>90 % interval</th></tr>"
        return f"<p>{html.escape(self.words)}</p>" + (f"<table>{head}{cells}</table>" if rows else "")

    def document(self) -> dict[str, Any]:
        """Return the analysis as plain values for JSON."""
        return {"schema": "hotlap/analysis/1", **asdict(self)}


def analyse(
    runs: Sequence[AnyRun],
    scores: Scores,
    *,
    baseline: Mapping[str, Any] | None = None,
    keys: Sequence[str] | None = None,
    conditions: Conditions | None = None,
    best: Best | None = None,
    seed: int = 0,
    evaluator: str = DEFAULT_EVALUATOR,
) -> Analysis:
    """Analyse the runs that have a score; the best config is held against `baseline`.

    Runs are to be of different points: repetitions would count as if each told something new. `best` is the one that
    was chosen, by default the one with the best score that was measured. `keys` and `conditions` say what was varied,
    as for `run_table`. The same arguments give the same numbers.
    """
    table = run_table(runs, scores, keys=keys, conditions=conditions)
    importances = importance(table, seed, evaluator)
    known = correlations(table, seed)
    effects = marginal_effects(table)
    configs = {run.run_id: run.config for run in runs}
    best = best or _luckiest(table)
    differences = config_difference(baseline, configs[best.run_id], keys) if baseline is not None and best else ()
    words = describe(table, importances, known, effects, best, differences)
    return Analysis(
        best=best,
        table=table,
        importances=importances,
        correlations=known,
        effects=effects,
        differences=differences,
        words=words,
    )


def _luckiest(table: RunTable) -> Best | None:
    """Return the run with the best of the measured scores."""
    known = [row for row, is_measured in enumerate(table.is_measured) if is_measured]
    row = min(known, key=lambda row: table.scores[row], default=None)
    return None if row is None else Best(table.run_ids[row], table.scores[row], 1)
