"""From what somebody wants to try, a person, an agent or a file, to a proposal that the study can judge.

proposal = make_proposal_of(study.code, history, Draft(title=..., hypothesis=..., patch=...), "patches")
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hotlap.config.load import config_diff, config_from_values, refuse_protocol_keys
from hotlap.core.errors import ConfigError
from hotlap.core.records import History, Proposal
from hotlap.policies.quoting import shown
from hotlap.policies.rules import candidate_config
from hotlap.study.code import StudyCode, needed_code

CODE: Final = "code"
"""Family of proposals that change code."""
SETTINGS: Final = "settings"
"""Family of proposals from outside that change settings alone."""
USUAL_RATIO: Final = 0.95
"""Predicted time, relative to the parent's, where whoever proposes predicts none."""
LONGEST_TITLE: Final = 100
LONGEST_TEXT: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One change as somebody from outside wants it."""

    title: str = ""
    observation: str
    hypothesis: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys and their new values."""
    patch: str = ""
    """A patch of the incumbent's code, as `git diff` writes it."""
    predicted_ratio: float = USUAL_RATIO
    simplifies: bool = False


def make_proposal_of(code: StudyCode | None, history: History, draft: Draft, proposer: str) -> Proposal:
    """Return a draft as the next proposal on the incumbent.

    Code that may not be changed stays in it: the study discards such a proposal with the reason. Raises ConfigError
    when the draft has no grounds, changes nothing, or sets what cannot be set.
    """
    _check(draft)
    refuse_protocol_keys(draft.settings)
    parent = candidate_config(history, history.incumbent)
    child = config_from_values(parent.model_dump(mode="json"), draft.settings)
    diff = config_diff(parent, child)
    if draft.settings and not diff:
        settings = ", ".join(f"{key}={value}" for key, value in draft.settings.items())
        raise ConfigError(f"{settings}: the incumbent has that already, so nothing would change")
    patch = ""
    if draft.patch:
        examined = needed_code(code).examine(history, history.incumbent, draft.patch)
        if not examined.code:
            raise ConfigError("the patch changes no file; leave it out, or make it against the incumbent's code")
        patch = examined.code
    return Proposal(
        number=len(history.proposals) + 1,
        parent=history.incumbent,
        family=CODE if patch else SETTINGS,
        title=_title(draft),
        observation=_clean(draft.observation)[:LONGEST_TEXT],
        hypothesis=_clean(draft.hypothesis)[:LONGEST_TEXT],
        patch=dict(draft.settings),
        predicted_ratio=draft.predicted_ratio,
        simplifies=draft.simplifies,
        proposer=proposer,
        diff=diff + patch,
        code=patch,
    )


def _check(draft: Draft) -> None:
    for name in ("observation", "hypothesis"):
        if not getattr(draft, name).strip():
            raise ConfigError(f"the proposal has no {name}; say what was seen, and what the change is expected to do")
    if not draft.settings and not draft.patch.strip():
        raise ConfigError(
            "the proposal changes nothing; give it a patch, or settings such as params.learning_rate=3e-4"
        )
    if not (math.isfinite(draft.predicted_ratio) and 0 < draft.predicted_ratio <= 2):
        raise ConfigError(
            f"a predicted ratio of {draft.predicted_ratio:g}: it is the expected time relative to the incumbent's, "
            "above 0 and at most 2, such as 0.9 for 10 % less"
        )


def _title(draft: Draft) -> str:
    words = " ".join(_clean(draft.title or draft.hypothesis).split())
    return words if len(words) <= LONGEST_TITLE else f"{words[: LONGEST_TITLE - 1]}…"


def _clean(text: str) -> str:
    """Return what somebody from outside wrote, without secrets and without what a terminal would obey."""
    return shown(text.encode("utf-8", "replace").decode(), os.environ).strip()
