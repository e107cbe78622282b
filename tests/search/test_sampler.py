"""TPE over our own records: repeatable, within the bounds, and better than chance."""

import math
import random
from itertools import islice
from statistics import median
from typing import Any

from hotlap.search.sampler import Scored, tpe_suggestions
from hotlap.search.space import Choice, Number, Space

SPACE = Space(
    (
        Number(name="rate", low=1e-4, high=1.0, is_log=True),
        Number(name="share", low=0, high=1),
        Number(name="layers", low=1, high=8, is_whole=True),
        Number(name="batch", low=1, high=256, is_log=True, is_whole=True),
        Choice(name="optim", values=("adamw", "muon")),
        Choice(name="clips", values=(0.0, 1.0)),
    )
)


def badness(point: dict[str, Any]) -> float:
    return (
        abs(math.log10(point["rate"] / 0.01))
        + abs(point["share"] - 0.3)
        + abs(point["layers"] - 3) / 8
        + abs(math.log2(point["batch"] / 16)) / 8
        + (point["optim"] == "adamw")
    )


def scored(number: int, seed: int = 0) -> list[Scored]:
    generator = random.Random(seed)
    points = [SPACE.sample_prior(generator, 3.0) for _ in range(number)]
    return [Scored(point, badness(point)) for point in points]


def test_the_same_question_gets_the_same_answers() -> None:
    seen = scored(12)
    first = list(islice(tpe_suggestions(SPACE, seen, 7), 3))
    assert first == list(islice(tpe_suggestions(SPACE, seen, 7), 3))
    assert first != list(islice(tpe_suggestions(SPACE, seen, 8), 3))
    assert first[0] != first[1]


def test_suggestions_lie_within_the_bounds() -> None:
    for point in islice(tpe_suggestions(SPACE, scored(20), 0), 20):
        assert point == SPACE.clip(point)
        assert list(point) == list(SPACE.names)


def test_points_beyond_the_bounds_are_taken_in() -> None:
    odd = {"rate": 50.0, "share": -1.0, "layers": 20, "batch": 3.7, "optim": "lion", "clips": 0.5}
    assert next(tpe_suggestions(SPACE, [Scored(odd, 1.0)], 0))["optim"] in ("adamw", "muon")


def test_it_looks_where_good_points_were() -> None:
    suggested = [badness(next(tpe_suggestions(SPACE, scored(40, seed), seed))) for seed in range(12)]
    drawn = [badness(SPACE.sample_prior(random.Random(seed), 3.0)) for seed in range(100)]
    assert median(suggested) < 0.7 * median(drawn)


def test_failures_with_a_bad_score_are_avoided_from_the_first_one() -> None:
    """Of few trials that all reached late or broke, broken ones must not count as the good ones."""
    late = [Scored({**each.point, "optim": "muon"}, 5.0 + i / 10) for i, each in enumerate(scored(6, 1))]
    broken = [Scored({**each.point, "optim": "adamw"}, 9.0) for each in scored(12, 2)]
    points = list(islice(tpe_suggestions(SPACE, [*late, *broken], 0), 12))
    assert sum(point["optim"] == "muon" for point in points) > 8
