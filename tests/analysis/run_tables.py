"""Tables of made-up runs for the tests of the analysis."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from hotlap.analysis.table import Column, RunTable

Point = Mapping[str, Any]


def additive(point: Point) -> float:
    """Return a score with the shares 0.64, 0.16, 0.20 and 0 (variances 16/12, 4/12, 0.4225 and 0)."""
    return 4 * point["rate"] + 2 * point["width"] + 1.3 * (point["optim"] == "muon")


def together(point: Point) -> float:
    """Return a score in which rate and width act together for 0.60 of the variance."""
    return point["rate"] + point["width"] + 6 * (point["rate"] - 0.5) * (point["width"] - 0.5)


def made(num_runs: int, function: Callable[[Point], float] = additive, seed: int = 0, noise: float = 0.0) -> RunTable:
    """Return runs at random points: two numbers from 0 to 1 and two categories of two values each."""
    generator = random.Random(seed)
    points = [
        {
            "rate": generator.random(),
            "width": generator.random(),
            "optim": generator.choice(["adamw", "muon"]),
            "compile": generator.choice(["false", "true"]),
        }
        for _ in range(num_runs)
    ]
    scores = [function(point) + noise * generator.gauss(0, 1) for point in points]
    return table(
        scores,
        rate=[point["rate"] for point in points],
        width=[point["width"] for point in points],
        optim=[point["optim"] for point in points],
        compile=[point["compile"] for point in points],
    )


def table(
    scores: list[float], measures: Mapping[str, list[float | None]] | None = None, **values: list[Any]
) -> RunTable:
    """Return a table with these parameters, numbers where none of the values is a text, and these measures."""
    return RunTable(
        run_ids=tuple(f"r{number:04}" for number in range(1, len(scores) + 1)),
        parameters=tuple(column(name, found) for name, found in values.items()),
        measures=tuple(Column(name, "number", tuple(found)) for name, found in (measures or {}).items()),
        scores=tuple(scores),
        score_name="eval_loss",
    )


def column(name: str, values: list[Any], is_log: bool = False) -> Column:
    """Return a column of names where one of the values is a text, else of numbers."""
    is_category = any(isinstance(value, str) for value in values)
    return Column(name, "category" if is_category else "number", tuple(values), is_log)


def waves(num_runs: int, period: float) -> list[float]:
    """Return numbers that go up and down: without noise, and related to no other period."""
    return [math.sin(2 * math.pi * run / period) for run in range(num_runs)]
