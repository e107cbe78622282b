"""The policy of a study: who has a turn when, and the same answer after a kill."""

import copy
import json
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import pytest
from histories import decide, run, study, tried
from test_rules import check

from hotlap.core.records import Decision, History, Proposal, RunRecord
from hotlap.policies.bundles import BundlePolicy
from hotlap.policies.mixture import MixturePolicy
from hotlap.policies.rules import AblationPolicy, RulesPolicy
from hotlap.policies.study_policy import STRONG_GAIN, StudyPolicy


def discard(history: History, proposal: Proposal) -> History:
    history = replace(history, proposals=(*history.proposals, proposal))
    number = proposal.number
    return decide(history, "discard", run(number, 60.0, role="screen", run_id=f"r1{number:03}"))


def play(number: int) -> History:
    history = study()
    for _ in range(number):
        proposal = StudyPolicy(7).propose(history)
        assert proposal is not None
        check(history, proposal)
        history = discard(history, proposal)
    return history


def test_strong_rules_first_then_the_others_in_turn() -> None:
    history = play(45)
    proposers = [p.proposer for p in history.proposals]
    start = next(index for index, name in enumerate(proposers) if name != "rules")
    assert start >= 4
    for index, name in enumerate(proposers):
        if start <= index < start + 18 and index % 3 == 0:
            assert name == "rules"
    shares = Counter(proposers[start:])
    assert shares["sampler"] > shares["rules"] / 2
    assert shares["mutation"] > 0
    assert "ablation" not in shares


def test_a_strong_rule_goes_first_whenever_there_is_one() -> None:
    history = play(12)
    history = tried(history, {"model.embd_pdrop": 0.0}, "keep")  # another incumbent: old verdicts stand, for a while
    proposal = StudyPolicy().propose(history)
    strong = BundlePolicy().propose(history) or RulesPolicy(STRONG_GAIN).propose(history)
    assert strong is not None
    assert proposal == strong


def test_asked_to_clean_up_it_only_leaves_out() -> None:
    history = tried(tried(study(), {"training.optim": "muon"}, "keep"), {"model.smear": True}, "keep")
    proposal = StudyPolicy().propose(history, is_ablation=True)
    assert proposal == AblationPolicy().propose(history)
    assert proposal is not None
    assert (proposal.role, proposal.proposer) == ("ablation", "ablation")
    assert StudyPolicy().propose(study(), is_ablation=True) is None


def test_without_other_ideas_it_cleans_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MixturePolicy, "propose", lambda self, history: None)
    monkeypatch.setattr(RulesPolicy, "propose", lambda self, history: None)
    monkeypatch.setattr(BundlePolicy, "propose", lambda self, history: None)
    history = tried(tried(study(), {"training.optim": "muon"}, "keep"), {"model.smear": True}, "keep")
    proposal = StudyPolicy().propose(history)
    assert proposal is not None
    assert proposal.role == "ablation"


def test_the_same_history_read_back_from_disk_gets_the_same_proposal() -> None:
    """A killed study folds its ledger again: what went through JSON must not make a difference."""
    history = play(20)
    read = History(
        clock=history.clock,
        base_config=json.loads(json.dumps(history.base_config)),
        runs=tuple(RunRecord(**json.loads(json.dumps(asdict(each)))) for each in history.runs),
        proposals=tuple(Proposal(**json.loads(json.dumps(asdict(each)))) for each in history.proposals),
        decisions=tuple(Decision(**json.loads(json.dumps(asdict(each)))) for each in history.decisions),
        seconds_spent=12.5,
    )
    for seed in range(4):
        assert StudyPolicy(seed).propose(read) == StudyPolicy(seed).propose(copy.deepcopy(history))


def test_riders_of_a_searchers_change_are_tried_without_on_their_own() -> None:
    patch: dict[str, Any] = {"training.learning_rate": 2e-3, "training.warmup_ratio": 0.1, "training.max_steps": 800}
    history = tried(study(), patch, "keep")
    by_hand = AblationPolicy().propose(history)
    assert by_hand is None  # one change, and it was measured against the config without it
    (proposal,) = history.proposals
    history = replace(history, proposals=(replace(proposal, proposer="sampler"),))
    rider = AblationPolicy().propose(history)
    assert rider is not None
    check(history, rider)
    assert rider.patch == {"training.warmup_ratio": 0.05}
    assert rider.title == "without warmup_ratio of #1"
    history = decide(replace(history, proposals=(*history.proposals, rider)), "discard")
    assert AblationPolicy().propose(history) is None
