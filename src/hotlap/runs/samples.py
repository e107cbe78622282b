"""What runs generated while they trained, put in order: the same prompts of several runs beside each other.

A run's samples.jsonl holds the answers to the prompts of `samples`, which have a `prompt_index`, and those that metrics
were taken from, which have not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SCHEMA: Final = "hotlap/samples/1"
Line = Mapping[str, Any]
"""A line of samples.jsonl."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run made of a prompt at a step."""

    step: int
    generated: str
    train_seconds: float | None


@dataclass(frozen=True, slots=True)
class PromptAnswers:
    """One prompt and what several runs made of it; each tuple has an item for each run, None where there is nothing."""

    prompt: str
    expected: str
    """What would be right, empty where nobody knows."""
    untrained: tuple[Answer | None, ...]
    """Before the first step."""
    trained: tuple[Answer | None, ...]
    """The last ones, or those of a step that was asked for."""


def by_prompt(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Return a run's lines by their prompts, in the order of the steps: first the prompts of `samples`, then others."""
    found: dict[str, list[Line]] = {}
    for line in sorted(lines, key=_place):
        found.setdefault(str(line.get("prompt", "")), []).append(line)
    return {prompt: sorted(told, key=_step) for prompt, told in found.items()}


def last_samples(lines: Sequence[Line]) -> dict[str, Line]:
    """Return a run's last line of each prompt."""
    return {prompt: told[-1] for prompt, told in by_prompt(lines).items()}


def side_by_side(runs: Sequence[Sequence[Line]], step: int | None = None) -> tuple[PromptAnswers, ...]:
    """Return the prompts of several runs' lines with all their answers.

    With `step`, what is trained is the last answer up to that step: runs are not looked at after the same steps.
    """
    known = [by_prompt(lines) for lines in runs]
    prompts = dict.fromkeys(prompt for told in known for prompt in told)
    found = []
    for prompt in prompts:
        told = [one.get(prompt, []) for one in known]
        expected = next((str(line["expected"]) for lines in told for line in lines if line.get("expected")), "")
        untrained = tuple(_last([line for line in lines if _step(line) == 0]) for lines in told)
        trained = tuple(_last([line for line in lines if _step(line) > 0 and _is_by(line, step)]) for lines in told)
        if any((*untrained, *trained)):
            found.append(PromptAnswers(prompt, expected, untrained, trained))
    return tuple(found)


def _place(line: Line) -> float:
    """Return where a prompt stands: those of metrics come last, in the order in which they were written."""
    return float(line.get("prompt_index", float("inf")))


def _step(line: Line) -> int:
    return int(line.get("step", 0))


def _is_by(line: Line, step: int | None) -> bool:
    return step is None or _step(line) <= step


def _last(lines: Sequence[Line]) -> Answer | None:
    if not lines:
        return None
    line = lines[-1]
    return Answer(_step(line), str(line.get("generated", "")), line.get("train_seconds"))
