"""What an agent is told, and what it may answer: pure text and values; who asks it is in the study.

prompt = prompt_text(task)
answer = read_answer(text)          # one JSON object, or a few sentences beside an edit
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from pydantic import Field, ValidationError

from hotlap.config.base import Section
from hotlap.config.edits import EditsConfig
from hotlap.config.schema import PROTOCOL_KEYS, RunConfig
from hotlap.core.durations import format_seconds
from hotlap.core.errors import ConfigError
from hotlap.core.records import Decision, History, Proposal
from hotlap.policies.quoting import DATA_NOTICE, quoted
from hotlap.policies.rules import candidate_config
from hotlap.search.noise import estimate, estimate_noise, smallest_visible_effect

MOST_DISCARDS: Final = 30
LONGEST_REASON: Final = 400
LONGEST_LOG: Final = 4000
LONGEST_FILE: Final = 30_000
LONGEST_FILES: Final = 120_000
LONGEST_CONTEXT: Final = 8000
LONGEST_ANSWER: Final = 2**20
_SHOWN_EVALUATIONS: Final = 8
_MOST_BRACES: Final = 1000
_EXAMPLE: Final = {
    "title": "a few words",
    "observation": "what the evidence shows, with its numbers",
    "hypothesis": "why this change makes the run reach its targets sooner",
    "predicted_ratio": 0.9,
}


class Replacement(Section):
    """A passage of a file, and what takes its place."""

    file: str = Field(min_length=1)
    """Path in the project."""
    old: str = ""
    """The passage, which stands in the file once; empty: the file is new."""
    new: str
    """What takes its place."""


class Answer(Section):
    """What an agent answers."""

    title: str = Field("", max_length=300)
    """A few words."""
    observation: str = Field(min_length=1, max_length=4000)
    """What was seen."""
    hypothesis: str = Field(min_length=1, max_length=4000)
    """What the change is expected to do, and why."""
    predicted_ratio: float = Field(0.95, gt=0, le=2)
    """Expected time to target relative to the incumbent's."""
    simplifies: bool = False
    """Whether the change only removes something."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys and their new values."""
    patch: str = Field("", max_length=LONGEST_ANSWER)
    """A unified diff."""
    replace: tuple[Replacement, ...] = ()
    """Passages to replace, in place of a patch."""
    cost: float | None = Field(None, ge=0)
    """US dollars that the answer has cost."""
    prompt_tokens: int | None = Field(None, ge=0)
    """Tokens that were read for it."""
    completion_tokens: int | None = Field(None, ge=0)
    """Tokens that were written for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTask:
    """What a prompt is made of."""

    config: RunConfig
    history: History
    edits: EditsConfig | None
    """What may be changed in the code; None: only settings."""
    log_tail: str = ""
    """The end of what the incumbent's last run printed."""
    context: Mapping[str, str] = field(default_factory=dict)
    """Files that the user wants to be read, by name."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The files that may be changed, for an agent that cannot open them."""
    answer_file: str = ""
    """Where an agent in a worktree leaves its answer; empty: it answers in words."""
    complaint: str = ""
    """What was wrong with the answer before."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables, whose secrets must not be told."""


def prompt_text(task: AgentTask) -> str:
    """Return the prompt: task, rules, figures, ladder, what was tried, evidence, and how to answer."""
    parts = [
        "# Task",
        _task(task),
        "# Rules",
        "\n".join(f"- {rule}" for rule in _rules(task)),
        "# Where the study stands",
        "\n".join(_standing(task)),
        "## Kept so far, oldest first",
        "\n".join(_ladder(task)) or "Nothing yet.",
        "## Tried and not kept",
        "\n".join(_discards(task)) or "Nothing yet.",
        "# Evidence",
        "\n\n".join(_evidence(task)),
        "# Answer",
        _how_to_answer(task),
    ]
    if task.complaint:
        parts += ["# Your last answer could not be used", quoted(task.complaint, LONGEST_REASON, task.environment)]
    return "\n\n".join(parts) + "\n"


