"""The policy of a study: strong rules first, then rules and the mixture in turn, and leave-one-out when asked.

    StudyPolicy(seed=42).propose(history)

A rule gives its grounds and changes one thing, so the promising ones go first. What is left of them promises little
each, while by then the runs tell a sampler where to look. Small gains that cannot be told from luck are tried together.
A command of the user's own has a policy for its knobs.
"""

from dataclasses import dataclass
from typing import Final, final

from hotlap.core.records import History, Proposal
from hotlap.policies.bundles import BundlePolicy
from hotlap.policies.command_policy import CommandPolicy
from hotlap.policies.mixture import MixturePolicy
from hotlap.policies.rules import AblationPolicy, RulesPolicy
from hotlap.policies.together import TogetherPolicy

STRONG_GAIN: Final = 0.1
"""Expected gain in log time from which a rule goes before everything else."""
RULE_EVERY: Final = 3
"""Of the later proposals, one in so many is a rule's while the rules have any."""


@final
@dataclass(frozen=True, slots=True)
class StudyPolicy:
    """Proposes what a study tries next; a pure function of history and seed, so a killed study proposes the same."""

    seed: int = 0

    def propose(self, history: History, *, is_ablation: bool = False) -> Proposal | None:
        """Return the next proposal, or None when there is no idea left; with `is_ablation` only leave-one-out ones."""
        if history.base_config.get("command") is not None:
            return CommandPolicy(self.seed).propose(history, is_ablation=is_ablation)
        if is_ablation:
            return AblationPolicy().propose(history)
        if strong := BundlePolicy().propose(history) or RulesPolicy(STRONG_GAIN).propose(history):
            return strong
        if together := TogetherPolicy().propose(history):
            return together
        rules, mixture = RulesPolicy(), MixturePolicy(self.seed)
        is_turn_of_rules = len(history.proposals) % RULE_EVERY == 0
        first, second = (rules, mixture) if is_turn_of_rules else (mixture, rules)
        return first.propose(history) or second.propose(history) or AblationPolicy().propose(history)
