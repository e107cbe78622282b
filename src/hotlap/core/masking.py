"""Keep secrets out of files: mask their values in what a program prints, and take them out of command lines.

Mask(secret_values(os.environ)).hide(b"logged in with hf_abc")  ->  b"logged in with ***"
hide_secrets("train.py --hub_token hf_abc", {})
->  'train.py --hub_token "${HOTLAP_SECRET_HUB_TOKEN}"', {"HOTLAP_SECRET_HUB_TOKEN": "hf_abc"}

Here are all rules of what a secret is. core/redact.py goes by them, too, in text whose secrets nobody knows beforehand.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from hotlap.core.errors import ConfigError
from hotlap.core.secret_names import is_secret

MASK: Final = "***"
SECRET_PREFIX: Final = "HOTLAP_SECRET_"
"""Variables that hold what was taken out of a command line."""

_REFERENCE: Final = re.compile(rf"\$\{{({SECRET_PREFIX}\w+)\}}")
_LEAST_LENGTH: Final = 6
"""Shorter values stand in too many other words."""
_LEAST_TOLD: Final = 4
"""The same for what stands in a command under the name of a secret."""
_TOKEN_STARTS: Final = (b"hf_", b"ghp_", b"gho_", b"ghs_", b"github_pat_", b"glpat-", b"sk-", b"AKIA")
_TOKENS: Final = re.compile(
    rb"\b(?:hf_[A-Za-z0-9]{30,}|gh[pos]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}"
    rb"|sk-[A-Za-z0-9_-]{32,}|AKIA[A-Z0-9]{16})\b"
)
"""Tokens that nobody needs to name, so exactly by their form that nothing else is taken for one."""
_TOKENS_OF_TEXT: Final = re.compile(_TOKENS.pattern.decode(), re.ASCII)
_TOKEN_BEGUN: Final = re.compile(rb"\b(?:hf_|gh[pos]_|github_pat_|glpat-|sk-|AKIA)[A-Za-z0-9_-]{0,200}\Z")
_PLAIN: Final = re.compile(r"[\d.,+-]*|true|false|none|null|yes|no|\*+|[~/.$].*|\{\w+\}.*", re.IGNORECASE | re.DOTALL)
"""Values that are no secrets, whatever their name: numbers, switches, paths, variables, knobs."""
_SETTING: Final = re.compile(
    r"(?P<name>--?[A-Za-z][\w.-]{0,80}|(?<![\w.])[A-Za-z_][\w.]{0,80})"  # bounded: a text may be one endless word
    r"(?P<sign>[\"']?\s*[=:]\s*[\"']?|\s+[\"']?)"
    r"(?=[^\s\"'|;&<>()])"
)
_VALUE: Final = re.compile(r"[^\s\"'|;&<>()]+")
"""What follows a sign; looked for only behind names of secrets, since a text may be one endless word."""
_IN_ADDRESS: Final = re.compile(r"://[^/\s:@]+:(?P<value>[^@\s/\"']+)@")


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of the variables whose names say that they hold secrets, the longest first."""
    found = {
        value
        for name, value in environment.items()
        if is_secret(name) and is_secret_value(value, _LEAST_TOLD if name.startswith(SECRET_PREFIX) else _LEAST_LENGTH)
    }
    return tuple(sorted(found, key=len, reverse=True))


