"""The sections `edits` and `agent`: which files a proposal may change, and who may be asked for one."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from hotlap.config.base import Seconds, Section

_OUTSIDE: Final = "is not inside the project; write paths relative to the folder of the config, such as src/*.py"


def _check_pattern(text: str) -> str:
    pattern = text.strip().removeprefix("./")
    if not pattern:
        raise ValueError("an empty pattern; write a path such as train.py, src/*.py or data/")
    if pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
        raise ValueError(f"{text!r} {_OUTSIDE}")
    return pattern


Pattern = Annotated[str, AfterValidator(_check_pattern)]
"""Path inside the project: `*` stands for anything within a name, `**` for any folders, `data/` for all below it."""


class EditsConfig(Section):
    """Which code a proposal may change."""

    files: tuple[Pattern, ...] = ()
    """Files that a proposal may change, add or remove, such as train.py or src/**/*.py; empty: all but the protected
    ones."""
    protect: tuple[Pattern, ...] = ()
    """Files that stay as they are, also where `files` names them: evaluation, data, tests."""
    link: tuple[Pattern, ...] = ()
    """Files and folders that git ignores and the command reads, such as data/: linked read-only, and hashed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        globbed = [name for name in self.link if re.search(r"[*?\[]", name)]
        if globbed:
            raise ValueError(f"link: {', '.join(globbed)}: name files and folders without wildcards")
        return self

    def is_editable(self, path: str) -> bool:
        """Say whether a proposal may change a file, given by its path in the project."""
        return (not self.files or matches(path, self.files)) and not self.is_protected(path)

    def is_protected(self, path: str) -> bool:
        """Say whether a file has to stay as it is."""
        return matches(path, self.protect) or matches(path, self.link)


class AgentConfig(Section):
    """Who is asked for proposals, and how often: a command-line agent, or a model behind an endpoint."""

    command: str | None = Field(None, min_length=1)
    """Command of a coding agent, started in a worktree; {prompt_file} and {answer_file} stand for its two files."""
    base_url: str | None = Field(None, pattern=r"^https?://[^\s]+$")
    """Endpoint that speaks OpenAI's chat completions, such as http://localhost:8000/v1."""
    model: str | None = Field(None, min_length=1)
    """The endpoint's model."""
    api_key_env: str = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable that holds the endpoint's key; an endpoint that needs none may go without."""
    timeout: Seconds = 600.0
    """Longest call."""
    calls: int = Field(20, ge=1)
    """Most calls in the whole study, over all its sittings."""
    cost: float | None = Field(None, gt=0)
    """Most US dollars in the whole study; a call that could cost more than is left is not made."""
    cost_per_call: float | None = Field(None, ge=0)
    """Most US dollars that a call of the command can cost; an answer may tell less."""
    input_price: float | None = Field(None, ge=0)
    """US dollars for a million tokens that the endpoint reads."""
    output_price: float | None = Field(None, ge=0)
    """US dollars for a million tokens that the endpoint writes."""
    max_tokens: int = Field(8192, ge=64)
    """Longest answer of the endpoint."""
    every: int = Field(3, ge=1)
    """One proposal in so many is the agent's while other sources have any; 1: the agent goes first."""
    context: tuple[Pattern, ...] = ()
    """Further files that the agent is shown, quoted, such as notes of your own."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if (self.command is None) == (self.base_url is None):
            yield "name one of command (a coding agent) and base_url (an endpoint)"
        if self.base_url is not None and self.model is None:
            yield "base_url needs model, the name that the endpoint knows it by"
        if self.cost is None:
            return
        if self.command is not None and self.cost_per_call is None:
            yield "cost needs cost_per_call: nobody else can tell what a call of the command may cost"
        if self.base_url is not None and (self.input_price is None or self.output_price is None):
            yield "cost needs input_price and output_price, in US dollars per million tokens"


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Say whether a path, parts divided by `/`, fits one of some patterns; a folder's pattern fits all below it."""
    return any(_expression(pattern).fullmatch(path) for pattern in patterns)


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    written = ""
    for number, part in enumerate(parts):
        if part == "**":
            written += "(?:[^/]+/)*"
            continue
        written += "".join(_sign(sign) for sign in part) + ("/" if number + 1 < len(parts) else "")
    if parts and parts[-1] == "**":
        return re.compile(f"{written}[^/]+")
    is_folder = pattern.endswith("/") or not parts or not set(parts[-1]) & set("*?")
    return re.compile(f"{written}(?:/.*)?" if is_folder else written, re.DOTALL)


def _sign(sign: str) -> str:
    return {"*": "[^/]*", "?": "[^/]"}.get(sign) or re.escape(sign)
