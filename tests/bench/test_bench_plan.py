"""What comes next in a bench: every cell in each round, ladders of batch sizes, and the same after a kill."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hotlap.bench.axes import BATCH_KEY, Axis
from hotlap.bench.plan import RUNGS, BenchPlan, cells_of, next_repeat, planned_repeats
from hotlap.core.bench_records import CellRepeat

GRID = BenchPlan(axes=(Axis("a", (1, 2, 3)), Axis("b", ("x", "y"))), repeats=3)
LADDER = BenchPlan(axes=(Axis("a", (1, 2)), Axis(BATCH_KEY, ())), repeats=2)


def measured(cell: int, repeat: int, settings: Any, seconds: float = 1.0, samples: float = 1.0) -> CellRepeat:
    return CellRepeat(cell, repeat, settings, "measured", step_seconds=(seconds,), samples_per_step=samples)


def played(plan: BenchPlan, answer: Callable[[int, int, Any], CellRepeat] = measured) -> list[CellRepeat]:
    """Measure everything that a plan asks for."""
    done: list[CellRepeat] = []
    while (following := next_repeat(plan, done)) is not None:
        cell, repeat = following
        done.append(answer(cell.number, repeat, cell.settings))
    return done


def test_each_round_measures_every_cell_once() -> None:
    done = played(GRID)
    assert [each.repeat for each in done] == [0] * 6 + [1] * 6 + [2] * 6
    for turn in range(3):
        assert sorted(each.cell for each in done if each.repeat == turn) == list(range(6))
    assert {each.cell: each.settings for each in done} == {c.number: c.settings for c in cells_of(GRID, ())}


def test_rounds_have_orders_of_their_own_which_the_seed_decides() -> None:
    def orders(plan: BenchPlan) -> list[tuple[int, ...]]:
        done = played(plan)
        return [tuple(each.cell for each in done if each.repeat == turn) for turn in range(3)]

    assert len(set(orders(GRID))) == 3
    assert orders(GRID) == orders(GRID)
    assert orders(GRID) != orders(BenchPlan(axes=GRID.axes, seed=1))


def test_a_bench_that_may_be_cut_short_begins_each_round_with_its_base_and_single_changes() -> None:
    plan = BenchPlan.from_json(BenchPlan(axes=GRID.axes, base={"a": 2, "b": "x"}).to_json())
    for turn in range(3):
        settings = [each.settings for each in played(plan) if each.repeat == turn]
        changes = [(one["a"] != 2) + (one["b"] != "x") for one in settings]
        assert changes == [0, 1, 1, 1, 2, 2]


def test_a_bench_goes_on_where_it_was_killed() -> None:
    whole = played(GRID)
    for end in range(len(whole)):
        following = next_repeat(GRID, whole[:end])
        assert following is not None
        assert (following[0].number, following[1]) == (whole[end].cell, whole[end].repeat)


def test_a_cell_that_failed_is_not_tried_again() -> None:
    def answer(cell: int, repeat: int, settings: Any) -> CellRepeat:
        return CellRepeat(cell, repeat, settings, "out_of_memory") if cell == 4 else measured(cell, repeat, settings)

    done = played(GRID, answer)
    assert sum(each.cell == 4 for each in done) == 1
    assert len(done) == 16
    assert planned_repeats(GRID, done) == 16


def test_a_ladder_ends_when_it_no_longer_pays_and_all_its_sizes_are_repeated() -> None:
    speeds = {1: 1.0, 2: 2.0, 4: 3.0, 8: 3.05, 16: 3.0}

    def answer(cell: int, repeat: int, settings: Any) -> CellRepeat:
        size = settings[BATCH_KEY]
        return measured(cell, repeat, settings, size / speeds[size], size)

    done = played(LADDER, answer)
    first = [each for each in done if each.repeat == 0]
    sizes = [(each.settings["a"], each.settings[BATCH_KEY]) for each in first]
    assert sorted(sizes) == [(a, size) for a in (1, 2) for size in (1, 2, 4, 8, 16)]
    assert [size for _, size in sizes] == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16]  # the ladders are climbed in turn
    assert sorted(each.cell for each in done if each.repeat == 1) == sorted(each.cell for each in first)
    assert len({each.cell for each in first}) == 10


@pytest.mark.parametrize("outcome", ["out_of_memory", "timed_out", "failed"])
def test_a_ladder_ends_where_it_no_longer_fits(outcome: Any) -> None:
    plan = BenchPlan(axes=(Axis(BATCH_KEY, ()),), repeats=2)

    def answer(cell: int, repeat: int, settings: Any) -> CellRepeat:
        size = settings[BATCH_KEY]
        return measured(cell, repeat, settings, 1.0, size) if size < 8 else CellRepeat(cell, repeat, settings, outcome)

    done = played(plan, answer)
    assert [each.settings[BATCH_KEY] for each in done if each.repeat == 0] == [1, 2, 4, 8]
    assert sorted(each.settings[BATCH_KEY] for each in done if each.repeat == 1) == [1, 2, 4]


def test_a_ladder_of_a_command_that_tells_no_samples_goes_by_its_steps() -> None:
    speeds = {1: 1.0, 2: 1.5, 4: 2.0}  # of a held step, in fewer passes each time

    def answer(cell: int, repeat: int, settings: Any) -> CellRepeat:
        return measured(cell, repeat, settings, 1 / speeds.get(settings[BATCH_KEY], 2.0), 0.0)

    done = played(BenchPlan(axes=(Axis(BATCH_KEY, ()),), repeats=1), answer)
    assert [each.settings[BATCH_KEY] for each in done] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(("most", "sizes"), [(4, [1, 2, 4]), (1, [1]), (6, [1, 2, 4])])
def test_a_ladder_ends_where_a_step_has_no_more_rows(most: int, sizes: list[int]) -> None:
    plan = BenchPlan(axes=(Axis(BATCH_KEY, ()),), repeats=1, most_rows=most)
    done = played(plan, lambda cell, repeat, settings: measured(cell, repeat, settings, 1.0, settings[BATCH_KEY]))
    assert [each.settings[BATCH_KEY] for each in done] == sizes


def test_a_ladder_has_an_end_whatever_pays() -> None:
    plan = BenchPlan(axes=(Axis(BATCH_KEY, ()),), repeats=1)
    done = played(plan, lambda cell, repeat, settings: measured(cell, repeat, settings, 1.0, settings[BATCH_KEY]))
    assert len(done) == RUNGS


def test_no_axes_are_one_cell() -> None:
    plan = BenchPlan(axes=(), repeats=2)
    assert [(each.cell, each.repeat, each.settings) for each in played(plan)] == [(0, 0, {}), (0, 1, {})]


@pytest.mark.parametrize("plan", [GRID, LADDER, BenchPlan(axes=GRID.axes, own={"a": 7}, most_rows=8)])
def test_a_plan_survives_json(plan: BenchPlan) -> None:
    assert BenchPlan.from_json(plan.to_json()) == plan


def test_combinations_that_are_left_out_have_no_cell_and_are_stored_only_where_there_are_any() -> None:
    plan = replace(GRID, left_out=({"a": 2, "b": "x"}, {"a": 3, "b": "y"}))
    assert len(played(plan)) == 12 and len(cells_of(plan, ())) == 4
    assert {"a": 2, "b": "x"} not in [cell.settings for cell in cells_of(plan, ())]
    assert BenchPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert "left_out" not in GRID.to_json(), "the plan of a bench is part of what names it"
