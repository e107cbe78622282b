"""The record of a measured cell: JSON there and back, and what is no record."""

import json
import math
from typing import Any

import pytest

from hotlap.core.bench_records import CellRepeat, median

FULL = CellRepeat(
    cell=3,
    repeat=1,
    settings={"training.per_device_train_batch_size": 8, "training.bf16": True},
    outcome="measured",
    step_seconds=(0.5, 0.25),
    startup_seconds=1.5,
    samples_per_step=8.0,
    seconds_by_part={"forward": 0.1},
    peak_memory_bytes=123,
    flops_per_step=1e9,
    device="a CPU",
    evidence={"gc_seconds": 0.0},
)
LEAST: dict[str, Any] = {"cell": 0, "repeat": 0, "settings": {}, "outcome": "failed"}


def test_a_record_survives_json() -> None:
    assert CellRepeat.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL


def test_missing_keys_get_defaults_and_unknown_ones_are_left_out() -> None:
    read = CellRepeat.from_json({**LEAST, "of_a_later_version": 1})
    assert read == CellRepeat(0, 0, {}, "failed")
    assert not read.is_measured and FULL.is_measured


@pytest.mark.parametrize("name", ["cell", "repeat", "settings", "outcome"])
def test_a_line_that_names_no_cell_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"needs {name}"):
        CellRepeat.from_json({key: value for key, value in LEAST.items() if key != name})


def test_an_unknown_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="'great' is none of measured"):
        CellRepeat.from_json({**LEAST, "outcome": "great"})


@pytest.mark.parametrize(("values", "expected"), [((3.0, 1.0, 2.0), 2.0), ((4.0, 1.0), 2.5)])
def test_the_median(values: tuple[float, ...], expected: float) -> None:
    assert median(values) == expected


def test_nothing_has_no_median() -> None:
    assert math.isnan(median(()))
