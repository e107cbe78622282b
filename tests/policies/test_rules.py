"""The policies as a whole: pure, never the same thing twice, never the measurement, and never a broken config."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
from histories import ENVIRONMENT, METRICS, decide, evidence_of, ideas, incumbent_config, run, study, tried
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.config.load import config_diff, config_from_values, get_dotted, refuse_protocol_keys
from hotlap.core.records import History, Proposal
from hotlap.policies.ideas import Idea
from hotlap.policies.rules import AblationPolicy, RulesPolicy, candidate_config, gain_per_second, removals


def idea(ratio: float, confidence: float, **patch: Any) -> Idea:
    return Idea(
        family="f",
        title="t",
        observation="o",
        hypothesis="h",
        patch={f"model.{key}": value for key, value in patch.items()},
        predicted_ratio=ratio,
        confidence=confidence,
    )


def test_more_gain_more_confidence_and_cheaper_runs_come_first() -> None:
    evidence = evidence_of(study())
    assert gain_per_second(idea(0.5, 0.5), evidence) > gain_per_second(idea(0.8, 0.5), evidence)
    assert gain_per_second(idea(0.8, 0.5), evidence) > gain_per_second(idea(0.8, 0.3), evidence)
    assert gain_per_second(idea(1.0, 0.9), evidence) == 0
    dear = evidence_of(study(runs=[run(wall_seconds=200.0)]))
    assert gain_per_second(idea(0.8, 0.5), evidence) > gain_per_second(idea(0.8, 0.5), dear) > 0


def test_a_baseline_that_missed_has_a_price_too() -> None:
    evidence = evidence_of(study(runs=[run(seconds=300, outcome="missed")]))
    assert 0 < gain_per_second(idea(0.8, 0.5), evidence) < math.inf


def test_the_best_untried_idea_is_proposed() -> None:
    history = study()
    evidence = evidence_of(history)
    proposal = RulesPolicy().propose(history)
    assert proposal is not None
    best = max(ideas(history), key=lambda found: gain_per_second(found, evidence))
    assert (proposal.patch, proposal.title, proposal.predicted_ratio) == (best.patch, best.title, best.predicted_ratio)
    assert (proposal.number, proposal.parent, proposal.role, proposal.proposer) == (1, 0, "screen", "rules")
    child = config_from_values(history.base_config, proposal.patch)
    assert proposal.diff == config_diff(incumbent_config(history), child) != ""


def test_an_idea_that_fits_no_config_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    tempting, sound = idea(0.1, 1.0, num_attention_heads=3), idea(0.9, 0.1, smear=True)
    monkeypatch.setattr("hotlap.policies.rules.GPT_RULES", (lambda _: iter([tempting]), lambda _: iter([sound])))
    proposal = RulesPolicy().propose(study())
    assert proposal is not None
    assert proposal.patch == {"model.smear": True}


def test_without_an_idea_there_is_no_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotlap.policies.rules.GPT_RULES", ())
    assert RulesPolicy().propose(study()) is None


def test_the_rules_run_out_of_ideas_on_one_incumbent() -> None:
    history, seen = study(), []
    while (proposal := RulesPolicy().propose(history)) is not None:
        seen.append(proposal)
        history = decide(replace(history, proposals=(*history.proposals, proposal)), "discard")
        assert len(seen) < 80
    assert len(seen) > 15
    assert len({repr(sorted(p.patch.items(), key=str)) for p in seen}) == len(seen)
    assert [p.number for p in seen] == list(range(1, len(seen) + 1))


def test_numbers_that_moved_a_little_make_no_new_idea() -> None:
    """Fresh runs of the incumbent shift its steps to target, and with them what rules compute from those."""
    patch = {"training.warmup_ratio": 0.2}
    history = study(patch, [run(steps=900)])
    while (proposal := RulesPolicy().propose(history)) is not None:
        history = decide(replace(history, proposals=(*history.proposals, proposal)), "inconclusive")
    for steps in (830, 970):
        moved = replace(history, runs=(run(steps=steps),))
        assert any(found.patch not in [p.patch for p in history.proposals] for found in ideas(moved))
        assert RulesPolicy().propose(moved) is None


BASES = {
    "model.hidden_size": st.sampled_from([32, 48, 128]),
    "model.num_attention_heads": st.sampled_from([1, 2, 4, 8]),
    "model.num_hidden_layers": st.integers(1, 4),
    "model.positions": st.sampled_from(["learned", "rope"]),
    "model.norm": st.sampled_from(["layer_norm", "rms_norm"]),
    "model.hidden_act": st.sampled_from(["gelu_new", "gelu", "relu_squared", "swiglu"]),
    "model.smear": st.booleans(),
    "model.attn_pdrop": st.sampled_from([0.0, 0.1]),
    "training.learning_rate": st.floats(1e-6, 1.0),
    "training.optim": st.sampled_from(["adamw_torch", "adamw_torch_fused", "muon"]),
    "training.lr_scheduler_type": st.sampled_from(["linear", "cosine", "constant"]),
    "training.max_steps": st.integers(1, 10_000),
    "training.warmup_ratio": st.floats(0, 1),
    "training.warmup_steps": st.floats(0, 2000),
    "training.weight_decay": st.sampled_from([0.0, 0.1]),
    "training.max_grad_norm": st.sampled_from([0.0, 1.0]),
    "training.adam_beta2": st.sampled_from([0.0, 0.95, 0.999]),
    "training.padding": st.sampled_from(["max_length", "longest", "bucketed"]),
    "training.gradient_accumulation_steps": st.integers(1, 4),
    "training.per_device_train_batch_size": st.integers(1, 64),
}
RUNS = st.builds(
    lambda seconds, steps, outcome, figures, is_fast, facts: run(
        seconds=seconds,
        steps=steps,
        outcome=outcome,
        metrics={key: METRICS[key] for key in figures},
        environment={**ENVIRONMENT, "bf16_is_fast": is_fast} if facts else {},
    ),
    st.floats(0.01, 1e4),
    st.integers(1, 20_000),
    st.sampled_from(["reached", "reached", "missed", "out_of_budget", "diverged"]),
    st.sets(st.sampled_from(sorted(METRICS))),
    st.booleans(),
    st.booleans(),
)
TURNS = st.tuples(
    st.sampled_from(["keep", "keep", "discard", "inconclusive", "crash", "withdraw"]),
    st.booleans(),
    st.lists(RUNS, min_size=1, max_size=2),
)


def check(history: History, proposal: Proposal) -> None:
    """Check what every proposal of a policy has to fulfil."""
    parent = incumbent_config(history)
    assert (proposal.number, proposal.parent) == (len(history.proposals) + 1, history.incumbent)
    assert proposal.patch
    refuse_protocol_keys(proposal.patch)
    child = config_from_values(parent.model_dump(mode="json"), proposal.patch)
    assert proposal.diff == config_diff(parent, child) != ""
    assert 0 < proposal.predicted_ratio <= 1
    assert 0 <= proposal.exempt_from_race_until <= 1
    for text in (proposal.family, proposal.title, proposal.observation, proposal.hypothesis):
        assert text.strip()
    for earlier in history.proposals:
        assert (earlier.parent, earlier.patch, earlier.role) != (proposal.parent, proposal.patch, proposal.role)


@given(
    base=st.fixed_dictionaries({}, optional=BASES),
    first=st.lists(RUNS, min_size=1, max_size=3),
    turns=st.lists(TURNS, max_size=7),
    clock=st.sampled_from(["train", "wall"]),
)
@settings(deadline=None, max_examples=60)
def test_any_course_of_a_study_gets_sound_proposals(
    base: dict[str, Any], first: list[Any], turns: list[Any], clock: Any
) -> None:
    history = replace(study(base, first), clock=clock)
    for verdict, is_ablation, runs in turns:
        policy = AblationPolicy() if is_ablation else RulesPolicy()
        before = copy.deepcopy(history)
        proposal = policy.propose(history)
        assert policy.propose(before) == proposal  # the same history, the same answer
        assert history == before
        if proposal is None:
            continue
        check(history, proposal)
        history = replace(history, proposals=(*history.proposals, proposal))
        if verdict == "withdraw":
            history = decide(decide(history, "keep", *runs), "discard")
        else:
            history = decide(history, verdict, *(runs if verdict == "keep" else []))


def test_a_candidates_config_is_the_base_with_the_patches_of_its_ancestors() -> None:
    history = tried(tried(study(), {"model.smear": True}, "keep"), {"training.optim": "muon"}, "keep")
    assert candidate_config(history, 0) == config_from_values(history.base_config)
    assert (candidate_config(history, 1).model.smear, candidate_config(history, 1).training.optim) == (
        True,
        "adamw_torch",
    )
    assert candidate_config(history, 2).training.optim == "muon"


@pytest.fixture
def ladder() -> History:
    """Four keeps, one of them for being simpler."""
    history = tried(study(), {"training.optim": "muon"}, "keep")
    history = tried(history, {"model.positions": "rope"}, "discard")
    history = tried(history, {"model.smear": True}, "keep")
    history = tried(history, {"training.weight_decay": 0.0}, "keep")
    simpler = replace(history.proposals[-1], simplifies=True)
    history = replace(history, proposals=(*history.proposals[:-1], simpler))
    return tried(history, {"training.learning_rate": 0.002}, "keep")


def ablate(history: History, verdict: Any) -> tuple[Proposal, History]:
    proposal = AblationPolicy().propose(history)
    assert proposal is not None
    check(history, proposal)
    runs = [run(proposal.number, role="ablation")] * 2
    return proposal, decide(replace(history, proposals=(*history.proposals, proposal)), verdict, *runs)


def test_each_kept_change_is_tried_without_once_the_oldest_first(ladder: History) -> None:
    first, after = ablate(ladder, "discard")
    assert first.patch == {"training.optim": "adamw_torch"}
    assert (first.role, first.proposer, first.parent, first.simplifies) == ("ablation", "ablation", 5, True)
    assert "#1" in first.title
    second, after = ablate(after, "discard")
    assert second.patch == {"model.smear": False}
    assert AblationPolicy().propose(after) is None  # the simpler one stays, the last was measured without itself


def test_what_an_ablation_removed_stays_removed(ladder: History) -> None:
    _, after = ablate(ladder, "keep")
    assert incumbent_config(after).training.optim == "adamw_torch"
    assert incumbent_config(after).model.smear
    second, after = ablate(after, "keep")
    assert second.patch == {"model.smear": False}
    third, after = ablate(after, "keep")  # no longer the last keep, so it has its turn as well
    assert third.patch == {"training.learning_rate": 6e-4}
    assert AblationPolicy().propose(after) is None
    values = incumbent_config(after).model_dump()
    assert [get_dotted(values, key) for key in ("training.weight_decay", "training.learning_rate")] == [0, 6e-4]


def test_a_change_that_a_later_one_replaced_is_not_tried_without() -> None:
    history = tried(study(), {"training.learning_rate": 0.002}, "keep")
    history = tried(history, {"training.learning_rate": 0.006}, "keep")
    history = tried(history, {"model.smear": True}, "keep")
    proposal = AblationPolicy().propose(history)
    assert proposal is not None
    assert proposal.patch == {"training.learning_rate": 0.002}
    assert proposal.title.startswith("without #2")


def test_of_a_change_that_was_replaced_in_part_the_rest_is_tried_without() -> None:
    history = tried(study(), {"training.learning_rate": 0.002, "model.smear": True}, "keep")
    history = tried(history, {"training.learning_rate": 0.006}, "keep")
    history = tried(history, {"training.weight_decay": 0.01}, "keep")
    (part, whole) = sorted(removals(history), key=lambda removal: -removal.number)
    assert part.keys == ("training.learning_rate",) and whole.keys == ("model.smear",)
    assert whole.title == "without smear of #1", "it says what remains"
    _, after = ablate(history, "discard")
    _, after = ablate(after, "discard")
    assert removals(after) == ()


def test_what_remains_of_a_change_is_tried_without_once() -> None:
    """A bundle of two settings, one of which was replaced: its other part and the whole are the same by now."""
    history = tried(study(), {"training.learning_rate": 0.002, "model.smear": True}, "keep")
    history = replace(history, proposals=(replace(history.proposals[0], family="bundle"),))
    history = tried(history, {"training.learning_rate": 0.006}, "keep")
    history = tried(history, {"training.weight_decay": 0.01}, "keep")
    found = [(removal.number, removal.keys) for removal in removals(history)]
    assert sorted(found) == [(1, ("model.smear",)), (2, ("training.learning_rate",))]


@pytest.mark.parametrize("keeps", [0, 1])
def test_a_short_ladder_needs_no_cleaning(keeps: int) -> None:
    history = study()
    for _ in range(keeps):
        history = tried(history, {"model.smear": True}, "keep")
    assert AblationPolicy().propose(history) is None
