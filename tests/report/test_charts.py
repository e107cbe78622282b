"""Figures as plain values: what they hold is what they were given, and JSON can hold it."""

import json
import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_sweep import KEYS, analysis, sweep_history

from hotlap.analysis.correlation import correlations
from hotlap.analysis.effects import marginal_effects
from hotlap.analysis.table import LOG_SECONDS, Column, RunTable
from hotlap.analysis.whole import Analysis
from hotlap.report.chart_base import log_ticks, whiskers
from hotlap.report.charts import (
    best_points_figure,
    correlation_figure,
    curves_figure,
    importance_figure,
    ladder_figure,
    matrix_texts,
)
from hotlap.report.report_data import Place, ReportCurve
from hotlap.report.report_tables import correlation_grid, correlation_text, effect_grid, effect_text, parallel_text
from hotlap.report.space_charts import MOST_AXES, parallel_figure, slice_figure

PLACES = (
    Place("baseline", 55.2, 54.0, 57.0, "55.2 s"),
    Place("#1 <b>no</b> dropout", 25.5, 25.0, 26.0, "25.5 s"),
    Place("#2 misses", math.inf, 20.0, math.inf, "a miss"),
)


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analysis(sweep_history())


def curve(label: str, kind: str, end: float, seconds: float = 60.0) -> ReportCurve:
    return ReportCurve("r0001", label, kind, (1.0, seconds), (9.0, end))  # type: ignore[arg-type]


def test_a_miss_is_hatched_and_longer_than_every_time() -> None:
    (bars,) = ladder_figure(PLACES)["data"]
    assert bars["x"][:2] == [55.2, 25.5] and bars["x"][2] > 55.2
    assert bars["marker"]["pattern"]["shape"] == ["", "", "/"]
    assert bars["error_x"]["array"] == pytest.approx([1.8, 0.5, 0.0])
    assert bars["error_x"]["arrayminus"] == pytest.approx([1.2, 0.5, 0.0])


def test_names_of_others_cannot_become_tags() -> None:
    figures = [ladder_figure(PLACES), best_points_figure(PLACES, "eval_loss")]
    figures.append(curves_figure([curve("<a href='x'>", "rung", 1.0)], "eval_loss", "train", None))
    for figure in figures:
        text = json.dumps(figure, allow_nan=False)
        assert "<" not in text and "&lt;" in text


def test_bars_far_apart_stand_on_a_logarithmic_axis() -> None:
    near = ladder_figure(PLACES)["layout"]["xaxis"]
    far = ladder_figure((PLACES[0], Place("#1", 1.0, 0.9, 1.1, "1.00 s")))["layout"]["xaxis"]
    assert near["type"] == "linear" and near["range"][0] == 0
    assert far["type"] == "log" and far["range"][0] < 0 < math.log10(55.2) < far["range"][1]


def test_points_without_a_value_are_left_out_of_the_marks() -> None:
    (marks,) = best_points_figure(PLACES, "eval_loss")["data"]
    assert marks["x"] == [55.2, 25.5] and marks["y"] == [0, 1]
    assert marks["marker"]["symbol"] == ["star", "circle"]


def test_the_target_is_a_line_and_curves_differ_without_colour() -> None:
    curves = [curve("baseline", "baseline", 2.0), curve("a", "rung", 1.5), curve("b", "rung", 1.4)]
    figure = curves_figure([*curves, curve("c", "best", 1.0), curve("", "other", 3.0)], "eval_loss", "train", 0.9)
    (line,) = figure["layout"]["shapes"]
    assert line["y0"] == line["y1"] == 0.9
    assert "target 0.9" in [note["text"] for note in figure["layout"]["annotations"]]
    looks = [(trace["line"]["dash"], trace["line"]["width"]) for trace in figure["data"]]
    assert len(set(looks)) == len(looks)
    assert figure["data"][0]["y"] == [9.0, 3.0], "what has no name lies below"


@given(st.lists(st.floats(0.5, 3.0), min_size=1, max_size=8))
def test_names_at_the_ends_of_curves_do_not_lie_upon_each_other(ends: list[float]) -> None:
    curves = [curve(f"c{number}", "rung", end) for number, end in enumerate(ends)]
    figure = curves_figure(curves, "eval_loss", "train", None)
    pixels = 390 / (9.0 - min(ends))
    heights = sorted(note["y"] * pixels - note["ay"] for note in figure["layout"]["annotations"])
    assert all(upper - lower > 14.9 for lower, upper in pairwise(heights))


