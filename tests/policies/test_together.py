"""Small gains together: what each looked faster within the noise becomes one proposal."""

from dataclasses import replace

import pytest
from histories import study, tried
from test_rules import check

from hotlap.core.records import Decision, History, Proposal
from hotlap.policies import study_policy
from hotlap.policies.rules import AblationPolicy
from hotlap.policies.study_policy import StudyPolicy
from hotlap.policies.together import TogetherPolicy

WARMUP = {"training.warmup_ratio": 0.0}
NARROW = {"model.hidden_size": 64, "model.num_attention_heads": 2}
FASTER = {"training.learning_rate": 1e-3}


def looked(history: History, patch: dict[str, object], ratio: float, verdict: str = "inconclusive") -> History:
    """Add a proposal that was decided after runs of so much of the incumbent's time."""
    after = tried(history, patch, verdict)  # type: ignore[arg-type]
    last: Decision = replace(after.decisions[-1], statistics={"ratio": ratio})
    return replace(after, decisions=(*after.decisions[:-1], last))


class Silent:
    """A policy without ideas."""

    def __init__(self, *_: object) -> None:
        pass

    def propose(self, history: History) -> None:
        return None


def together(history: History) -> Proposal | None:
    proposal = TogetherPolicy().propose(history)
    if proposal is not None:
        check(history, proposal)
    return proposal


def test_two_changes_that_looked_faster_are_tried_together() -> None:
    one = looked(study(), WARMUP, 0.92)
    assert together(one) is None
    proposal = together(looked(one, NARROW, 0.91))
    assert proposal is not None and proposal.patch == {**WARMUP, **NARROW} and proposal.family == "bundle"
    assert "#2 by 9%, #1 by 8%" in proposal.observation
    assert proposal.predicted_ratio == pytest.approx((0.92 * 0.91) ** 0.5)


@pytest.mark.parametrize(("ratio", "verdict"), [(0.99, "inconclusive"), (1.05, "inconclusive"), (0.9, "discard")])
def test_what_did_not_look_faster_is_left_out(ratio: float, verdict: str) -> None:
    history = looked(looked(study(), WARMUP, 0.92), NARROW, ratio, verdict)
    assert together(history) is None


def test_of_two_values_of_one_setting_the_better_is_taken() -> None:
    history = looked(looked(study(), FASTER, 0.95), {"training.learning_rate": 2e-3}, 0.9)
    assert together(history) is None, "one setting is one part"
    proposal = together(looked(history, WARMUP, 0.94))
    assert proposal is not None and proposal.patch == {"training.learning_rate": 2e-3, **WARMUP}


def test_it_is_not_tried_again_before_there_are_two_parts_more() -> None:
    history = looked(looked(study(), WARMUP, 0.92), NARROW, 0.91)
    proposal = together(history)
    assert proposal is not None
    lost = looked(history, dict(proposal.patch), 0.9)
    named = replace(lost.proposals[-1], title=proposal.title, family=proposal.family)
    lost = replace(lost, proposals=(*lost.proposals[:-1], named))
    assert together(lost) is None
    assert together(looked(lost, FASTER, 0.9)) is None
    more = together(looked(looked(lost, FASTER, 0.9), {"training.weight_decay": 0.01}, 0.9))
    assert more is not None and len(more.patch) == 5


def test_a_bundle_that_looked_faster_is_one_part_whatever_its_title() -> None:
    """A bundle of three and one change are two parts; two changes more are enough to try all four."""
    bundle = looked(study(), {"model.embd_pdrop": 0.0, "model.attn_pdrop": 0.0, "model.smear": True}, 0.9)
    bundle = replace(bundle, proposals=(replace(bundle.proposals[0], family="bundle", title="a; b; c"),))
    history = looked(bundle, WARMUP, 0.92)
    proposal = together(history)
    assert proposal is not None and len(proposal.patch) == 4
    lost = looked(history, dict(proposal.patch), 0.9)
    named = replace(lost.proposals[-1], title=proposal.title, family=proposal.family)
    lost = replace(lost, proposals=(*lost.proposals[:-1], named))
    one_more = looked(lost, FASTER, 0.9)
    assert together(one_more) is None
    assert together(looked(one_more, {"training.weight_decay": 0.01}, 0.9)) is not None


def test_another_incumbent_has_parts_of_its_own() -> None:
    history = looked(looked(study(), WARMUP, 0.92), NARROW, 0.91)
    assert together(tried(history, {"model.smear": True}, "keep")) is None


def test_the_study_tries_it_once_no_strong_idea_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    history = looked(looked(study(), WARMUP, 0.92), NARROW, 0.91)
    strong = StudyPolicy(1).propose(history)
    assert strong is not None and not strong.title.startswith("together: ")
    monkeypatch.setattr(study_policy, "BundlePolicy", Silent)
    monkeypatch.setattr(study_policy, "RulesPolicy", Silent)
    found = StudyPolicy(1).propose(history)
    assert found is not None and found.title.startswith("together: ")


def test_each_part_can_be_left_out_again() -> None:
    history = looked(looked(study(), WARMUP, 0.92), NARROW, 0.91)
    proposal = together(history)
    assert proposal is not None
    kept = tried(history, dict(proposal.patch), "keep")
    named = replace(kept.proposals[-1], title=proposal.title, family=proposal.family)
    kept = replace(kept, proposals=(*kept.proposals[:-1], named))
    removal = AblationPolicy().propose(kept)
    assert removal is not None and set(removal.patch) in (set(WARMUP), set(NARROW))
