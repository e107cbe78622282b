"""What the rules get to see: the incumbent's unselected runs and what was tried."""

import math
from dataclasses import replace

import pytest
from histories import ENVIRONMENT, METRICS, decide, evidence_of, propose_by_hand, run, study, tried


def test_figures_are_means_over_the_unselected_runs_of_the_incumbent() -> None:
    runs = [
        run(seconds=50, steps=800, metrics={"grad_norm": 1.0}),
        run(seconds=60, steps=1000, metrics={"grad_norm": 2.0, "eval_loss": 0.7}),
        run(seconds=70, steps=900, metrics={}),
        run(seconds=1, steps=1, role="screen", metrics={"grad_norm": 99.0}),
        run(seconds=2, steps=2, outcome="lost"),
    ]
    evidence = evidence_of(study(runs=runs))
    assert len(evidence.runs) == 3
    assert (evidence.seconds_to_target, evidence.steps_to_target, evidence.overhead_seconds) == (60, 900, 8)
    assert evidence.metric("grad_norm") == 1.5
    assert evidence.metric("eval_loss") == 0.7
    assert math.isnan(evidence.metric("eval_chrf"))
    assert evidence.share_of_step("forward") == pytest.approx(0.3)
    assert evidence.share_of_step("unknown") == 0


def test_the_judged_clock_is_the_one_that_counts() -> None:
    assert evidence_of(replace(study(), clock="wall")).seconds_to_target == 60


def test_misses_make_the_median_infinite_and_only_hits_give_steps() -> None:
    hit, miss = run(seconds=50, steps=800), run(seconds=90, steps=5000, outcome="missed")
    assert evidence_of(study(runs=[hit, hit, miss])).seconds_to_target == 50
    evidence = evidence_of(study(runs=[hit, miss, miss]))
    assert (evidence.seconds_to_target, evidence.steps_to_target) == (math.inf, 800)
    evidence = evidence_of(study(runs=[miss, miss]))
    assert (evidence.seconds_to_target, evidence.steps_to_target) == (math.inf, 5000)


def test_figures_derived_from_the_config() -> None:
    evidence = evidence_of(study({"training.gradient_accumulation_steps": 2}))
    assert evidence.examples_per_step == 64
    assert evidence.epochs == pytest.approx(900 * 64 / 40_000)
    assert evidence.learning_rate_factor_at_target == pytest.approx((5000 - 900) / (5000 - 250))
    assert math.isnan(evidence_of(study(runs=[run(environment={})])).epochs)


def test_a_kept_candidate_is_what_the_evidence_is_about() -> None:
    history = tried(study(), {"training.optim": "muon"}, "keep")
    evidence = evidence_of(history)
    assert (evidence.candidate, evidence.config.training.optim) == (1, "muon")
    assert {record.candidate for record in evidence.runs} == {1}
    withdrawn = decide(history, "discard")
    assert (evidence_of(withdrawn).candidate, evidence_of(withdrawn).config.training.optim) == (0, "adamw_torch")


def test_what_was_tried_is_remembered_for_three_keeps() -> None:
    patch = {"training.max_steps": 1000}
    history = tried(study(), patch, "discard")
    for key in ("smear", "qk_norm", "zero_init_projections"):
        assert evidence_of(history).was_tried(patch)
        assert evidence_of(history).verdicts_for("training.max_steps") == [(1000, "discard")]
        history = tried(history, {f"model.{key}": True}, "keep")
    assert not evidence_of(history).was_tried(patch)
    assert evidence_of(history).verdicts_for("training.max_steps") == []


def test_a_discard_says_itself_what_reopens_it() -> None:
    patch = {"training.max_steps": 1000}
    history = tried(study(), patch, "discard")
    after_one = replace(history, decisions=(replace(history.decisions[0], revisit_if={"keeps": 1.0}),))
    never = replace(history, decisions=(replace(history.decisions[0], revisit_if={"allow_trade": 1.0}),))
    assert evidence_of(after_one).was_tried(patch)
    for key in ("smear", "qk_norm", "zero_init_projections"):
        after_one, never = (tried(past, {f"model.{key}": True}, "keep") for past in (after_one, never))
        assert not evidence_of(after_one).was_tried(patch)
    assert evidence_of(never).was_tried(patch)


def test_what_would_change_nothing_counts_as_tried() -> None:
    assert evidence_of(study()).was_tried({"training.optim": "adamw_torch", "model.attn_pdrop": 0.1})
    assert not evidence_of(study()).was_tried({"training.optim": "adamw_torch", "model.attn_pdrop": 0.0})


def test_an_undecided_proposal_was_not_tried() -> None:
    patch = {"training.max_steps": 1000}
    assert not evidence_of(propose_by_hand(study(), patch)).was_tried(patch)


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ({"training.max_steps": 1000, "training.bf16": True}, True),
        ({"training.max_steps": 1100, "training.bf16": True}, True),  # read off runs that were made since
        ({"training.max_steps": 1500, "training.bf16": True}, False),
        ({"training.max_steps": 1000, "training.bf16": False}, False),
        ({"training.max_steps": 1000}, False),
        ({"training.max_steps": 1000, "training.bf16": True, "model.smear": True}, False),
    ],
)
def test_nearly_equal_numbers_on_one_incumbent_are_the_same_idea(other: dict[str, object], is_same: bool) -> None:
    history = tried(study(), {"training.max_steps": 1000, "training.bf16": True}, "discard")
    assert evidence_of(history).was_tried(other) == is_same


def test_after_a_keep_a_nearby_value_is_worth_a_try() -> None:
    history = tried(study(), {"training.max_steps": 1000}, "discard")
    history = tried(history, {"model.smear": True}, "keep")
    assert evidence_of(history).was_tried({"training.max_steps": 1030})
    assert not evidence_of(history).was_tried({"training.max_steps": 1100})


def test_the_environment_is_that_of_the_last_run() -> None:
    runs = [run(), run(environment={**ENVIRONMENT, "bf16_is_fast": True})]
    assert evidence_of(study(runs=runs)).environment["bf16_is_fast"]
    assert evidence_of(study(runs=[*runs, run(metrics=METRICS)])).environment == ENVIRONMENT