def test_no_curve_is_a_figure_too() -> None:
    assert curves_figure([], "eval_loss", "train", 0.9)["data"] == []


def test_importance_shows_what_chance_gives_and_hatches_what_is_not_above_it(found: Analysis) -> None:
    bars, chance = importance_figure(found.importances)["data"]
    assert bars["x"] == [0.6, 0.1] and chance["x"] == [0.1, 0.12]
    assert bars["marker"]["pattern"]["shape"] == ["", "/"]


def test_the_heat_map_has_its_numbers_in_its_cells(found: Analysis) -> None:
    (cells,) = correlation_figure(found.correlations)["data"]
    size = len(found.correlations.names)
    assert len(cells["z"]) == len(cells["text"]) == size and {len(row) for row in cells["text"]} == {size}
    assert [matrix_texts(found.correlations)[i][i] for i in range(size)] == ["1.00"] * size
    clear = {pair.names: pair.is_clear for pair in found.correlations.pairs}
    at = {name: index for index, name in enumerate(found.correlations.names)}
    for (a, b), is_clear in clear.items():
        assert cells["text"][at[a]][at[b]].startswith("(") is not is_clear


def test_parallel_axes_hold_every_run_and_end_with_the_score(found: Analysis) -> None:
    (lines,) = parallel_figure(found.table, found.importances)["data"]
    axes = lines["dimensions"]
    assert [axis["label"] for axis in axes] == ["optim", "learning_rate", "eval_loss"], "the weightiest is next to it"
    assert {len(axis["values"]) for axis in axes} == {len(found.table.run_ids)}
    for axis in axes:
        low, high = axis["range"]
        assert low < high and all(low - 1e-9 <= value <= high + 1e-9 for value in axis["values"])
    assert axes[0]["ticktext"] == ["adamw_torch_fused", "muon"]
    rates = [math.log10(value) for value in found.table.parameters[0].numbers()]
    assert axes[1]["values"] == (rates if found.table.parameters[0].is_log else found.table.parameters[0].numbers())


def test_runs_without_a_parameter_have_a_place_of_their_own() -> None:
    values = Column("beta", "number", (0.9, None, 0.99, 0.95))
    kinds = Column("kind", "category", ("a", None, "b", "a"))
    table = RunTable(("r1", "r2", "r3", "r4"), (values, kinds), (), (1.0, 2.0, 3.0, 4.0), "eval_loss")
    empty = analysis(sweep_history()).importances
    axes = {axis["label"]: axis for axis in parallel_figure(table, empty)["data"][0]["dimensions"]}
    beta, kind = axes["beta"], axes["kind"]
    assert beta["values"][1] < 0.9 and beta["ticktext"][0] == "none"
    assert kind["values"] == [0, 2, 1, 0] and kind["ticktext"] == ["a", "b", "none"]


def test_no_more_axes_than_can_be_read(found: Analysis) -> None:
    many = tuple(Column(f"p{number}", "number", (1.0, 2.0)) for number in range(30))
    table = RunTable(("r1", "r2"), many, (), (1.0, 2.0), "eval_loss")
    assert len(parallel_figure(table, found.importances)["data"][0]["dimensions"]) == MOST_AXES + 1


def test_slices_show_runs_and_medians(found: Analysis) -> None:
    columns = {column.name: column for column in found.table.parameters}
    for effect in found.effects:
        figure = slice_figure(columns[effect.parameter], effect, found.table)
        dots, medians = figure["data"]
        assert dots["y"] == list(found.table.scores)
        assert medians["y"] == [level.median for level in effect.levels] and len(medians["x"]) == len(medians["y"])
        if effect.parameter == KEYS[1]:
            assert all(abs(x - round(x)) <= 0.25 for x in dots["x"])
        assert json.dumps(figure, allow_nan=False)


