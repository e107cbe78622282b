"""The sections of a config that belong to somebody else's training command: `command`, and what `params` are.

command:
  run: python train.py --lr {learning_rate}
params: {learning_rate: 6.0e-4}

A **knob** is one entry of `params`: a value that hotlap may set. Where it goes is said by a placeholder `{name}` in the
command line or in a variable, by a key of a file that is copied, or by a module constant.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from hotlap.config.base import Section
from hotlap.core.masking import is_secret_value
from hotlap.core.secret_names import is_secret

SEED: Final = "seed"
"""The knob that the harness sets itself, to another value for each run."""
FORMATS: Final = ("auto", "trainer", "nanogpt", "modded_nanogpt", "nanochat", "block", "metric", "json", "csv", "pairs")
"""Forms of log lines that can be asked for; `auto` tries all of them."""
SECTIONS_OF_TRAINING: Final = ("task", "tokenizer", "model", "training", "samples")
"""What a config with a command may not have: hotlap's own trainer."""

PLACEHOLDER: Final = re.compile(
    r"\{\{(?P<plain>[A-Za-z_]\w*)\}\}"
    r"|(?<!\$)\{(?P<name>[A-Za-z_]\w*)(?:\?(?P<then>[^{}:]*)(?::(?P<other>[^{}]*))?)?\}"
)
"""`{name}`, `{name?TEXT:OTHER}` for text that depends on a knob, and `{{name}}` for what only looks like one."""
KnobName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
KnobValue = bool | int | float | str | None
Formats = Literal["auto", "trainer", "nanogpt", "modded_nanogpt", "nanochat", "block", "metric", "json", "csv", "pairs"]


def _check_expression(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if groups != 1:
        raise ValueError(f"a metric's expression needs one group, around its number: 'loss: (.+)'; it has {groups}")
    return text


Expression = Annotated[str, AfterValidator(_check_expression)]


class CommandConfig(Section):
    """A training command of your own, what it prints, and where its knobs are."""

    run: str = Field(min_length=1)
    """The command for a shell; {name} is a knob, {name?TEXT:OTHER} text that depends on one, {{name}} plain {name}."""
    metrics: dict[str, Expression] = Field(default_factory=dict)
    """Metrics by regular expressions with one group around the number; `step` is the expression of the step."""
    formats: tuple[Formats, ...] = ("auto",)
    """Forms of log lines that are read."""
    read: tuple[str, ...] = ()
    """Files that the command writes metrics to, such as out/trainer_state.json, out/log.csv or a folder of events."""
    clock_key: str | None = None
    """Name of the figure in the log lines that holds the seconds of training so far; absent: known ones are found."""
    pty: bool = True
    """Give the command a pseudo-terminal, so that its lines come when they are printed."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables for the command; {name} stands for a knob."""
    files: dict[str, dict[str, KnobName]] = Field(default_factory=dict)
    """Knobs in YAML, JSON or TOML files: path, dotted key, knob. The command is given an edited copy."""
    constants: dict[str, dict[str, KnobName]] = Field(default_factory=dict)
    """Knobs in module constants: path of the script, name of the constant, knob. The command runs an edited copy."""
    evaluator: str | None = None
    """Command that evaluates what a finished run has left; its figures are believed in place of the run's own."""


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names of the knobs in a text, in their order, each once."""
    return tuple(dict.fromkeys(match["name"] for match in PLACEHOLDER.finditer(text) if match["name"]))


def without_placeholders(text: str) -> str:
    """Return a text in which nothing stands for a knob any more: each placeholder becomes the text that it was."""
    return PLACEHOLDER.sub(lambda match: f"{{{match[0]}}}", text)


def used_knobs(command: CommandConfig) -> set[str]:
    """Return the names of the knobs that a command has a place for."""
    texts = [command.run, command.evaluator or "", *command.env.values()]
    places = [*command.files.values(), *command.constants.values()]
    return {name for text in texts for name in placeholders(text)} | {
        knob for place in places for knob in place.values()
    }


def knob_problems(command: CommandConfig, params: Mapping[str, Any]) -> Iterator[str]:
    """Say where knobs and their places do not fit together."""
    used = used_knobs(command)
    for name, value in params.items():
        if isinstance(value, str) and is_secret(name) and is_secret_value(value):
            yield (
                f"params.{name}: knobs are stored with every run, so none may hold a secret; put it in a variable "
                f"of your environment and name that in the command, ${name.upper()}"
            )
    for name in sorted(used - params.keys() - {SEED}):
        yield (
            f"command: the knob {{{name}}} has no value; write params: {{{name}: …}}, or {{{{{name}}}}} where the text "
            f"{{{name}}} itself is meant"
        )
    for name in sorted(params.keys() - used - {SEED}):
        yield (
            f"params.{name}: the command has no place for it, so it would change nothing; write {{{name}}} in "
            "command.run or command.env, or name it in command.files or command.constants"
        )
