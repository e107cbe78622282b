"""Which settings hold a secret, by their names: `hubToken` does, `pad_token` and `max_tokens` do not."""

import re
from typing import Final

_WORD_ENDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")
_PLAIN_WORDS: Final = re.compile(r"secret|password|passwd|passphrase|credential|bearer")
_KEYS: Final = re.compile(r"(api|access|private|auth|ssh|gpg|encryption|signing|account|license|service)?keys?")
_MARKS: Final = frozenset(
    ("pad", "eos", "bos", "unk", "sep", "cls", "mask", "special", "image", "video", "audio", "decoder")
)
"""Words that make a token a sign of a tokenizer."""
_AMOUNTS: Final = frozenset(
    ("num", "n", "max", "min", "total", "per", "seen", "count", "number", "train", "eval", "input", "output", "target")
)
"""Words that make tokens an amount of text."""


def is_secret(name: str) -> bool:
    """Say whether text under a name is to be hidden; of a dotted name each part counts."""
    return any(_is_secret_part(part) for part in name.split("."))


def _is_secret_part(part: str) -> bool:
    words = [word.lower() for word in _WORD_ENDS.split(part) if word]
    if any(_PLAIN_WORDS.search(word) or _KEYS.fullmatch(word) for word in words):
        return True
    if not _MARKS.isdisjoint(words):
        return False
    is_amount = not _AMOUNTS.isdisjoint(words)
    return any(word.endswith("token") or (word.endswith("tokens") and not is_amount) for word in words)