def read_answer(text: str, *, has_edit: bool = False) -> Answer:
    """Return the answer in a text: one JSON object, also inside a fence.

    Where an edit was left beside it, a few plain sentences will do as its hypothesis. Raises ConfigError that says what
    is wrong with it.
    """
    found = _object_in(text)
    if found is None:
        if not has_edit:
            raise ConfigError("the answer holds no JSON object; answer with one object and nothing else")
        words = " ".join(text.split())[:2000] or "The agent left no hypothesis."
        return Answer(observation="The agent left its reasons as plain text.", hypothesis=words)
    try:
        return Answer.model_validate(found)
    except ValidationError as error:
        rows = [f"  {'.'.join(map(str, row['loc']))}: {row['msg']}" for row in error.errors()[:10]]
        raise ConfigError("\n".join(["the answer does not fit:", *rows])) from error


def replaced_contents(replacements: Sequence[Replacement], texts: Mapping[str, str | None]) -> dict[str, str]:
    """Return the new contents of files; `texts` are the old ones, None for a file that is not there.

    Raises ConfigError where a passage does not stand in its file exactly once.
    """
    contents: dict[str, str] = {}
    for change in replacements:
        before = contents.get(change.file, texts.get(change.file))
        if not change.old:
            if before is not None:
                raise ConfigError(f"{change.file}: is there already; name the passage to replace in old")
            contents[change.file] = change.new
            continue
        count = (before or "").count(change.old)
        if before is None or count != 1:
            how = "the file is not there" if before is None else f"the passage stands in it {count} times, not once"
            raise ConfigError(f"{change.file}: {how}; old must be copied from the file exactly")
        contents[change.file] = before.replace(change.old, change.new)
    return contents


def _object_in(text: str) -> dict[str, Any] | None:
    """Return the first JSON object in a text, None where there is none."""
    if len(text) > LONGEST_ANSWER:
        raise ConfigError(f"the answer is longer than {LONGEST_ANSWER} characters")
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    for match in islice(re.finditer(r"\{", text), _MOST_BRACES):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and (value.keys() & {"hypothesis", "observation", "patch", "settings", "replace"}):
            return {str(key): _writable(inner) for key, inner in value.items()}
    return None


