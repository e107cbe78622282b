"""The rules policy: an expert's checklist that reads the runs and orders its ideas by gain per second of measuring."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, final

from hotlap.config.load import config_from_values, get_dotted
from hotlap.config.models import is_free_gpt
from hotlap.config.schema import RunConfig
from hotlap.core.records import History, Proposal
from hotlap.policies.evidence import Evidence, gather_evidence
from hotlap.policies.ideas import Idea, Rule, make_proposal
from hotlap.policies.measured_failures import is_known_to_fail
from hotlap.policies.model_rules import MACHINE_RULES, MODEL_RULES
from hotlap.policies.optimization_rules import OPTIMIZATION_RULES, dropout
from hotlap.search.noise import STEP_TIME_RATIO
from hotlap.search.opponents import SAMPLED
from hotlap.search.revisit import is_reopened

GPT_RULES: Final[tuple[Rule, ...]] = (dropout, *OPTIMIZATION_RULES, *MACHINE_RULES, *MODEL_RULES)
OTHER_RULES: Final[tuple[Rule, ...]] = (*OPTIMIZATION_RULES, *MACHINE_RULES)
"""What can be said of a model that is not ours."""
BUNDLE: Final = "bundle"
"""Family of proposals that are several ideas at once."""
_RIDERS: Final = (
    ("training.warmup_ratio", "training.warmup_steps"),
    ("training.lr_scheduler_type", "training.lr_scheduler_kwargs"),
)
"""Settings that are tried without on their own, where a searcher brought them along with others."""
_TOGETHER: Final = (
    *_RIDERS,
    ("model.embd_pdrop", "model.attn_pdrop", "model.resid_pdrop"),
    ("model.smear", "model.num_hidden_layers"),
    ("model.hidden_size", "model.num_attention_heads"),
    ("training.optim", "training.optim_args"),
)
"""Settings of a bundle that only make sense together."""
_RUNS_AFTER_A_PASS: Final = 2  # one to confirm, one to estimate the new incumbent


@final
@dataclass(frozen=True, slots=True)
class RulesPolicy:
    """Proposes the untried idea with the highest expected gain per second; a pure function of the history."""

    least_gain: float = 0.0
    """Expected gain in log time below which an idea is left alone."""

    def propose(self, history: History) -> Proposal | None:
        """Return the next proposal, or None when no rule has an untried idea."""
        evidence, ideas = untried_ideas(history)
        for idea in ideas:
            if idea.expected_gain < self.least_gain:
                continue
            if proposal := make_proposal(history, evidence.config, idea):
                return proposal
        return None


@final
class AblationPolicy:
    """Proposes each kept change to be tried without, what gained least first: what no longer helps is removed."""

    def propose(self, history: History) -> Proposal | None:
        """Return the next leave-one-out proposal, or None when each kept change has had its turn."""
        parent = candidate_config(history, history.incumbent)
        for removal in removals(history):
            if proposal := make_proposal(history, parent, _left_out(history, removal), "ablation"):
                return proposal
        return None


@dataclass(frozen=True, slots=True)
class Removal:
    """A kept change, or a part of one, that can be tried without."""

    number: int
    """The proposal that brought it."""
    keys: tuple[str, ...]
    title: str
    gain_ratio: float
    """Its time relative to that before it; a part counts for as much of its change's gain as any other part."""


def removals(history: History) -> tuple[Removal, ...]:
    """Return what can be tried without and was not tried yet, what gained least first."""
    return history.once("removals", lambda: tuple(_removals(history)))


def untried_ideas(history: History) -> tuple[Evidence, tuple[Idea, ...]]:
    """Return what the rules read and what they say that was not tried, the highest gain per second first."""
    return history.once("untried ideas", lambda: _untried_ideas(history))


def candidate_config(history: History, candidate: int) -> RunConfig:
    """Return the config of a candidate: the base config with the patches of its ancestors."""
    base = history.once("base config as text", lambda: json.dumps(history.base_config, sort_keys=True))
    return _parsed(base, json.dumps(history.config_of(candidate), sort_keys=True))


def gain_per_second(idea: Idea, evidence: Evidence) -> float:
    """Return the expected gain in log time per second that finding out would cost."""
    now = evidence.seconds_to_target
    if math.isinf(now):
        now = max(run.train_seconds for run in evidence.runs)
    after = idea.predicted_ratio * now
    screen = evidence.overhead_seconds + idea.confidence * after + (1 - idea.confidence) * now
    follow_up = idea.confidence * _RUNS_AFTER_A_PASS * (evidence.overhead_seconds + after)
    return idea.expected_gain / (screen + follow_up)


