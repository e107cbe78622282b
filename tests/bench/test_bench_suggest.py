"""What a bench may suggest, and what it leaves to the config: single values, held batches, fuller batches."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from synthetic_bench import BATCH, BF16, COMPILE, LENGTH, WORKERS, measure, roofline

from hotlap.bench.answers import Answers, answers_from
from hotlap.bench.suggest import Suggestion
from hotlap.bench.words import headline

BASE = {BATCH: 4, LENGTH: 128, BF16: False, COMPILE: False, WORKERS: 0, "devices": 1}
TOTAL = "training.total_batch_size"
PADDING = "training.padding"


def suggestion_of(answers: Answers) -> Suggestion:
    assert answers.suggestion is not None
    return answers.suggestion


@pytest.mark.parametrize(
    ("single", "told"),
    [
        ({LENGTH: [512]}, "all cells have task.block_size 512; the config keeps its own, 128"),
        ({"training.optim": ["muon"]}, "all cells have training.optim muon; the config keeps its own, adamw_torch"),
        ({COMPILE: [True]}, "all cells have training.torch_compile true; the config keeps its own, false"),
        ({"devices": [2]}, "all cells have devices 2; the config keeps its own, 1"),
    ],
)
def test_what_was_measured_at_one_value_is_not_suggested(single: dict[str, Any], told: str) -> None:
    base = {**BASE, "training.optim": "adamw_torch"}
    found = answers_from(measure({**single, BATCH: [4, 8]}, noise=0.005), base)
    suggestion = suggestion_of(found)
    assert suggestion.patch == {BATCH: 8}
    assert any(told in note for note in suggestion.notes)
    assert math.isnan(suggestion.gain) and "the config as it is" not in headline(found)
    alone = answers_from(measure(single), base)
    assert suggestion_of(alone).patch == {} and "nothing to change in the config" in headline(alone)


def test_one_value_that_is_the_config_s_needs_no_words() -> None:
    found = suggestion_of(answers_from(measure({LENGTH: [128], BATCH: [4, 8]}, noise=0.005), BASE))
    assert found.patch == {BATCH: 8} and found.is_gain_measured
    assert not any("all cells have" in note for note in found.notes)


def test_a_batch_that_follows_from_a_total_is_not_suggested() -> None:
    repeats = measure({BATCH: [1, 8], BF16: [False, True]}, noise=0.005)
    found = answers_from(repeats, {**BASE, BATCH: "auto", TOTAL: 64})
    suggestion = suggestion_of(found)
    assert suggestion.patch == {BF16: True}
    assert found.cell(suggestion.cell).settings[BATCH] == 8
    assert any(f"{TOTAL} 64 of the config" in note and note.endswith("measured is 8") for note in suggestion.notes)
    assert not any("another training" in note for note in suggestion.notes)
    assert math.isnan(suggestion.gain) and not suggestion.is_gain_measured
    assert "as it is" not in headline(found)


def test_rows_in_passes_of_a_held_step_are_another_way_to_take_the_same_one() -> None:
    rows, bf16 = "params.device_batch_size", "params.bf16"

    def machine(setting: Mapping[str, Any]) -> float:
        return (0.05 + 0.4 / setting[BATCH]) / (2.0 if setting[BF16] else 1.0)

    repeats = []
    for one in measure({BATCH: [4, 8, 16], BF16: [False, True]}, machine, noise=0.002):
        settings = {rows: one.settings[BATCH], bf16: one.settings[BF16]}
        is_left_out = settings == {rows: 4, bf16: True}
        step = replace(one, settings=settings, samples_per_step=64, tokens_per_step=0.0, slots_per_step=0.0)
        repeats.append(replace(step, outcome="failed", step_seconds=()) if is_left_out else step)
    base = {rows: 4, bf16: False}
    held = answers_from(repeats, {**base, "params.total_batch_size": 64})
    suggestion = suggestion_of(held)
    assert suggestion.patch == {rows: 16, bf16: True} and suggestion.is_gain_measured
    assert not any("another training" in note for note in suggestion.notes)
    (untested,) = held.predictions  # no larger batch: nothing is known of its passes
    assert untested.settings == {rows: 4, bf16: True}
    assert untested.pay == pytest.approx(64 / machine({BATCH: 4, BF16: True}), rel=0.1)
    assert len(held.knees) == 2, "where larger ones stop to pay is told as ever"
    free = answers_from(repeats, base)
    assert any("another batch is another training" in note for note in suggestion_of(free).notes)


def padded(settings: Mapping[str, Any]) -> float:
    """Packed rows take three times as long, and hold four times as much."""
    return roofline(settings) * (3.0 if settings[PADDING] == "packed" else 1.0)


def test_packed_rows_are_another_step_and_their_work_is_their_own() -> None:
    repeats = [
        replace(one, tokens_per_step=one.tokens_per_step * (1.0 if one.settings[PADDING] == "packed" else 0.25))
        for one in measure({BATCH: [2, 4, 8], PADDING: ["longest", "packed"]}, padded, noise=0.005)
    ]
    found = answers_from(repeats, {**BASE, PADDING: "longest"})
    assert suggestion_of(found).patch == {BATCH: 8}  # packed brings more tokens a second, by other steps
    by_padding = {one.settings[PADDING]: one for one in found.predictions if one.settings[BATCH] == 16}
    for padding, share in (("longest", 0.25), ("packed", 1.0)):
        expected = 16 * 128 * share / padded({BATCH: 16, LENGTH: 128, PADDING: padding})
        assert by_padding[padding].pay == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize(
    ("base", "patch"),
    [("longest", {PADDING: "bucketed"}), ("bucketed", {}), ("packed", {}), (None, {PADDING: "bucketed"})],
)
def test_bucketed_rows_are_the_same_steps_but_not_to_a_config_that_packs(base: Any, patch: dict[str, Any]) -> None:
    repeats = measure(
        {PADDING: ["longest", "bucketed"]}, lambda s: 0.1 if s[PADDING] == "bucketed" else 0.2, noise=0.005
    )
    assert suggestion_of(answers_from(repeats, {**BASE, PADDING: base})).patch == patch


def test_fused_adam_is_no_suggestion_for_a_config_with_another_optimizer() -> None:
    key = "training.optim"
    repeats = measure({key: ["adamw_torch", "adamw_torch_fused"]}, lambda s: 0.1 if "fused" in s[key] else 0.2)
    found = suggestion_of(answers_from(repeats, {key: "muon"}))
    assert found.patch == {} and any("muon, was not measured" in note for note in found.notes)


def test_without_workers_nothing_that_needs_them_stays() -> None:
    ahead, kept = "training.dataloader_prefetch_factor", "training.dataloader_persistent_workers"
    repeats = measure({WORKERS: [0, 2]}, lambda s: 0.2 if s[WORKERS] else 0.1, noise=0.005)
    found = suggestion_of(answers_from(repeats, {**BASE, WORKERS: 2, ahead: 4, kept: False}))
    assert found.patch == {WORKERS: 0, ahead: None}
    slower = measure({WORKERS: [0, 2]}, lambda s: 0.1 if s[WORKERS] else 0.2, noise=0.005)
    assert suggestion_of(answers_from(slower, {**BASE, ahead: 4})).patch == {WORKERS: 2}
