"""The rules policy: an expert's checklist that reads the runs and orders its ideas by gain per second of measuring."""

import math
from typing import Final, final

from hotlap.config.load import config_diff, config_from_values, get_dotted
from hotlap.config.schema import GPTConfig, RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.records import History, Proposal
from hotlap.policies.evidence import Evidence, gather_evidence
from hotlap.policies.ideas import Idea, Rule
from hotlap.policies.model_rules import MACHINE_RULES, MODEL_RULES
from hotlap.policies.optimization_rules import OPTIMIZATION_RULES, dropout

GPT_RULES: Final[tuple[Rule, ...]] = (dropout, *OPTIMIZATION_RULES, *MACHINE_RULES, *MODEL_RULES)
OTHER_RULES: Final[tuple[Rule, ...]] = (*OPTIMIZATION_RULES, *MACHINE_RULES)
"""What can be said of a model that is not ours."""
_RUNS_AFTER_A_PASS: Final = 3  # one to confirm, two to estimate the new incumbent


@final
class RulesPolicy:
    """Proposes the untried idea with the highest expected gain per second; a pure function of the history."""

    def propose(self, history: History) -> Proposal | None:
        """Return the next proposal, or None when no rule has an untried idea."""
        parent = candidate_config(history, history.incumbent)
        evidence = gather_evidence(history, parent)
        rules = GPT_RULES if isinstance(parent.model, GPTConfig) else OTHER_RULES
        ideas = [idea for rule in rules for idea in rule(evidence) if not evidence.was_tried(idea.patch)]
        for idea in sorted(ideas, key=lambda idea: gain_per_second(idea, evidence), reverse=True):
            diff = _diff(parent, idea)
            if diff:
                return _proposal(history, idea, diff)
        return None


@final
class AblationPolicy:
    """Proposes each kept change to be tried without, oldest first: what no longer helps is removed."""

    def propose(self, history: History) -> Proposal | None:
        """Return the next leave-one-out proposal, or None when each kept change has had its turn."""
        tried = {p.title for p in history.proposals if p.role == "ablation"}
        parent = candidate_config(history, history.incumbent)
        values = parent.model_dump(mode="json")
        for number in history.kept()[:-1]:  # the last keep was measured against exactly this config without it
            kept = history.proposal(number)
            before = candidate_config(history, kept.parent).model_dump(mode="json")
            title = f"without #{number} ({kept.title})"
            still_there = all(get_dotted(values, key) == value for key, value in kept.patch.items())
            if kept.role == "ablation" or kept.simplifies or title in tried or not still_there:
                continue
            patch = {key: get_dotted(before, key) for key in kept.patch}
            idea = Idea(
                family="ablation",
                title=title,
                observation=(
                    f"#{number} was kept when the incumbent was #{kept.parent}; {history.incumbent - number} "
                    f"proposals have followed."
                ),
                hypothesis="Later changes may have made it superfluous: without it the run is as fast.",
                patch=patch,
                predicted_ratio=1.0,
                confidence=0.3,
                simplifies=True,
            )
            diff = _diff(parent, idea)
            if diff:
                return _proposal(history, idea, diff, is_ablation=True)
        return None


def candidate_config(history: History, candidate: int) -> RunConfig:
    """Return the config of a candidate: the base config with the patches of its ancestors."""
    return config_from_values(history.base_config, history.config_of(candidate))


def gain_per_second(idea: Idea, evidence: Evidence) -> float:
    """Return the expected gain in log time per second that finding out would cost."""
    now = evidence.seconds_to_target
    if math.isinf(now):
        now = max(run.train_seconds for run in evidence.runs)
    after = idea.predicted_ratio * now
    screen = evidence.overhead_seconds + idea.confidence * after + (1 - idea.confidence) * now
    follow_up = idea.confidence * _RUNS_AFTER_A_PASS * (evidence.overhead_seconds + after)
    return -idea.confidence * math.log(idea.predicted_ratio) / (screen + follow_up)


def _diff(parent: RunConfig, idea: Idea) -> str:
    """Return the diff that an idea makes; empty when it changes nothing or does not fit this config."""
    try:
        return config_diff(parent, config_from_values(parent.model_dump(mode="json"), idea.patch))
    except ConfigError:
        return ""  # for instance heads that do not divide the width: the next idea has its turn


def _proposal(history: History, idea: Idea, diff: str, *, is_ablation: bool = False) -> Proposal:
    return Proposal(
        number=len(history.proposals) + 1,
        parent=history.incumbent,
        family=idea.family,
        title=idea.title,
        observation=idea.observation,
        hypothesis=idea.hypothesis,
        patch=idea.patch,
        predicted_ratio=idea.predicted_ratio,
        simplifies=idea.simplifies,
        exempt_from_race_until=idea.exempt_from_race_until,
        proposer="ablation" if is_ablation else "rules",
        role="ablation" if is_ablation else "screen",
        diff=diff,
    )
