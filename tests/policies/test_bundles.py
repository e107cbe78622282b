"""Bundles: what experts agree on in one proposal, and its parts apart afterwards."""

from dataclasses import replace

from histories import decide, ideas, run, study, tried
from test_rules import check

from hotlap.core.records import History, Proposal
from hotlap.policies.bundles import BUNDLES, BundlePolicy
from hotlap.policies.rules import AblationPolicy


def bundle_of(history: History) -> Proposal:
    proposal = BundlePolicy().propose(history)
    assert proposal is not None
    check(history, proposal)
    return proposal


def decided(history: History, proposal: Proposal, verdict: str) -> History:
    runs = [run(proposal.number, 12.0)] * 2 if verdict == "keep" else []
    return decide(replace(history, proposals=(*history.proposals, proposal)), verdict, *runs)  # type: ignore[arg-type]


def test_the_faults_of_the_recipe_are_mended_at_once() -> None:
    proposal = bundle_of(study())
    assert proposal.family == "bundle"
    assert proposal.proposer == "rules"
    assert proposal.patch["training.optim"] == "muon"
    assert {proposal.patch[f"model.{name}_pdrop"] for name in ("embd", "attn", "resid")} == {0.0}
    assert proposal.patch["model.positions"] == "rope"
    assert "training.learning_rate" not in proposal.patch  # depends on the optimizer
    sure = {idea.family for idea in ideas(study()) if idea.confidence >= BUNDLES[0][0]}
    assert proposal.observation.count("(") >= len(sure) - 3
    assert proposal.predicted_ratio < 0.3


def test_a_bundle_that_fails_is_followed_by_surer_ones_and_then_by_none() -> None:
    history = study()
    first = bundle_of(history)
    history = decided(history, first, "discard")
    second = bundle_of(history)
    assert second.patch.items() < first.patch.items()
    history = decided(history, second, "discard")
    third = bundle_of(history)
    assert "training.optim" not in third.patch
    assert third.patch["training.learning_rate"] > 6e-4  # that of the optimizer which stays
    history = decided(history, third, "discard")
    assert BundlePolicy().propose(history) is None


def test_one_sure_idea_is_no_bundle() -> None:
    history = tried(study(), dict(bundle_of(study()).patch), "keep")
    proposal = BundlePolicy().propose(history)
    assert proposal is None or len(proposal.patch) > 1


def test_each_part_of_a_kept_bundle_is_tried_without() -> None:
    bundle = bundle_of(study())
    history = decided(study(), bundle, "keep")
    without = []
    while (proposal := AblationPolicy().propose(history)) is not None:
        check(history, proposal)
        without.append(set(proposal.patch))
        history = decided(history, proposal, "discard")
    assert {"model.embd_pdrop", "model.attn_pdrop", "model.resid_pdrop"} in without
    assert {"training.optim"} in without
    assert set.union(*without) == set(bundle.patch)
    assert sum(map(len, without)) == len(bundle.patch)  # each part once, and never the whole


def test_a_part_that_is_not_needed_goes_and_the_others_stay() -> None:
    history = decided(study(), bundle_of(study()), "keep")
    proposal = AblationPolicy().propose(history)
    assert proposal is not None
    history = decided(history, proposal, "keep")
    following = AblationPolicy().propose(history)
    assert following is not None
    assert not following.patch.keys() & proposal.patch.keys()