class Mask:
    """Replaces secrets, and tokens of known forms, in a stream; one that is cut by the end of a piece is found, too."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._texts = sorted(secrets, key=len, reverse=True)  # one may be the beginning of another
        self._secrets = [secret.encode("utf-8", "surrogateescape") for secret in self._texts]
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets))) if self._secrets else None
        self._held = b""

    def hide(self, data: bytes) -> bytes:
        """Return the next piece with its secrets masked; an end that may be the start of a secret waits."""
        data = self._held + data
        if self._pattern is not None:
            data = self._pattern.sub(MASK.encode(), data)
        held = max(_overlap(data, start) for start in (*self._secrets, *_TOKEN_STARTS))
        if any(start in data for start in _TOKEN_STARTS):
            begun = _TOKEN_BEGUN.search(data, max(0, len(data) - 256))
            whole = data if begun is None else data[: begun.start()]
            data = _TOKENS.sub(MASK.encode(), whole) + data[len(whole) :]
            held = held if begun is None else max(held, len(begun[0]))
        self._held = data[len(data) - held :]
        return data[: len(data) - held]

    def end(self) -> bytes:
        """Return what waited for more."""
        held, self._held = self._held, b""
        return _TOKENS.sub(MASK.encode(), held)

    def text(self, text: str) -> str:
        """Return a whole text with its secrets masked."""
        for secret in self._texts:
            text = text.replace(secret, MASK)
        return _TOKENS_OF_TEXT.sub(MASK, text)


def _overlap(data: bytes, secret: bytes) -> int:
    """Return how many bytes at the end of some data are the start of a secret."""
    longest = min(len(secret) - 1, len(data))
    return next((length for length in range(longest, 0, -1) if data.endswith(secret[:length])), 0)


def hide_secrets(text: str, environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return a shell's text without the secrets that stand in it, and the variables that it takes them from.

    A secret is the value of a flag, a variable or a setting whose name says so, a password in an address, and any value
    of a variable of the environment whose name says so.
    """
    variables: dict[str, str] = {}
    for name, value in sorted(environment.items(), key=lambda item: -len(item[1])):
        if is_secret(name) and is_secret_value(value) and value in text:
            variables[name] = value
    places = sorted({*_known_places(text, variables), *_named_places(text, variables)})
    pieces, end = [], 0
    for start, stop, name in places:
        if start >= end:
            pieces += [text[end:start], _reference(text, start, name)]
            end = stop
    new = {name: value for name, value in variables.items() if name.startswith(SECRET_PREFIX)}
    return "".join([*pieces, text[end:]]), new


def with_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with the values of the variables that secrets were put into.

    Raises ConfigError for one that is not set: secrets are not stored with a run.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(
                f"command: the secret ${match[1]} is not set, and it is not stored with a run; set that variable, or "
                "start from the config that holds it"
            )
        return environment[match[1]]

    return _REFERENCE.sub(value, text)


def _known_places(text: str, variables: Mapping[str, str]) -> Iterator[tuple[int, int, str]]:
    for name, value in variables.items():
        for match in re.finditer(re.escape(value), text):
            yield match.start(), match.end(), name


def _named_places(text: str, variables: dict[str, str]) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and variable of the values whose names say that they are secrets; add the variables."""
    for start, end, name in secret_settings(text):
        if is_secret_value(value := text[start:end], _LEAST_TOLD):
            yield start, end, _variable(name, value, variables)


def secret_settings(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and name of the values that stand under the name of a secret, whatever they are.

    Settings are flags, variables and keys, and a password in an address.
    """
    at = 0
    while match := _SETTING.search(text, at):
        at = match.end()  # the value of one may be the name of the next, as in `-e API_KEY=…`
        name = match["name"].strip("-")
        is_flag, has_sign = match["name"].startswith("-"), match["sign"].strip(" \t\r\n\"'") != ""
        if (is_flag or has_sign) and not text.startswith("-", at) and is_secret(name):
            value = _VALUE.match(text, at)
            assert value is not None, "the expression before has seen its first character"
            yield *value.span(), name
            at = value.end()
    for match in _IN_ADDRESS.finditer(text):
        yield *match.span("value"), "address"


def _variable(name: str, value: str, variables: dict[str, str]) -> str:
    """Return the name of the variable that holds a secret."""
    base = SECRET_PREFIX + re.sub(r"\W", "_", name).upper()
    number = 1
    while variables.setdefault(found := base if number == 1 else f"{base}_{number}", value) != value:
        number += 1
    return found


def _reference(text: str, place: int, name: str) -> str:
    """Return what a shell replaces by a variable at a place of a text, as the quotes around it want."""
    quote = ""
    for position in range(place):
        character = text[position]
        if quote in ("", character) and character in "\"'" and (position == 0 or text[position - 1] != "\\"):
            quote = "" if quote else character
    return {"": f'"${{{name}}}"', '"': f"${{{name}}}", "'": f"'\"${{{name}}}\"'"}[quote]


def is_secret_value(value: str, least_length: int = _LEAST_LENGTH) -> bool:
    """Say whether a value under a name that speaks of a secret may be one: no number, switch, path or variable."""
    return len(value) >= least_length and _PLAIN.fullmatch(value) is None
