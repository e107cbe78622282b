"""What a bench answers: knee, memory line, scaling, the weightiest axis, and what it suggests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_bench import BATCH, BF16, COMPILE, LENGTH, WORKERS, Machine, measure, roofline

from hotlap.bench.answers import Answers, answers_from, predicted_seconds
from hotlap.core.bench_records import CellRepeat

BASE = {BATCH: 4, LENGTH: 128, BF16: False, COMPILE: False, WORKERS: 0, "devices": 1}
GRID = {BATCH: [1, 2, 4, 8, 16], LENGTH: [64, 128, 256], BF16: [False, True]}


def answer(axes: Mapping[str, Any], machine: Machine = roofline, **more: Any) -> Answers:
    return answers_from(measure(axes, machine, **more), BASE)


def saturating(setting: Mapping[str, Any]) -> float:
    """A device that takes 8 rows at once: up to there a step takes as long as ever, then each row its share."""
    return 0.01 * max(float(setting[BATCH]) / 8, 1.0)


def refused(repeats: list[CellRepeat], batch: int) -> list[CellRepeat]:
    """The same, with every batch from `batch` on out of memory."""
    return [
        replace(one, outcome="out_of_memory", step_seconds=(), peak_memory_bytes=None)
        if one.settings[BATCH] >= batch
        else one
        for one in repeats
    ]


def with_memory(repeats: list[CellRepeat], fixed: float, row: float) -> list[CellRepeat]:
    return [replace(one, peak_memory_bytes=int(fixed + row * one.settings[BATCH])) for one in repeats]


def test_the_knee_is_the_smallest_batch_that_is_nearly_as_fast() -> None:
    (knee,) = answer({BATCH: [1, 2, 4, 8, 16, 32]}, saturating, noise=0.002).knees
    assert knee.batch == 8 and knee.is_inside
    (none,) = answer({BATCH: [1, 2, 4, 8]}, saturating, noise=0.002).knees
    assert none.batch == 8 and not none.is_inside


def test_within_noise_the_simpler_setting_is_suggested() -> None:
    axes = {BATCH: [4, 8, 16, 32], BF16: [False, True], WORKERS: [0, 2, 4]}
    found = answer(axes, saturating, noise=0.004).suggestion
    assert found is not None
    assert found.patch == {BATCH: 8} and found.loss <= found.tolerance <= 0.04
    assert found.is_gain_measured and found.gain == pytest.approx(2.0, rel=0.03)


def test_what_is_better_beyond_the_noise_is_suggested_all_of_it() -> None:
    found = answer(GRID, noise=0.01).suggestion
    assert found is not None
    assert found.patch == {BATCH: 16, BF16: True}
    assert any("16 is the largest that was measured" in note for note in found.notes)


def test_a_config_that_is_best_is_left_alone() -> None:
    axes = {BATCH: [1, 2, 4]}
    found = answer(axes, noise=0.005).suggestion
    assert found is not None and found.patch == {} and found.gain == 1.0


def test_the_length_stays_the_config_s() -> None:
    found = answer(GRID, noise=0.01)
    assert found.suggestion is not None
    assert found.cell(found.suggestion.cell).settings[LENGTH] == 128  # though 256 brings more tokens a second
    other = answers_from(measure(GRID), {**BASE, LENGTH: 96})
    assert other.suggestion is not None and LENGTH not in other.suggestion.patch
    assert any("block_size of the config, 96, was not measured" in note for note in other.suggestion.notes)


def test_another_optimizer_is_another_training_but_fused_is_the_same() -> None:
    def machine(setting: Mapping[str, Any]) -> float:
        return {"sgd": 0.01, "adamw_torch": 0.03, "adamw_torch_fused": 0.02}[str(setting["training.optim"])]

    key = "training.optim"
    base = {key: "adamw_torch"}
    kept = answers_from(measure({key: ["sgd", "adamw_torch"]}, machine), base).suggestion
    assert kept is not None and kept.patch == {}
    fused = answers_from(measure({key: ["adamw_torch", "adamw_torch_fused"]}, machine), base).suggestion
    assert fused is not None and fused.patch == {key: "adamw_torch_fused"}


def test_an_untested_gain_is_told_as_what_it_is() -> None:
    found = answer({BATCH: [1, 2, 4, 8], BF16: [False, True]}, noise=0.01)
    assert found.suggestion is not None and found.suggestion.patch[BATCH] == 8
    first, *_ = found.worth_measuring
    assert first.settings[BATCH] == 16 and not first.is_inside
    assert first.seconds_per_step == pytest.approx(roofline({**first.settings, LENGTH: 128}), rel=0.15)


def test_nothing_measured_is_no_suggestion() -> None:
    repeats = [replace(one, outcome="failed", step_seconds=()) for one in measure({BATCH: [1, 2]})]
    found = answers_from(repeats, BASE)
    assert found.suggestion is None and found.model is None and found.predictions == ()
    assert answers_from([], BASE).cells == ()


def test_the_memory_line_and_the_largest_batch_that_fits() -> None:
    repeats = with_memory(measure({BATCH: [1, 2, 4, 8, 16]}), 1e9, 2e8)
    (line,) = answers_from(repeats, BASE, limit_bytes=10**10).memory
    assert line.fixed_bytes == pytest.approx(1e9, rel=1e-6) and line.row_bytes == pytest.approx(2e8, rel=1e-6)
    assert line.largest_measured == 16 and line.largest_predicted == 41 and line.error < 1e-6  # 0.92 · 10 GB
    (cut,) = answers_from(refused(repeats, 16), BASE, limit_bytes=10**10).memory
    assert cut.largest_measured == 8 and cut.smallest_refused == 16 and cut.largest_predicted == 15
    (open_end,) = answers_from(repeats, BASE).memory
    assert open_end.largest_predicted is None


def test_memory_that_does_not_grow_has_no_largest_batch() -> None:
    (line,) = answers_from(with_memory(measure({BATCH: [1, 2, 4]}), 1e9, 0), BASE, limit_bytes=10**10).memory
    assert line.row_bytes == 0 and line.largest_predicted is None


def test_what_does_not_fit_is_neither_suggested_nor_predicted() -> None:
    found = answers_from(refused(measure(GRID), 8), BASE)
    assert found.suggestion is not None and found.suggestion.patch == {BF16: True}
    assert all(one.settings[BATCH] < 8 for one in found.predictions)


def test_devices_are_held_against_the_ideal() -> None:
    repeats = []
    for one in measure({BATCH: [4, 8], "devices": [1, 2]}, lambda setting: 0.01, noise=0.0):
        devices = one.settings["devices"]
        seconds = tuple(second * (1.25 if devices == 2 else 1.0) for second in one.step_seconds)
        tokens = one.tokens_per_step * devices
        repeats.append(replace(one, step_seconds=seconds, tokens_per_step=tokens, num_devices=devices))
    found = answers_from(repeats, BASE)
    assert [each.efficiency for each in found.scalings] == pytest.approx([0.8, 0.8])
    assert found.suggestion is not None and found.suggestion.patch == {BATCH: 8, "devices": 2}
    verdict = found.verdict(found.suggestion.cell)
    assert verdict.shares["communication"] == pytest.approx(0.2)


def test_the_axis_that_matters_most_comes_first() -> None:
    found = answer({WORKERS: [0, 2], BF16: [False, True], BATCH: [1, 4, 16]}, noise=0.005)
    keys = [effect.axis.key for effect in found.effects]
    assert keys[0] == BATCH and keys[-1] == WORKERS
    assert not found.effects[-1].is_visible
    assert found.effects[0].best == 16 and found.effects[0].ratio > 3


def test_predictions_by_config_keys() -> None:
    found = answer(GRID, noise=0.005)
    wanted = {BATCH: 12, BF16: True, "training.learning_rate": 0.1}
    assert predicted_seconds(found, wanted) == pytest.approx(roofline({**BASE, **wanted}), rel=0.1)
    measured = predicted_seconds(found, {BATCH: 4})
    assert measured in [cell.seconds_per_step for cell in found.cells]
    assert predicted_seconds(found, {BF16: "fp8"}) is None


def test_a_command_is_compared_by_its_steps() -> None:
    repeats = [
        CellRepeat(cell, 0, {"params.batch_size": batch}, "measured", step_seconds=(0.01 * batch,) * 3)
        for cell, batch in enumerate((8, 16))
    ]
    found = answers_from(repeats, {"params.batch_size": 8})
    assert found.unit == "steps/s"
    with_samples = [replace(one, samples_per_step=one.settings["params.batch_size"]) for one in repeats]
    assert answers_from(with_samples, {"params.batch_size": 8}).unit == "samples/s"


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.001, 0.05), st.integers(1, 3))
def test_a_suggestion_was_measured_and_lacks_little_of_the_best(seed: int, noise: float, repeats: int) -> None:
    axes = {BATCH: [2, 4, 8, 16], BF16: [False, True], COMPILE: [False, True]}
    found = answer(axes, noise=noise, seed=seed, repeats=repeats)
    assert found.suggestion is not None
    cell = found.cell(found.suggestion.cell)
    best = max(one.pay for one in found.measured)
    assert cell.is_measured and cell.pay >= 0.96 * best
    assert all(cell.settings[key] == value for key, value in found.suggestion.patch.items())
    for verdict in found.verdicts:
        assert sum(verdict.shares.values()) == pytest.approx(1.0)
        assert all(0 <= share <= 1 + 1e-9 for share in verdict.shares.values())
