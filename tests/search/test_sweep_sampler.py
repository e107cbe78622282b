"""Proposals of a sweep: repeatable, within the space, better than chance, true to a history of another space."""

import math
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.config.schema import RunConfig
from hotlap.config.sweep import Method, SweepConfig, SweepParameter
from hotlap.core.errors import MissingExtraError, StudyError
from hotlap.search.sweep_sampler import RANDOM_EVERY, STARTUP, Told, suggest

RATE = SweepParameter(key="rate", distribution="log_uniform_values", low=1e-4, high=1.0)
SHARE = SweepParameter(key="share", distribution="uniform", low=0.0, high=1.0)
LAYERS = SweepParameter(key="layers", distribution="int_uniform", low=1, high=8)
BATCH = SweepParameter(key="batch", distribution="q_log_uniform_values", low=1, high=256, step=1)
OPTIM = SweepParameter(key="optim", distribution="categorical", values=("adamw", "muon", "sgd"))
MOMENTUM = SweepParameter(key="momentum", distribution="uniform", low=0.5, high=0.99, when={"optim": ("muon", "sgd")})
FIXED = SweepParameter(key="fixed", distribution="constant", values=(7,))
PARAMETERS = (RATE, SHARE, LAYERS, BATCH, OPTIM, MOMENTUM, FIXED)
METHODS: list[Method] = ["tpe", "random", "qmc"]


def space_of(method: Method, *parameters: SweepParameter, constraints: Sequence[str] = ()) -> SweepConfig:
    return SweepConfig(
        name="s",
        method=method,
        metric="loss",
        goal="minimize",
        parameters=parameters or PARAMETERS,
        constraints=tuple(constraints),
    )


def badness(point: dict[str, Any]) -> float:
    return (
        abs(math.log10(point["rate"] / 0.01))
        + abs(point["share"] - 0.3)
        + abs(point["layers"] - 3) / 8
        + abs(math.log2(point["batch"] / 16)) / 8
        + (point["optim"] == "adamw")
    )


def drawn(space: SweepConfig, number: int, seed: int) -> dict[str, Any]:
    point = suggest(replace(space, method="random"), [], [], number, seed)
    assert point is not None
    return point


def history(space: SweepConfig, length: int, seed: int = 0) -> list[Told]:
    points = [drawn(space, number, seed) for number in range(length)]
    return [Told(point, badness(point)) for point in points]