def _untried_ideas(history: History) -> tuple[Evidence, tuple[Idea, ...]]:
    parent = candidate_config(history, history.incumbent)
    evidence = gather_evidence(history, parent)
    rules = GPT_RULES if is_free_gpt(parent.model) else OTHER_RULES
    ideas = [
        idea
        for rule in rules
        for idea in rule(evidence)
        if not evidence.was_tried(idea.patch) and not is_known_to_fail(history, parent, idea.patch)
    ]
    return evidence, tuple(sorted(ideas, key=lambda idea: gain_per_second(idea, evidence), reverse=True))


def _removals(history: History) -> list[Removal]:
    asked = [p for p in history.proposals if p.role == "ablation"]
    tried = {p.title for p in asked if not is_reopened(history, p.number)}
    values = candidate_config(history, history.incumbent).model_dump(mode="json")
    found: dict[str, Removal] = {}
    for number, brought, ratio in _removable(history):
        proposal = history.proposal(number)
        keys = tuple(key for key in brought if get_dotted(values, key) == proposal.patch[key])  # the rest was overtaken
        title = _removal_title(proposal, keys)
        if keys and title not in tried:
            found.setdefault(title, Removal(number, keys, title, ratio))
    return sorted(found.values(), key=lambda removal: -removal.gain_ratio)


def _removal_title(proposal: Proposal, keys: tuple[str, ...]) -> str:
    if len(keys) == len(proposal.patch) and not proposal.code:
        return f"without #{proposal.number} ({proposal.title})"
    return f"without {', '.join(key.partition('.')[2] for key in keys)} of #{proposal.number}"


def _left_out(history: History, removal: Removal) -> Idea:
    kept = history.proposal(removal.number)
    before = candidate_config(history, kept.parent).model_dump(mode="json")
    return Idea(
        family="ablation",
        title=removal.title,
        observation=(
            f"#{removal.number} was kept when the incumbent was #{kept.parent}; proposals since then: "
            f"{len(history.proposals) - removal.number}."
        ),
        hypothesis="Later changes may have made it superfluous: without it the run is as fast.",
        patch={key: get_dotted(before, key) for key in removal.keys},
        predicted_ratio=1.0,
        confidence=0.3,
        simplifies=True,
    )


def _removable(history: History) -> Iterator[tuple[int, tuple[str, ...], float]]:
    """Yield what the kept changes brought: parts of a change of several settings, and whole changes, with their ratios.

    Of a bundle every part, of a searcher's change those settings that often do nothing.
    """
    kept = history.kept()
    for number in kept:
        proposal = history.proposal(number)
        decision = history.verdict(number)
        is_timed = decision is not None and STEP_TIME_RATIO in decision.statistics  # finer than times to target tell
        if proposal.role == "ablation" or proposal.simplifies or is_timed:
            continue
        ratio, parts = _measured_ratio(history, number), list(_parts(proposal))
        for keys in parts:
            yield number, keys, ratio ** (1 / len(parts))
        if number != kept[-1]:  # the last keep was measured against exactly this config without it
            yield number, tuple(proposal.patch), ratio


def _measured_ratio(history: History, number: int) -> float:
    """Return the time of a kept change relative to the incumbent before it; 0 where that never reached."""
    decision = history.verdict(number)
    statistics = decision.statistics if decision else {}
    return float(statistics.get("ratio", 0.0))


def _parts(proposal: Proposal) -> Iterator[tuple[str, ...]]:
    groups: Iterable[tuple[str, ...]] = _RIDERS if proposal.proposer in SAMPLED else ()
    if proposal.family == BUNDLE:
        grouped = {key for group in _TOGETHER for key in group}
        groups = (*_TOGETHER, *((key,) for key in proposal.patch if key not in grouped))
    for group in groups:
        keys = tuple(key for key in group if key in proposal.patch)
        if keys and len(keys) < len(proposal.patch):
            yield keys


@lru_cache(maxsize=4096)  # before every proposal the configs of all candidates are asked for
def _parsed(base: str, patch: str) -> RunConfig:
    return config_from_values(json.loads(base), json.loads(patch))
