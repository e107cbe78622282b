"""The paragraph claims what the results support, and nothing else."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_tables import made, table

from hotlap.analysis import words
from hotlap.analysis.correlation import CategoryLink, Correlation, Correlations, correlations
from hotlap.analysis.effects import Difference, Effect, Level, marginal_effects
from hotlap.analysis.importance import Importance, Importances, Interaction, importance
from hotlap.analysis.table import LOG_SECONDS, RunTable

RUNS = table(
    [float(n) for n in range(1, 26)],
    {"grad_norm": [float(n % 5) for n in range(25)], "train_loss": [float(n % 5) for n in range(25)]},
    **{
        "training.learning_rate": [float(n) for n in range(25)],
        "training.per_device_train_batch_size": [float(n % 3) for n in range(25)],
        "training.torch_compile": ["true", "false", "true", "false", "true"] * 5,
    },
)
NOTHING = Correlations(names=(), matrix=(), pairs=(), categories=())
RATE, BATCH, COMPILE = (column.name for column in RUNS.parameters)


def describe(
    runs: RunTable,
    found: Importances,
    known: Correlations,
    effects: Sequence[Effect],
    differences: Sequence[Difference] = (),
) -> str:
    """Return the paragraph where the best is the run with the best score."""
    best = min(zip(runs.scores, runs.run_ids, strict=True), default=None)
    chosen = None if best is None else words.Best(best[1], best[0], 1)
    return words.describe(runs, found, known, effects, chosen, differences)


def share(parameter: str, value: float, low: float, high: float, chance: float = 0.05) -> Importance:
    return Importance(parameter=parameter, share=value, low=low, high=high, spread=value - low, chance=chance)


def importances(*parameters: Importance, num_runs: int = 25, r2: float = 0.6, **more: object) -> Importances:
    facts = {"state": "ok", "text": "", "evaluator": "fanova", "score_name": "eval_loss"} | more
    return Importances(num_runs=num_runs, parameters=parameters, held_out_r2=r2, **facts)  # type: ignore[arg-type]


def correlation(first: str, second: str, rho: float, low: float, high: float) -> Correlation:
    return Correlation(names=(first, second), rho=rho, low=low, high=high, num_runs=25)


def linked(*pairs: Correlation, categories: tuple[CategoryLink, ...] = ()) -> Correlations:
    return Correlations(names=(), matrix=(), pairs=pairs, categories=categories)


def test_what_matters_is_summed_up_and_what_does_not_show_is_named() -> None:
    found = importances(share(RATE, 0.52, 0.31, 0.7), share(BATCH, 0.18, 0.08, 0.28), share(COMPILE, 0.02, 0.0, 0.06))
    pair = correlation("grad_norm", "train_loss", 0.8, 0.6, 0.9)
    text = describe(RUNS, found, linked(pair), ())
    assert (
        "learning_rate and per_device_train_batch_size explain 0.70 of the variance of eval_loss: "
        "0.52 [0.31 to 0.70] and 0.18 [0.08 to 0.28] (fanova, 25 runs, R² on runs not seen 0.60)." in text
    )
    assert "order is not certain" not in text
    assert "grad_norm correlates with train_loss 0.80 [0.60 to 0.90]" in text
    assert "torch_compile: no effect visible with 25 runs." in text
    assert "The best run is r0001 (eval_loss 1)." in text


def test_overlapping_intervals_leave_the_order_open() -> None:
    found = importances(share(RATE, 0.4, 0.2, 0.6), share(BATCH, 0.3, 0.1, 0.5))
    assert "so their order is not certain" in describe(RUNS, found, NOTHING, ())


def test_one_parameter_explains_by_itself() -> None:
    text = describe(RUNS, importances(share(RATE, 0.5, 0.3, 0.7), share(BATCH, 0.1, 0.0, 0.2)), NOTHING, ())
    assert "learning_rate explains 0.50 [0.30 to 0.70] of the variance of eval_loss" in text
    assert "per_device_train_batch_size and torch_compile: no effect visible with 25 runs." in text


def test_an_interval_that_holds_chance_claims_nothing() -> None:
    text = describe(RUNS, importances(share(RATE, 0.4, 0.2, 0.6, chance=0.25)), NOTHING, ())
    assert "stands out" in text and "explain" not in text
    assert "learning_rate" in text.partition(": no effect visible")[0]


def test_a_forest_that_learned_nothing_claims_nothing() -> None:
    pair = Interaction(parameters=(RATE, BATCH), share=0.3, low=0.2, high=0.4, chance=0.1)
    found = importances(share(RATE, 0.8, 0.7, 0.9), num_runs=120, r2=-0.1, interactions=(pair,))
    text = describe(RUNS, found, NOTHING, ())
    assert "no better than their mean" in text
    assert "explain" not in text and "act together" not in text


def test_too_few_runs_say_so_and_no_more_of_importance() -> None:
    few = made(12)
    text = describe(few, importance(few, 0), NOTHING, ())
    assert "12 runs are not enough to say which parameters matter: 20 are needed, 8 more." in text
    assert "no effect visible" not in text and "explain" not in text


def test_pairs_are_told_where_they_are_visible() -> None:
    pairs = (
        Interaction(parameters=(RATE, BATCH), share=0.2, low=0.1, high=0.3, chance=0.05),
        Interaction(parameters=(RATE, COMPILE), share=0.1, low=0.02, high=0.3, chance=0.05),
    )
    text = describe(RUNS, importances(share(RATE, 0.5, 0.4, 0.6), num_runs=120, interactions=pairs), NOTHING, ())
    assert "learning_rate and per_device_train_batch_size act together: 0.20 [0.10 to 0.30]" in text
    assert text.count("act together") == 1
    assert "looked at from 100 runs" not in text
    assert "looked at from 100 runs" in describe(RUNS, importances(share(RATE, 0.5, 0.4, 0.6)), NOTHING, ())


def test_what_the_runs_themselves_show_is_not_called_invisible() -> None:
    good = Level(label="true", low=None, high=None, num_runs=12, median=2.0, interval=(1.5, 2.5))
    bad = Level(label="false", low=None, high=None, num_runs=13, median=4.0, interval=(3.5, 4.5))
    shown = Effect(parameter=COMPILE, kind="category", is_log=False, levels=(bad, good))
    clear = linked(correlation(BATCH, "eval_loss", -0.5, -0.7, -0.2))
    text = describe(RUNS, importances(), clear, (shown,))
    assert "torch_compile: the median of eval_loss is 2 [1.5 to 2.5] at true and 4 [3.5 to 4.5] at false." in text
    assert "learning_rate: no effect visible with 25 runs." in text
    assert "per_device_train_batch_size correlates with eval_loss -0.50 [-0.70 to -0.20]" in text


def test_correlations_between_parameters_are_the_samplers_and_left_out() -> None:
    pair = replace(correlation(RATE, BATCH, 0.9, 0.8, 1.0), is_of_design=True)
    text = describe(RUNS, importances(), linked(pair), ())
    assert "correlat" not in text


def test_unclear_correlations_are_counted_and_not_told() -> None:
    pairs = [correlation("grad_norm", "eval_loss", 0.2, -0.2, 0.5), correlation(RATE, "eval_loss", 0.1, -0.3, 0.4)]
    assert "Of the 2 correlations looked at none is clear." in describe(RUNS, importances(), linked(*pairs), ())
    link = CategoryLink(category=COMPILE, number="eval_loss", eta=0.6, p_value=0.002, num_runs=25)
    text = describe(RUNS, importances(), linked(*pairs, categories=(link,)), ())
    assert "By rank, torch_compile goes with eval_loss (eta 0.60, p 0.002)." in text
    assert "1 of 3 correlations looked at is as clear as that; chance alone gives about 0.2" in text
    assert "grad_norm" not in text


def test_the_best_run_is_told_against_the_baseline() -> None:
    changed = (
        Difference(key="training.learning_rate", baseline=5e-5, best=3e-4),
        Difference(key="training.torch_compile", baseline=False, best=True),
        Difference(key="training.warmup_steps", baseline=None, best=50),
    )
    text = describe(RUNS, importances(), NOTHING, (), changed)
    assert (
        "The best run, r0001 (eval_loss 1), differs from the baseline in learning_rate (5e-05 → 0.0003), "
        "torch_compile (false → true), warmup_steps (none → 50)." in text
    )
    assert "repeat it with other seeds" in text
    many = tuple(Difference(key=f"training.key{n}", baseline=0, best=1) for n in range(11))
    assert "key7 (0 → 1) and 3 more." in describe(RUNS, importances(), NOTHING, (), many)


def test_names_that_end_alike_stay_whole() -> None:
    twice = table(
        [float(n) for n in range(25)], **{"a.size": [float(n) for n in range(25)], "b.size": [1.0, 2.0] * 12 + [1.0]}
    )
    text = describe(twice, importances(share("a.size", 0.5, 0.4, 0.6)), NOTHING, ())
    assert "a.size explains" in text and "b.size: no effect visible" in text


def test_no_runs_say_nothing() -> None:
    empty = RunTable((), (), (), (), "eval_loss")
    assert describe(empty, importance(empty, 0), NOTHING, ()) == "There are no runs to say anything about."


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=3),
    st.floats(-1, 1, exclude_min=True),
)
def test_only_visible_parameters_explain_anything(shares: list[tuple[float, float, float]], r2: float) -> None:
    ones = [
        share(column.name, value, min(low, value), 1.0, chance)
        for column, (value, low, chance) in zip(RUNS.parameters, shares, strict=True)
    ]
    found = importances(*ones, r2=r2)
    claim = re.search(r"(?:^|\. )([^.]*?) explains? ", describe(RUNS, found, NOTHING, ()))
    told = claim[1] if claim else ""
    for one in ones:
        is_told = one.parameter.rpartition(".")[2] in told
        assert is_told == (one.is_above_chance and r2 > 0)


@pytest.mark.parametrize("num_runs", [5, 25, 120])
def test_whole_analyses_become_one_paragraph(num_runs: int) -> None:
    runs = made(num_runs, noise=0.2)
    text = describe(runs, importance(runs, 0), correlations(runs, 0), marginal_effects(runs))
    assert "\n" not in text and "  " not in text and "nan" not in text
    assert text.endswith("before believing its score.")
    assert ("rate" in text) is (num_runs > 5)


def test_parameters_that_changed_together_are_told_as_one() -> None:
    switch = ["true", "false", "true", "false", "true"] * 5
    runs = table([2.0 + (value == "false") for value in switch], {}, smear=switch, rope=list(switch))
    effects = marginal_effects(runs)
    text = describe(runs, importances(), NOTHING, effects)
    assert "smear and rope changed together, so nothing tells them apart: the median of eval_loss is 2" in text
    assert "at smear true, rope true and 3" in text and text.count("the median of") == 1


def test_seconds_to_target_are_told_in_seconds() -> None:
    switch = ["true", "false", "true", "false", "true"] * 5
    scores = [math.log(30.0 if value == "true" else 60.0) for value in switch]
    runs = replace(table(scores, {}, smear=switch), score_name=LOG_SECONDS)
    text = describe(runs, importances(), NOTHING, marginal_effects(runs))
    assert "smear: the median of seconds to target is 30 at true and 60 at false." in text
    assert "(seconds to target 30)" in text


def test_what_was_not_measured_is_told_as_such_and_never_as_a_number() -> None:
    switch = ["true"] * 6 + ["false"] * 6
    scores = [math.log(30.0 + n) for n in range(6)] + [math.log(18_000.0)] * 6
    runs = replace(
        table(scores, {}, smear=switch), score_name=LOG_SECONDS, imputed=tuple(f"r{n:04}" for n in range(7, 13))
    )
    text = describe(runs, importances(num_runs=12), NOTHING, marginal_effects(runs))
    assert "6 of 12 runs did not reach the target and count as worse than the others." in text
    assert "at true and a miss at false." in text
    assert "8e+04" not in text and "18000" not in text


def test_a_metric_that_was_maximised_is_told_in_its_own_sign() -> None:
    switch = ["true", "false", "true", "false", "true"] * 5
    scores = [-0.9 if value == "true" else -0.5 for value in switch]
    runs = replace(table(scores, {}, smear=switch), score_name="-eval_sacrebleu")
    text = describe(runs, importances(), NOTHING, marginal_effects(runs))
    assert "the median of eval_sacrebleu is 0.9 at true and 0.5 at false." in text
    assert "(eval_sacrebleu 0.9)" in text


def test_a_config_that_was_repeated_is_told_with_its_runs_and_not_asked_to_be_repeated() -> None:
    text = words.describe(RUNS, importances(), NOTHING, (), words.Best("r0003", 2.5, 3))
    assert "The best config is r0003 (eval_loss 2.5, median of 3 runs)." in text and "repeat it" not in text