def is_inside(point: dict[str, Any]) -> bool:
    return (
        1e-4 <= point["rate"] <= 1
        and 0 <= point["share"] <= 1
        and point["layers"] in range(1, 9)
        and point["batch"] in range(1, 257)
        and point["optim"] in OPTIM.values
        and ("momentum" in point) == (point["optim"] != "adamw")
        and 0.5 <= point.get("momentum", 0.5) <= 0.99
        and point["fixed"] == 7
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_same_question_gets_the_same_answer(method: Method) -> None:
    space = space_of(method)
    told, pending = history(space, 20), [drawn(space, 99, 1)]
    first = suggest(space, told, pending, 21, 7)
    assert first == suggest(space, told, pending, 21, 7)
    assert first != suggest(space, told, pending, 22, 7)
    assert first != suggest(space, told, pending, 21, 8)


@pytest.mark.parametrize("method", ["random", "qmc"])
@given(number=st.integers(0, 10_000), seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_draws_lie_in_the_space(method: Method, number: int, seed: int) -> None:
    point = suggest(space_of(method), [], [], number, seed)
    assert point is not None
    assert is_inside(point)


def test_tpe_stays_in_the_space() -> None:
    space = space_of("tpe")
    told = history(space, 15)
    for number in range(20):
        point = suggest(space, told, [], number, 3)
        assert point is not None
        assert is_inside(point)


def test_tpe_looks_where_good_points_were() -> None:
    space = space_of("tpe")
    suggested = []
    for seed in range(12):
        point = suggest(space, history(space, 40, seed), [], RANDOM_EVERY * 7, seed)
        assert point is not None
        suggested.append(badness(point))
    by_chance = [badness(drawn(space, number, 50)) for number in range(100)]
    assert median(suggested) < 0.7 * median(by_chance)


def test_failures_with_a_bad_score_are_avoided() -> None:
    space = space_of("tpe")
    points = [drawn(space, number, 1) for number in range(60)]
    late = [Told(point, 5.0 + number / 10) for number, point in enumerate(points) if point["optim"] == "muon"]
    broken = [Told(point, 99.0) for point in points if point["optim"] != "muon"]
    assert late and broken
    proposed = [suggest(space, [*late, *broken], [], RANDOM_EVERY * 10 + step, 0) for step in range(RANDOM_EVERY - 1)]
    assert sum(point is not None and point["optim"] == "muon" for point in proposed) >= RANDOM_EVERY - 2


def test_the_first_proposals_and_every_sixth_are_drawn_at_random() -> None:
    space = space_of("tpe")
    told, other = history(space, STARTUP, 0), history(space, STARTUP, 5)
    assert suggest(space, told[:-1], [], 30, 0) == suggest(space, [], [], 30, 0) == drawn(space, 30, 0)
    for number in range(30, 48):  # points that were not told, since these are drawn again
        is_random = suggest(space, told, [], number, 0) == suggest(space, other, [], number, 0)
        assert is_random == (number % RANDOM_EVERY == RANDOM_EVERY - 1)


def test_what_is_being_run_is_not_asked_for_again() -> None:
    space = space_of("tpe", RATE, SHARE)
    told = [Told(point, point["rate"]) for point in (drawn(space, number, 0) for number in range(20))]
    differ = 0
    for seed in range(8):
        first = suggest(space, told, [], 0, seed)
        assert first is not None
        differ += suggest(space, told, [first, first, first], 0, seed) != first
    assert differ >= 4


def test_a_grid_goes_through_all_combinations_once() -> None:
    optim = replace(OPTIM, values=("adamw", "sgd"))
    momentum = SweepParameter(key="momentum", distribution="categorical", values=(0.8, 0.9), when={"optim": ("sgd",)})
    layers = replace(LAYERS, low=1, high=3)
    share = SweepParameter(key="share", distribution="q_uniform", low=0.0, high=0.5, step=0.25)
    space = space_of("grid", optim, momentum, layers, share, FIXED, constraints=["layers * share < 1.5"])
    done: list[dict[str, Any]] = []
    while (point := suggest(space, [Told(p, 1.0) for p in done[::2]], done[1::2], len(done), 0)) is not None:
        assert point not in done
        done.append(point)
    assert len(done) == 3 * (9 - 1)
    assert done[0] == {"optim": "adamw", "layers": 1, "share": 0.0, "fixed": 7}
    assert all(("momentum" in point) == (point["optim"] == "sgd") for point in done)
    wider = space_of(
        "grid", optim, momentum, replace(layers, high=4), share, FIXED, constraints=["layers * share < 1.5"]
    )
    more = suggest(wider, [Told(point, 1.0) for point in done], [], len(done), 0)
    assert more == {"optim": "adamw", "layers": 4, "share": 0.0, "fixed": 7}


def test_a_grid_of_which_nothing_fits_is_told() -> None:
    with pytest.raises(StudyError, match=r"none of the 8 combinations .*layers > 9 does not hold"):
        suggest(space_of("grid", LAYERS, constraints=["layers > 9"]), [], [], 0, 0)


def test_a_grid_runs_the_combination_of_the_baseline_too() -> None:
    """The baseline is in no ranking, so what it ran with could not be named the best."""
    bf16 = SweepParameter(key="training.bf16", distribution="categorical", values=(False, True))
    space = replace(space_of("grid", bf16), base=RunConfig())
    assert suggest(space, [Told({}, 1.0)], [], 0, 0) == {"training.bf16": False}
    assert suggest(space, [Told({}, 1.0)], [{"training.bf16": False}], 1, 0) == {"training.bf16": True}
    both = [{"training.bf16": False}, {"training.bf16": True}]
    assert suggest(space, [Told({}, 1.0)], both, 2, 0) is None


def test_a_parameter_of_one_value_is_not_what_the_baseline_had() -> None:
    optim = SweepParameter(key="training.optim", distribution="categorical", values=("muon",))
    rate = SweepParameter(key="training.learning_rate", distribution="categorical", values=(5e-5, 1e-3))
    space = replace(space_of("grid", optim, rate), base=RunConfig())
    done: list[dict[str, Any]] = []
    while (point := suggest(space, [Told({}, 1.0)], done, len(done), 0)) is not None:
        done.append(point)
    assert done == [{"training.optim": "muon", "training.learning_rate": value} for value in (5e-5, 1e-3)]


@pytest.mark.parametrize("method", METHODS)
def test_no_point_runs_twice_while_there_are_others(method: Method) -> None:
    space = space_of(method, OPTIM, replace(LAYERS, high=6), FIXED)
    told = [Told({}, 9.0)]
    while (point := suggest(space, told, [], len(told) - 1, 3)) is not None:
        assert point not in [each.point for each in told]
        told.append(Told(point, float(len(told) % 7)))
        assert len(told) <= 1 + 18
    assert len(told) == 1 + 18
    missing = told.pop(5).point
    assert suggest(space, told, [missing], 18, 3) is None
    assert suggest(space, told, [], 18, 3) == missing


def test_a_space_without_end_repeats_a_point_rather_than_none() -> None:
    rounded = SweepParameter(key="x", distribution="q_log_normal", mu=0.0, sigma=0.3, step=1)
    space = space_of("random", rounded)
    told = [Told({"x": x}, 1.0) for x in range(8)]
    point = suggest(space, told, [], 8, 0)
    assert point is not None and point["x"] in (1, 2)


def test_what_has_no_chance_is_not_proposed_when_all_else_has_run() -> None:
    space = space_of("random", replace(OPTIM, probabilities=(0.8, 0.2, 0.0)))
    assert suggest(space, [Told({"optim": "adamw"}, 1.0)], [], 1, 0) == {"optim": "muon"}
    assert suggest(space, [Told({"optim": name}, 1.0) for name in ("adamw", "muon")], [], 2, 0) is None


@pytest.mark.parametrize("method", METHODS)
def test_a_small_corner_of_a_space_is_found(method: Method) -> None:
    """Constraints are looked at a hundred thousand times: one point in five thousand fits here."""
    space = space_of(method, SHARE, RATE, constraints=["share < 0.0002"])
    told = [Told({"share": number / 1e5, "rate": 0.1}, float(number)) for number in range(12)]
    for number in range(4):
        point = suggest(space, told, [], number, 0)
        assert point is not None and point["share"] < 0.0002


def test_constraints_hold_or_the_sweep_says_that_they_cannot() -> None:
    for method in METHODS:
        space = space_of(method, constraints=["layers * batch <= 64"])
        told = history(space, 12)
        for number in range(12):
            point = suggest(space, told, [], number, 0)
            assert point is not None
            assert point["layers"] * point["batch"] <= 64
    with pytest.raises(StudyError, match=r"none of 100000 points .*: layers > 9 does not hold"):
        suggest(space_of("tpe", LAYERS, constraints=["layers > 9"]), [], [], 0, 0)


@pytest.mark.parametrize("method", METHODS)
def test_values_that_the_schema_does_not_take_together_are_drawn_again(method: Method) -> None:
    width = SweepParameter(key="model.hidden_size", distribution="categorical", values=(96, 128))
    heads = SweepParameter(key="model.num_attention_heads", distribution="categorical", values=(3, 4))
    space = replace(space_of(method, width, heads), base=RunConfig())
    told = [Told({"model.hidden_size": 96, "model.num_attention_heads": 3}, float(number)) for number in range(12)]
    for number in range(24):
        point = suggest(space, told, [], number, 0)
        assert point is not None
        assert point != {"model.hidden_size": 128, "model.num_attention_heads": 3}


def test_probabilities_weigh_random_draws() -> None:
    weighed = replace(OPTIM, probabilities=(0.8, 0.2, 0.0))
    found = [drawn(space_of("random", weighed), number, 0)["optim"] for number in range(400)]
    assert found.count("sgd") == 0
    assert 0.72 < found.count("adamw") / 400 < 0.88


def test_quasi_random_points_lie_evenly() -> None:
    space = space_of("qmc", SHARE, RATE)
    points = [suggest(space, [], [], number, 4) for number in range(27)]
    shares = [point["share"] for point in points[:16] if point is not None]
    assert sorted(int(16 * share) for share in shares) == list(range(16))
    rates = [RATE.position_of(point["rate"]) for point in points if point is not None]
    assert sorted(int(27 * (rate + 1e-9)) for rate in rates) == list(range(27))


SHAPED: list[dict[str, Any]] = [
    {"distribution": "normal", "mu": 5.0, "sigma": 2.0},
    {"distribution": "q_log_normal", "mu": 1.0, "sigma": 1.0, "step": 1},
    {"distribution": "beta", "a": 2.0, "b": 6.0},
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fields", SHAPED, ids=lambda fields: fields["distribution"])
def test_distributions_without_bounds_are_searched_by_position(method: Method, fields: dict[str, Any]) -> None:
    space = space_of(method, SweepParameter(key="x", **fields), SHARE)
    points = [drawn(space, number, 0) for number in range(200)]
    told = [Told(point, abs(point["x"] - points[0]["x"])) for point in points[:30]]
    proposed = suggest(space, told, [], 0, 0)
    assert proposed is not None
    assert math.isfinite(proposed["x"])
    middle = median(point["x"] for point in points)
    assert abs(space.parameters[0].position_of(middle) - 0.5) < 0.15


def test_numbers_of_a_wider_space_keep_their_history() -> None:
    """Runs with small shares were the best, and still are where larger ones are allowed."""
    narrow = space_of("tpe", SHARE, RATE)
    told = [Told(p, p["share"]) for p in (drawn(narrow, number, 0) for number in range(30))]
    wide = space_of("tpe", replace(SHARE, high=1.2), RATE)
    asked = [suggest(wide, told, [], number, seed) for seed in range(3) for number in range(5)]
    assert median(point["share"] for point in asked if point is not None) < 0.5


def test_a_choice_that_was_taken_away_is_not_proposed_and_one_that_was_added_is() -> None:
    before = space_of("tpe", OPTIM, SHARE)
    points = [drawn(before, number, 0) for number in range(30)]
    told = [Told(point, float(point["optim"] != "sgd")) for point in points]
    after = space_of("tpe", replace(OPTIM, values=("muon", "adamw", "lion")), SHARE)
    asked = [suggest(after, told, [], number, seed) for seed in range(6) for number in range(5)]
    found = {point["optim"] for point in asked if point is not None}
    assert found <= {"muon", "adamw", "lion"}
    assert "lion" in found


def test_a_key_that_is_new_has_the_value_of_the_config() -> None:
    decay = SweepParameter(key="training.weight_decay", distribution="uniform", low=0.0, high=1.0)
    rate = SweepParameter(key="training.learning_rate", distribution="log_uniform_values", low=1e-5, high=1e-1)
    space = replace(space_of("tpe", rate, decay), base=RunConfig())
    told = [Told({"training.learning_rate": 1e-5 * 2**number}, float(number)) for number in range(13)]
    written_out = [Told({**each.point, "training.weight_decay": 0.0}, each.score) for each in told]
    assert suggest(space, told, [], 0, 0) == suggest(space, written_out, [], 0, 0)
    elsewhere = [Told({**each.point, "training.weight_decay": 1.0}, each.score) for each in told]
    assert suggest(space, told, [], 0, 0) != suggest(space, elsewhere, [], 0, 0)


ODD = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e3, 1e3) | st.sampled_from(["adamw", "lion"])
ODD_POINTS = st.dictionaries(st.sampled_from(["rate", "share", "layers", "batch", "optim", "momentum", "old"]), ODD)


@given(st.lists(ODD_POINTS, min_size=STARTUP, max_size=STARTUP + 4), st.lists(ODD_POINTS, max_size=2))
@settings(deadline=None, max_examples=25)
def test_any_history_is_taken_in(points: list[dict[str, Any]], pending: list[dict[str, Any]]) -> None:
    told = [Told(point, float(number)) for number, point in enumerate(points)]
    proposed = suggest(space_of("tpe"), told, pending, 0, 0)
    assert proposed is not None
    assert is_inside(proposed)


def test_cmaes_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(MissingExtraError, match=r"cmaes is not installed; run: pip install 'hotlap\[cma\]'"):
        suggest(space_of("cmaes"), [], [], 0, 0)


def test_cmaes_moves_towards_the_best() -> None:
    pytest.importorskip("cmaes")
    space = space_of("cmaes", RATE, SHARE, OPTIM, MOMENTUM)
    told: list[Told] = []
    for number in range(90):
        point = suggest(space, told, [], number, 0)
        assert point is not None
        assert point == suggest(space, told, [], number, 0)
        told.append(Told(point, abs(RATE.position_of(point["rate"]) - 0.8) + abs(point["share"] - 0.2)))
    scores = [each.score for each in told]
    assert median(scores[-15:]) < 0.3 * median(scores[:15])


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_is_finite(score: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Told({}, score)


def test_a_random_search_does_not_depend_on_the_global_generator() -> None:
    space = space_of("random")
    random.seed(1)
    first = drawn(space, 0, 0)
    random.seed(2)
    assert first == drawn(space, 0, 0)
