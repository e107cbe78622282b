"""How busy the machine was while a command took its steps."""

from typing import Any

import pytest

from hotlap.bench.command_usage import usage_of


def samples(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"seconds": float(second), "cores": 2, **row} for second, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"run_cores": 0.1}] * 2 + [{"run_cores": 1.5}] * 3, {"used_cores": 1.5, "cores": 2.0}),
        ([{"run_cores": 0.1}] * 3, {}),
        ([{"run_cores": None}] * 6, {}),
        (
            [{"run_cores": 1.0, "gpu_percent": [0.0, percent]} for percent in (0.0, 0.0, 80.0, 90.0, 100.0)],
            {"used_cores": 1.0, "cores": 2.0, "gpu_ratio": 0.9},
        ),
        ([{"run_cores": 1.0, "gpu_percent": [2.0]}] * 5, {"used_cores": 1.0, "cores": 2.0}),
    ],
)
def test_medians_after_the_start_are_told(rows: list[dict[str, Any]], expected: dict[str, float]) -> None:
    assert usage_of(samples(*rows), 1.5) == pytest.approx(expected)