def test_times_are_drawn_in_seconds_and_not_as_logarithms(found: Analysis) -> None:
    rates = Column("rate", "number", (1.0, 2.0, 3.0, 4.0, 5.0))
    seconds = (3.0, 6.0, 12.0, 300.0, 9000.0)
    scores = tuple(map(math.log, seconds))
    table = RunTable(("r1", "r2", "r3", "r4", "r5"), (rates,), (), scores, LOG_SECONDS, imputed=("r5",))
    (effect,) = marginal_effects(table)
    figure = slice_figure(rates, effect, table)
    dots, medians = figure["data"]
    assert dots["y"] == pytest.approx(seconds) and medians["y"] == pytest.approx(seconds)
    assert dots["marker"]["symbol"] == [*["circle-open"] * 4, "x-thin-open"]
    assert dots["hovertext"][0] == "r1: 3" and dots["hovertext"][4] == "r5: a miss"
    assert figure["layout"]["yaxis"] == {"title": {"text": "seconds to target"}, "type": "log", "dtick": 1}
    axis = parallel_figure(table, found.importances)["data"][0]["dimensions"][-1]
    assert axis["label"] == "seconds to target" and axis["values"] == pytest.approx(list(map(math.log10, seconds)))
    assert {"10", "100", "1000"} <= set(axis["ticktext"])
    assert effect_text(effect, table).startswith("Median seconds to target is best at 1 (3) and worst at 5 (a miss)")
    assert effect_grid(effect, table).headers[2] == "median seconds to target"
    assert [row[2] for row in effect_grid(effect, table).rows] == ["3", "6", "12", "300", "a miss"]
    assert "seconds to target, lower is better; 1 of them failed or missed" in parallel_text(table)
    names = correlations(table, seed=0)
    assert LOG_SECONDS not in repr((correlation_grid(names), correlation_text(names), correlation_figure(names)))


def test_names_of_columns_are_no_markup_in_a_chart() -> None:
    nasty = "<b>x</b>"
    rates = Column(nasty, "number", (1.0, 2.0))
    table = RunTable(("a", "b"), (rates,), (), (1.0, 2.0), nasty + "y")
    (effect,) = marginal_effects(table)
    figures = [
        slice_figure(rates, effect, table),
        best_points_figure(PLACES, nasty),
        curves_figure([curve(nasty, "best", 1.0)], nasty, nasty, 0.5),
    ]
    assert nasty not in json.dumps(figures)


def test_a_metric_of_which_more_is_better_has_its_own_sign(found: Analysis) -> None:
    rates = Column("rate", "number", (1.0, 1.0, 1.0, 1.0, 1.0, 2.0))
    table = RunTable(tuple("abcdef"), (rates,), (), (-1.0, -2.0, -3.0, -4.0, -5.0, -6.0), "-eval_chrf")
    (effect,) = marginal_effects(table)
    assert effect_grid(effect, table).rows[0] == ("1", "5", "3", "1 to 5")
    assert effect_text(effect, table) == "Median eval_chrf is 3 at 1; of no other value are there five runs."
    assert "higher is better" in parallel_text(table)
    figure = slice_figure(rates, effect, table)
    dots, medians = figure["data"]
    assert dots["y"] == [1, 2, 3, 4, 5, 6] and medians["y"] == [3, 6]
    assert (medians["error_y"]["array"], medians["error_y"]["arrayminus"]) == ([2, 0], [2, 0])
    assert parallel_figure(table, found.importances)["data"][0]["dimensions"][-1]["values"] == [1, 2, 3, 4, 5, 6]


@given(st.floats(1e-8, 1e6), st.floats(1.0, 1e9))
def test_log_ticks_lie_inside(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert len(ticks) >= 2 and ticks == sorted(ticks)
    assert all(low <= tick <= low * ratio for tick in ticks)


@given(st.lists(st.tuples(st.floats(), st.floats(), st.floats()), max_size=5))
def test_whiskers_are_never_negative_and_none_where_an_end_is_unknown(
    values: Sequence[tuple[float, float, float]],
) -> None:
    found = whiskers(values)
    known = [all(map(math.isfinite, triple)) for triple in values]
    for name in ("array", "arrayminus"):
        assert len(found[name]) == len(values)
        assert all(length >= 0 for length in found[name])
        assert all(not length for length, is_known in zip(found[name], known, strict=True) if not is_known)
