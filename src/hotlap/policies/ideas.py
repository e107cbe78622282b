"""An idea: what a rule proposes before it is numbered and put into a proposal."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hotlap.policies.evidence import Evidence


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


Rule = Callable[[Evidence], Iterator[Idea]]
"""Reads the evidence and yields ideas, none where its grounds are not given."""
