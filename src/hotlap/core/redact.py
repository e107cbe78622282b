"""Text that is handed to others, an agent or a reader, also without the secrets that no variable here holds.

clean = redacted(log, os.environ)

What a run prints and stores is masked by core/masking.py, which knows secrets by their values and leaves the rest as it
is. This goes further: what only looks like a token, and whatever stands under the name of a secret, is hidden as well.
"""

import re
from collections.abc import Mapping
from typing import Final

from hotlap.core.masking import MASK, Mask, secret_settings, secret_values

__all__ = ["redacted", "secret_values"]

_FORMS: Final = (
    re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,}"),
    re.compile(r"\b(?:ghp|gho|ghs|ghu|ghr|github_pat|glpat|hf|xoxb|xoxp|xapp)[-_][A-Za-z0-9_-]{10,}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(r"(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/=-]{6,}"),
    re.compile(r"(?is)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
)
_NETRC: Final = re.compile(r"(?i)\b(password|passwd)\s+(\S+)")


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with `***` for the values of secret variables, for settings with secret names and known tokens."""
    text = Mask(secret_values(environment)).text(text)
    for form in _FORMS:
        text = form.sub(MASK, text)
    text = _NETRC.sub(rf"\1 {MASK}", text)
    pieces, end = [], 0
    for start, stop, _ in sorted(secret_settings(text)):
        if start >= end:
            pieces += [text[end:start], MASK]
            end = stop
    return "".join([*pieces, text[end:]])
