"""An idea: what a policy wants to try before it is numbered and put into a proposal."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hotlap.config.load import config_diff, config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.errors import ConfigError
from hotlap.core.records import History, Proposal
from hotlap.policies.evidence import Evidence
from hotlap.policies.measured_failures import is_known_to_fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Idea:
    """One change with its grounds."""

    family: str
    title: str
    observation: str
    hypothesis: str
    patch: Mapping[str, Any]
    predicted_ratio: float
    """Expected time to target relative to the incumbent's, if the hypothesis holds."""
    confidence: float
    """Chance that the hypothesis holds, from how often such changes helped in public records."""
    simplifies: bool = False
    exempt_from_race_until: float = 0.0

    @property
    def expected_gain(self) -> float:
        """Gain in log time that the idea promises, times the chance that it holds."""
        return -self.confidence * math.log(self.predicted_ratio)


Rule = Callable[[Evidence], Iterator[Idea]]
"""Reads the evidence and yields ideas, none where its grounds are not given."""


def make_proposal(history: History, parent: RunConfig, idea: Idea, proposer: str = "rules") -> Proposal | None:
    """Return the idea as the next proposal on the incumbent's config.

    None when it changes nothing or does not fit this config, for instance heads that do not divide the width, and for
    what the bench before the study saw fail; what is tried without a kept change has run before.
    """
    try:
        diff = config_diff(parent, config_from_values(parent.model_dump(mode="json"), idea.patch))
    except ConfigError:
        return None
    if not diff or (proposer != "ablation" and is_known_to_fail(history, parent, idea.patch)):
        return None
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
        proposer=proposer,
        role="ablation" if proposer == "ablation" else "screen",
        diff=diff,
    )
