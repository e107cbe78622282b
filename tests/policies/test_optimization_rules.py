"""Rules about the optimization speak up on their evidence only, and follow what was answered."""

from typing import Any

import pytest
from histories import ideas, incumbent_config, run, study, tried

from hotlap.core.records import History
from hotlap.policies.ideas import Idea
from hotlap.policies.rules import RulesPolicy

LR = "training.learning_rate"


def only(history: History, family: str) -> Idea:
    found = ideas(history, family)
    assert len(found) == 1
    return found[0]


def test_dropout_goes_where_it_is_on() -> None:
    assert only(study(), "dropout").patch == dict.fromkeys(
        ("model.embd_pdrop", "model.attn_pdrop", "model.resid_pdrop"), 0.0
    )
    partly = study({"model.embd_pdrop": 0.0, "model.attn_pdrop": 0.0})
    assert only(partly, "dropout").patch == {"model.resid_pdrop": 0.0}
    assert ideas(study(dict.fromkeys(only(study(), "dropout").patch, 0.0)), "dropout") == []


def test_dropout_is_trusted_more_when_the_data_is_seen_often() -> None:
    short, long = only(study(), "dropout"), only(study(runs=[run(steps=90_000)]), "dropout")
    assert short.confidence > long.confidence
    assert "0.72 passes" in short.observation


def next_rate(history: History, key: str = LR) -> float | None:
    """Return the untried rate that the rule names, relative to the incumbent's."""
    found = [idea.patch[key] for idea in ideas(history, "learning_rate") if key in idea.patch]
    assert len(found) <= 1
    section, name = key.split(".")
    return found[0] / getattr(getattr(incumbent_config(history), section), name) if found else None


def refused(history: History, ratio: float | None, key: str = LR) -> History:
    assert ratio is not None
    section, name = key.split(".")
    now = getattr(getattr(incumbent_config(history), section), name)
    return tried(history, {key: float(f"{now * ratio:.3g}")}, "discard")


@pytest.mark.parametrize("key", [LR, "training.muon_learning_rate"])
def test_the_learning_rate_goes_up_first_then_down_and_then_rests(key: str) -> None:
    history = study({"training.optim": "muon"})
    ratios = []
    while (ratio := next_rate(history, key)) is not None:
        ratios.append(ratio)
        history = refused(history, ratio, key)
    assert ratios[0] > 1
    assert {ratio > 1 for ratio in ratios} == {True, False}
    assert len(set(ratios)) == len(ratios) <= 4


def test_two_refusals_above_turn_the_learning_rate_down() -> None:
    history = study()
    for _ in range(2):
        ratio = next_rate(history)
        assert ratio is not None
        assert ratio > 1
        history = refused(history, ratio)
    ratio = next_rate(history)
    assert ratio is not None
    assert ratio < 1


def test_refusals_of_any_two_higher_rates_count() -> None:
    history = tried(tried(study(), {LR: 0.004}, "discard"), {LR: 0.02}, "discard")
    ratio = next_rate(history)
    assert ratio is not None
    assert ratio < 1


def test_a_learning_rate_that_helped_is_raised_further() -> None:
    before = study()
    ratio = next_rate(before)
    assert ratio is not None
    after = tried(before, {LR: 6e-4 * ratio}, "keep")
    assert incumbent_config(after).training.learning_rate == pytest.approx(6e-4 * ratio)
    again = next_rate(after)
    assert again is not None
    assert again > 1
    assert "→ keep" in only_rate(after).observation
    assert only_rate(after).confidence > only_rate(tried(before, {LR: 9e-3}, "discard")).confidence


def only_rate(history: History) -> Idea:
    return next(idea for idea in ideas(history, "learning_rate") if LR in idea.patch)


def test_muons_rate_is_nobodys_concern_without_muon() -> None:
    assert next_rate(study(), "training.muon_learning_rate") is None
    assert next_rate(study({"training.optim": "muon"}), "training.muon_learning_rate") is not None


@pytest.mark.parametrize(("batch", "proposed"), [(32, [16, 64]), (3, [6]), (2, [4]), (1, [2])])
def test_batches_are_halved_and_doubled_but_never_below_two(batch: int, proposed: list[int]) -> None:
    found = ideas(study({"training.per_device_train_batch_size": batch}), "batch_size")
    assert [idea.patch["training.per_device_train_batch_size"] for idea in found] == proposed


def test_accumulation_goes_where_it_is_used() -> None:
    key = "training.gradient_accumulation_steps"
    assert [idea.patch[key] for idea in ideas(study({key: 4}), "batch_size") if key in idea.patch] == [1]
    assert [idea for idea in ideas(study(), "batch_size") if key in idea.patch] == []