def _writable(value: Any) -> Any:
    """Return a value of JSON without the halves of signs that no file can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_writable(inner) for inner in value]
    if isinstance(value, dict):
        return {str(_writable(key)): _writable(inner) for key, inner in value.items()}
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _task(task: AgentTask) -> str:
    targets = ", ".join(task.config.targets)
    return (
        f"Make this training reach its targets ({targets}) in less time (clock: {task.history.clock}). hotlap runs "
        "your change on a quiet machine, times it, compares it with the best one so far, runs it again with another "
        "seed if it looks faster, and keeps it only if it is. Propose one change, with one reason."
    )


def _rules(task: AgentTask) -> Iterator[str]:
    edits = task.edits
    if edits is None:
        yield "You may change settings only; a patch is refused."
    else:
        files = ", ".join(edits.files) if edits.files else "all files that are not protected"
        yield f"You may change these files and no others: {files}."
        yield f"These stay as they are; a change that touches one is refused: {', '.join(edits.protect)}."
    yield (
        "One idea a proposal, as small as it can be. What only works for one seed, or prints better figures than the "
        "model has, will be found out."
    )
    yield (
        "Targets, clock, evaluation, data, budget, seeds and the judge cannot be changed; a proposal that names one of "
        f"these settings is refused: {', '.join(PROTOCOL_KEYS)}."
    )
    yield "Do not run the training yourself, and start nothing that goes on after you."
    yield "Do not propose again what was tried below, unless its reason does not hold any more."


def _standing(task: AgentTask) -> Iterator[str]:
    history, noise = task.history, estimate_noise(task.history)
    base, best = estimate(history, 0), estimate(history, history.incumbent)
    yield f"- baseline: {format_seconds(base.median_seconds)} to target, {base.reached} of {base.runs} runs reached it"
    if history.incumbent:
        yield f"- incumbent, #{history.incumbent}: {format_seconds(best.median_seconds)}; your change starts from it"
    else:
        yield "- incumbent: the baseline; your change starts from it"
    yield f"- noise: sigma {noise.sigma:.1%} of the time; smallest visible effect {smallest_visible_effect(noise):.1%}"
    if task.config.command is None:
        values = candidate_config(history, history.incumbent).model_dump(mode="json")
        text = json.dumps({name: values[name] for name in ("model", "training")}, indent=1)
        yield quoted(text, LONGEST_CONTEXT, task.environment, "Its settings (model.NAME, training.NAME)")
    else:
        yield f"- command: {quoted(task.config.command.run, LONGEST_REASON, task.environment)}"
        values = candidate_config(history, history.incumbent).params
        knobs = ", ".join(f"params.{name} = {json.dumps(value)}" for name, value in values.items())
        yield f"- settings that may be changed, as they are now: {knobs or 'none'}"


def _ladder(task: AgentTask) -> Iterator[str]:
    for proposal in task.history.changes_of(task.history.incumbent):
        line = _proposal_line(proposal, task.history.verdict(proposal.number))
        yield quoted(line, LONGEST_REASON, task.environment)


def _discards(task: AgentTask) -> Iterator[str]:
    kept = {proposal.number for proposal in task.history.changes_of(task.history.incumbent)}
    tried = [p for p in task.history.proposals if p.number not in kept and task.history.verdict(p.number)]
    if len(tried) > MOST_DISCARDS:
        yield f"({len(tried) - MOST_DISCARDS} older ones left out)"
    if tried:
        yield DATA_NOTICE
    for proposal in tried[-MOST_DISCARDS:]:
        line = _proposal_line(proposal, task.history.verdict(proposal.number))
        yield quoted(line, LONGEST_REASON, task.environment)


def _proposal_line(proposal: Proposal, decision: Decision | None) -> str:
    settings = ", ".join(f"{key}={json.dumps(value)}" for key, value in proposal.patch.items())
    changed = "; ".join(filter(None, (settings, "code" if proposal.code else "")))
    reason = f": {decision.verdict}, {decision.reason}" if decision else ""
    return f"#{proposal.number} {proposal.title} ({changed}) by {proposal.proposer}{reason}"


def _evidence(task: AgentTask) -> Iterator[str]:
    yield DATA_NOTICE
    runs = [run for run in task.history.runs_of(task.history.incumbent) if run.outcome == "reached"]
    runs = runs or list(task.history.runs_of(task.history.incumbent))
    if runs:
        run = runs[-1]
        facts = {
            "run": run.run_id,
            "outcome": run.outcome,
            "steps": run.steps,
            "seconds_per_step": run.seconds_per_step if run.steps else None,
            "seconds": dict(run.seconds),
            "metrics": dict(run.metrics),
            "evaluations": [dict(point) for point in run.evaluations[-_SHOWN_EVALUATIONS:]],
        }
        text = json.dumps(facts, indent=1, default=str)
        yield quoted(text, LONGEST_LOG, task.environment, "The incumbent's last run")
    if task.log_tail:
        yield quoted(task.log_tail, LONGEST_LOG, task.environment, "The end of its log")
    for name, text in task.context.items():
        yield quoted(text, LONGEST_CONTEXT, task.environment, f"The file {name}")
    left = LONGEST_FILES
    for name, text in task.files.items():
        shown = quoted(text, min(LONGEST_FILE, left), task.environment, f"The file {name}, which may be changed")
        left -= min(len(text), LONGEST_FILE)
        yield shown
        if left <= 0:
            yield "(further files are left out)"
            return


def _how_to_answer(task: AgentTask) -> str:
    example = json.dumps(_EXAMPLE, indent=2)
    settings = 'for settings add "settings": {"params.NAME": VALUE}'
    if task.answer_file:
        edit = "Edit the files in this folder as your change wants them" if task.edits else "Change no file"
        return f"{edit}; then write one JSON object to {task.answer_file} ({settings}):\n\n{example}"
    change = (
        'for code add "replace": [{"file": "train.py", "old": "a passage that stands there once", "new": "its '
        'replacement"}] or "patch": "a unified diff"; '
        if task.edits
        else ""
    )
    return f"Answer with one JSON object and nothing else ({change}{settings}):\n\n{example}"
