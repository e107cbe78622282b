"""Values of knobs in text: `{learning_rate}` in a command line or in a variable.

    filled("train.py --lr {lr} {bf16?--bf16}", {"lr": 3e-4, "bf16": True})  ->  "train.py --lr 0.0003 --bf16"

Only names of knobs count between braces, so `${HOME}` and `{1..5}` stay as they are; `{{name}}` is the plain `{name}`.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from hotlap.config.command import PLACEHOLDER
from hotlap.core.errors import ConfigError
from hotlap.knobs.shell_words import quotes_around


def filled(command: str, params: Mapping[str, Any]) -> str:
    """Return a shell command with the values of knobs in it, quoted so that each stays one word.

    Raises ConfigError for a knob without a value.
    """
    quotes = quotes_around(command)
    return _replaced(command, params, lambda value, at: quoted(word_text(value), quotes[at]))


def filled_plain(text: str, params: Mapping[str, Any]) -> str:
    """Return the value of a variable with the values of knobs in it: true and false in small letters.

    Raises ConfigError for a knob without a value.
    """
    return _replaced(text, params, lambda value, _: variable_text(value))


def word_text(value: Any) -> str:
    """Return a knob's value as it stands in a command line, where Python's own names are understood by most scripts."""
    return repr(value) if isinstance(value, float) else str(value)


def variable_text(value: Any) -> str:
    """Return a knob's value as it stands in a variable: true, false, nothing for null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else word_text(value)


def _replaced(text: str, params: Mapping[str, Any], written: Callable[[Any, int], str]) -> str:
    def piece(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return f"{{{match['plain']}}}"
        if name not in params:
            raise ConfigError(f"the knob {{{name}}} has no value; write params: {{{name}: …}}")
        if match["then"] is None:
            return written(params[name], match.start())
        return str(match["then"] if params[name] else match["other"] or "")

    return PLACEHOLDER.sub(piece, text)


def quoted(text: str, quote: str = "") -> str:
    """Return text that stays what it is in a shell, inside the given quotes or outside of any."""
    if quote == "'":
        return text.replace("'", "'\\''")
    if quote == '"':
        return re.sub(r'(["\\$`])', r"\\\1", text)
    return shlex.quote(text)