@pytest.mark.parametrize(
    ("patch", "steps", "is_long"),
    [
        ({"training.warmup_ratio": 0.05}, 900, True),  # 250 steps
        ({"training.warmup_ratio": 0.05}, 4000, False),
        ({"training.warmup_ratio": 0.0, "training.warmup_steps": 300}, 900, True),
        ({"training.warmup_ratio": 0.0, "training.warmup_steps": 40}, 900, False),
        ({"training.warmup_ratio": 0.0, "training.warmup_steps": 5}, 20, False),  # as short as it gets
        ({"training.warmup_ratio": 0.0}, 20, False),
        ({"training.warmup_ratio": 0.5}, 900, True),  # the target fell within the warm-up
    ],
)
def test_warm_up_is_shortened_where_it_is_a_good_part_of_the_run(
    patch: dict[str, Any], steps: int, is_long: bool
) -> None:
    history = study(patch, [run(steps=steps)])
    assert len(ideas(history, "warmup")) == is_long
    for idea in ideas(history, "warmup"):
        before = incumbent_config(history).training.num_warmup_steps
        assert 0 < idea.patch["training.warmup_steps"] < before
        assert idea.patch["training.warmup_ratio"] == 0
        assert 0.5 <= idea.predicted_ratio < 1


def test_a_schedule_that_misses_is_made_longer() -> None:
    missed = run(seconds=300, steps=5000, outcome="missed")
    assert only(study(runs=[missed, missed]), "horizon").patch == {"training.max_steps": 10_000}


def test_a_run_that_was_stopped_early_says_nothing_about_its_schedule() -> None:
    stopped = run(seconds=300, steps=2000, outcome="out_of_budget")
    assert ideas(study(runs=[stopped, stopped]), "horizon") == []


@pytest.mark.parametrize(
    ("patch", "steps", "is_late"),
    [
        ({}, 900, True),
        ({}, 4500, False),  # the rate had fallen already
        ({}, 3500, False),  # no shorter schedule ends behind the target
        ({"training.lr_scheduler_type": "constant"}, 900, False),
        ({"training.lr_scheduler_type": "constant_with_warmup"}, 900, False),
        ({"training.lr_scheduler_type": "cosine"}, 900, True),
        ({"training.max_steps": 15, "training.warmup_ratio": 0.0}, 5, False),
    ],
)
def test_a_schedule_that_ends_far_behind_the_target_is_made_shorter(
    patch: dict[str, Any], steps: int, is_late: bool
) -> None:
    history = study(patch, [run(steps=steps)])
    assert len(ideas(history, "horizon")) == is_late
    for idea in ideas(history, "horizon"):
        assert steps < idea.patch["training.max_steps"] < incumbent_config(history).training.max_steps
        assert idea.exempt_from_race_until > 0


@pytest.mark.parametrize(
    ("optim", "proposed"),
    [("adamw_torch", {"muon", "adamw_torch_fused"}), ("adamw_torch_fused", {"muon"}), ("muon", set())],
)
def test_optimizers_that_are_not_in_use_are_proposed(optim: str, proposed: set[str]) -> None:
    found = ideas(study({"training.optim": optim}), "optimizer")
    assert {idea.patch["training.optim"] for idea in found} == proposed


@pytest.mark.parametrize(("beta2", "steps", "speaks"), [(0.999, 900, True), (0.999, 4100, False), (0.95, 10, False)])
def test_a_memory_longer_than_the_run_is_shortened(beta2: float, steps: int, speaks: bool) -> None:
    history = study({"training.adam_beta2": beta2}, [run(steps=steps)])
    assert len(ideas(history, "adam_betas")) == speaks


def test_clipping_and_decay_go_where_they_are_on() -> None:
    for family, key in (("clipping", "training.max_grad_norm"), ("weight_decay", "training.weight_decay")):
        idea = only(study(), family)
        assert idea.patch == {key: 0}
        assert idea.simplifies
        assert ideas(study({key: 0.0}), family) == []


@pytest.mark.parametrize("outcome", ["missed", "out_of_budget"])
def test_every_rule_copes_with_a_baseline_that_never_reaches(outcome: str) -> None:
    runs = [run(seconds=300, steps=5000, outcome=outcome)] * 3
    history = study(runs=runs)
    families = {idea.family for idea in ideas(history)}
    assert {"dropout", "learning_rate", "optimizer", "weight_decay"} <= families
    assert RulesPolicy().propose(history) is not None


def test_every_rule_copes_with_runs_that_tell_little() -> None:
    bare = run(metrics={}, environment={})
    families = {idea.family for idea in ideas(study(runs=[bare]))}
    assert "dropout" in families
    assert "padding" not in families
    assert "precision" not in families
