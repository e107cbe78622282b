"""What is said of a pipeline's figures."""

from typing import Any

import pytest

from hotlap.bench.data_reading import best_loader, read_data, read_rates
from hotlap.bench.data_speed import parse_workers
from hotlap.core.errors import ConfigError

PARTS = [{"name": "sampling", "seconds_per_step": 0.09}, {"name": "collating", "seconds_per_step": 0.01}]


def loader(workers: int, alone: float, step: float, data: float) -> dict[str, Any]:
    return {"workers": workers, "seconds_per_step": alone, "step_seconds": step, "data_seconds": data}


def need(workers: int = 0) -> dict[str, Any]:
    return {"step_seconds": 0.041, "samples_per_step": 4, "tokens_per_step": 9, "workers": workers}


def test_fast_data_are_left_alone() -> None:
    reading = read_data(PARTS, need(), [loader(0, 0.001, 0.042, 0.001), loader(2, 0.0005, 0.041, 0.0)])
    assert reading.text.startswith("data sampling is 41 × faster than training needs")
    assert (reading.is_bottleneck, reading.workers) == (False, 0)


def test_the_fewest_workers_that_do_are_named() -> None:
    loaders = [
        loader(0, 0.1, 0.14, 0.1),
        loader(2, 0.05, 0.05, 0.01),
        loader(4, 0.025, 0.041, 0),
        loader(8, 0.02, 0.0405, 0),
    ]
    reading = read_data(PARTS, need(), loaders)
    assert reading.is_bottleneck
    assert "is the bottleneck: 71% of a step goes into them" in reading.text
    assert reading.advice.startswith("use 4 workers: training.dataloader_num_workers: 4")
    assert reading.workers == best_loader(loaders)["workers"] == 4


def test_what_the_config_has_is_what_is_judged() -> None:
    loaders = [loader(0, 0.1, 0.14, 0.1), loader(4, 0.01, 0.041, 0.0)]
    assert read_data(PARTS, need(4), loaders).is_bottleneck is False


def test_where_workers_do_not_help_the_dearest_part_is_named() -> None:
    reading = read_data(PARTS, need(), [loader(0, 0.1, 0.14, 0.1), loader(2, 0.1, 0.14, 0.1)])
    assert "make it cheaper (sampling takes 90% of it)" in reading.advice


def test_a_smaller_share_holds_up_without_being_the_bottleneck() -> None:
    reading = read_data(PARTS, need(), [loader(0, 0.01, 0.051, 0.01)])
    assert "holds training up: 20% of a step" in reading.text


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (None, "at most 400 samples/s with 4 workers"),
        (10, "10 × faster than training needs, with no worker"),
        (150, "100 samples/s with no worker, 150 needed"),
        (1000, "400 samples/s with 4 workers at most, the training needs 1,000"),
    ],
)
def test_rates_are_held_against_what_is_needed(needs: float | None, words: str) -> None:
    rates = [{"workers": count, "samples_per_second": rate} for count, rate in ((0, 100), (2, 200), (4, 400))]
    reading = read_rates(rates, needs)
    assert words in reading.text
    assert reading.is_bottleneck is (None if needs is None else needs > 100)
    if needs == 150:
        assert reading.advice == "use 2 workers"


def test_numbers_of_workers() -> None:
    assert parse_workers("4, 0,2,2") == (0, 2, 4)
    for text in ("", "two", "-1", "1.5", "0,,2", "100000"):
        with pytest.raises(ConfigError, match="--workers"):
            parse_workers(text)
