"""An agent as a source of proposals: asked in a worktree or behind an endpoint, within hard limits on calls and cost.

    source = AgentSource(study, say)
    source.propose(study.history)       # a proposal; None once a limit is used up, or nothing usable comes any more

A call is written into the ledger before it is made and after it, so that a killed driver cannot lose count of it. What
was asked and answered lies in `.hotlap/studies/NAME/agent/0001/`, without secrets.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

from hotlap.config.edits import AgentConfig
from hotlap.core.errors import ConfigError, StudyError
from hotlap.core.files import write_atomic
from hotlap.core.records import History, Proposal
from hotlap.core.redact import secret_values
from hotlap.core.run_folder import RunFolder
from hotlap.policies.agent import AgentTask, Answer, prompt_text, read_answer, replaced_contents
from hotlap.policies.endpoint import EndpointError, ask_endpoint, largest_cost
from hotlap.policies.quoting import shown
from hotlap.report.journal import JOURNAL_NAME, MARKER
from hotlap.study.agent_call import run_agent
from hotlap.study.code import StudyCode, agent_prefix
from hotlap.study.code_store import NOTES_FOLDER, GitError
from hotlap.study.proposing import Draft, make_proposal_of
from hotlap.study.study import Study

PROPOSER: Final = "agent"
MOST_FAILURES: Final = 3
"""Calls in a row without anything usable after which the agent is asked no more in this sitting."""
_LOG_LINES: Final = 60
_LARGEST_ANSWER: Final = 2**20
_LARGEST_FILE: Final = 2**18


@final
class AgentSource:
    """Asks the agent of a study's config."""

    def __init__(self, study: Study, say: Callable[[str], object]) -> None:
        self._study = study
        self._say = say
        self._failures = 0

    def propose(self, history: History) -> Proposal | None:
        """Return the agent's next proposal, None when it has none or may not be asked any more."""
        agent, complaint = self._study.config.agent, ""
        while agent is not None and self._failures < MOST_FAILURES:
            task = replace(self._task(history), complaint=complaint)
            if limit := self._limit(agent, prompt_text(task)):
                self._say(f"the agent is not asked: {limit}")
                return None
            proposal, complaint = self._ask(agent, history, task)
            if proposal is not None:
                self._failures = 0
                return proposal
            self._failures += 1
            self._say(f"the agent gave nothing usable: {complaint}")
        return None

    def _ask(self, agent: AgentConfig, history: History, task: AgentTask) -> tuple[Proposal | None, str]:
        """Make one call; return the proposal, or None and what was wrong."""
        number = used_calls(self._study) + 1
        bound = _bound(agent, prompt_text(task))
        place = self._study.folder.agent_path / f"{number:04}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self._study.note_agent({"call": number, "phase": "started", "cost": bound})
        self._say(f"asking the agent (call {number} of {agent.calls})")
        facts: dict[str, Any] = {"call": number, "phase": "ended", "cost": bound, "problem": ""}
        proposal, began = None, time.monotonic()
        try:
            answer, patch = self._answer(agent, history, task, place, facts)
            if any(secret in patch for secret in secret_values(self._environment)):
                raise _UnusableError("the change holds the value of a secret variable")
            draft = _draft(answer, patch, self._environment)
            proposal = make_proposal_of(self._study.code, history, draft, PROPOSER)
            facts["proposal"] = proposal.number
        except (ConfigError, EndpointError, GitError, _UnusableError) as error:
            facts["problem"] = shown(str(error), self._environment)
        self._study.note_agent({**facts, "seconds": round(time.monotonic() - began, 3)})
        return proposal, facts["problem"]

    def _answer(
        self, agent: AgentConfig, history: History, task: AgentTask, place: Path, facts: dict[str, Any]
    ) -> tuple[Answer, str]:
        """Return the agent's answer and the patch of its edit; what it took is noted in `facts` once it is known."""
        if agent.command is not None:
            answer, patch = self._answer_of_command(agent, history, task, place)
            facts.update(_told(answer.cost, answer.prompt_tokens, answer.completion_tokens))
            return answer, patch
        prompt = prompt_text(task)
        write_atomic(place / "prompt.md", prompt)
        reply = ask_endpoint(agent, prompt, os.environ.get(agent.api_key_env, ""), agent.timeout)
        facts.update(_told(reply.cost, reply.prompt_tokens, reply.completion_tokens))
        write_atomic(place / "answer.txt", shown(reply.text, self._environment))
        if not reply.text.strip():
            raise _UnusableError(f"{agent.base_url} gave no usable reply: it has no choices[0].message.content")
        answer = read_answer(reply.text)
        return answer, self._patch_of(answer, history)

    def _answer_of_command(
        self, agent: AgentConfig, history: History, task: AgentTask, place: Path
    ) -> tuple[Answer, str]:
        code, log = self._study.code, place / "output.log"
        with ExitStack() as held:
            directory = place
            if code is not None:
                name = f"{agent_prefix(self._study.folder.name)}{place.name}"
                workspace = held.enter_context(code.workspace(history, history.incumbent, name))
                directory = workspace.directory
            notes = directory / NOTES_FOLDER
            notes.mkdir(exist_ok=True)
            files = notes / "prompt.md", notes / "answer.json"
            prompt = prompt_text(replace(task, answer_file=f"{NOTES_FOLDER}/{files[1].name}"))
            write_atomic(files[0], prompt)
            write_atomic(place / "prompt.md", prompt)
            end = run_agent(self._study.project, str(agent.command), directory, files, log, agent.timeout)
            write_atomic(log, shown(_end_of(log), self._environment))
            text = _text_of(files[1])
            write_atomic(place / "answer.txt", shown(text, self._environment))
            if end.problem:
                raise _UnusableError(end.problem)
            patch = ""
            if code is not None:
                patch = code.store.diff(workspace.tree, workspace.edit(code.store))
        answer = read_answer(text or _last_words(log), has_edit=bool(patch))
        return answer, patch or self._patch_of(answer, history)

    def _patch_of(self, answer: Answer, history: History) -> str:
        """Return the patch of an answer in words."""
        if not answer.replace:
            return answer.patch
        code = self._study.code
        if code is None:
            raise ConfigError("the answer changes code, and only settings may be changed")
        tree, prefix = code.tree_of(history, history.incumbent), code.snapshot.prefix
        names = {change.file for change in answer.replace}
        if strange := sorted(name for name in names if name.startswith("/") or ".." in name.split("/") or "\0" in name):
            raise ConfigError(f"{', '.join(strange)}: not a path in the project")
        texts = {name: code.store.text_of(tree, f"{prefix}{name}") for name in names}
        contents = replaced_contents(answer.replace, texts)
        after = code.store.replaced(tree, {f"{prefix}{name}": text for name, text in contents.items()})
        return code.store.diff(tree, after)

    def _task(self, history: History) -> AgentTask:
        study, code = self._study, self._study.code
        is_endpoint = study.config.agent is not None and study.config.agent.base_url is not None
        return AgentTask(
            config=study.config,
            history=history,
            edits=code.edits if code is not None else None,
            log_tail=_log_tail(study, history),
            context=_context(study),
            files=_editable_files(code, history) if code is not None and is_endpoint else {},
            environment=self._environment,
        )

    @property
    def _environment(self) -> Mapping[str, str]:
        """The variables whose secrets are not told: the endpoint's key is one, whatever its variable is called."""
        agent = self._study.config.agent
        return {**os.environ, "AGENT_KEY": os.environ.get(agent.api_key_env, "") if agent is not None else ""}

    def _limit(self, agent: AgentConfig, prompt: str) -> str:
        """Say which limit keeps a call from being made; empty when none does."""
        calls, spent = used_calls(self._study), used_cost(self._study)
        if calls >= agent.calls:
            return f"all {agent.calls} calls of agent.calls are used"
        if agent.cost is not None and spent + (bound := _bound(agent, prompt) or 0.0) > agent.cost:
            left_over = max(0.0, agent.cost - spent)
            return f"a call may cost ${bound:.4f}, and of agent.cost (${agent.cost:g}) ${left_over:.4f} are left"
        left = self._study.settings.total_seconds - self._study.history.seconds_spent
        return (
            ""
            if left > agent.timeout
            else f"a call may take {agent.timeout:.0f} s, and the budget has {left:.0f} s left"
        )


class _UnusableError(StudyError):
    """A call that came to nothing."""


def used_calls(study: Study) -> int:
    """Return how many calls a study has made, over all its sittings."""
    return len(study.history.calls)


def used_cost(study: Study) -> float:
    """Return the US dollars that a study's calls have cost; one that was broken off counts with what it might have."""
    return sum(call.cost or 0.0 for call in study.history.calls)


def _bound(agent: AgentConfig, prompt: str) -> float | None:
    """Return the US dollars that a call can cost at most, None where no price is known."""
    return agent.cost_per_call if agent.command is not None else largest_cost(agent, prompt)


def _told(cost: float | None, read: int | None, written: int | None) -> dict[str, Any]:
    """Return what a call took, as far as somebody told."""
    known = {} if cost is None else {"cost": cost, "is_cost_known": True}
    return {**known, "prompt_tokens": read, "completion_tokens": written}


def _draft(answer: Answer, patch: str, environment: Mapping[str, str]) -> Draft:
    return Draft(
        title=shown(answer.title, environment),
        observation=shown(answer.observation, environment),
        hypothesis=shown(answer.hypothesis, environment),
        settings=answer.settings,
        patch=patch,
        predicted_ratio=answer.predicted_ratio,
        simplifies=answer.simplifies,
    )


def _log_tail(study: Study, history: History) -> str:
    runs = history.runs_of(history.incumbent) or history.runs
    return RunFolder(study.project.runs_path / runs[-1].run_id).log_tail(_LOG_LINES) if runs else ""


def _context(study: Study) -> dict[str, str]:
    """Return what the user wants to be read: a SPEEDRUN.md of one's own, and the files of agent.context."""
    project, agent = study.project.project, study.config.agent
    found: dict[str, str] = {}
    for name in (JOURNAL_NAME, *(agent.context if agent is not None else ())):
        path = project / name
        text = _text_of(path) if path.is_file() else ""
        if text and not text.startswith(MARKER):
            found[name] = text
    return found


def _editable_files(code: StudyCode, history: History) -> dict[str, str]:
    """Return the files that may be changed, as the incumbent has them."""
    tree, prefix = code.tree_of(history, history.incumbent), code.snapshot.prefix
    names = [name.removeprefix(prefix) for name in code.store.modes(tree) if name.startswith(prefix)]
    texts = {name: code.store.text_of(tree, f"{prefix}{name}") or "" for name in names if code.edits.is_editable(name)}
    return {name: text for name, text in texts.items() if len(text) <= _LARGEST_FILE and "\0" not in text}


def _text_of(path: Path) -> str:
    """Return the beginning of a text file, empty where there is none; a link is not followed out of its folder."""
    if path.is_symlink() or not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(_LARGEST_ANSWER).decode("utf-8", "replace")


def _end_of(log: Path) -> str:
    """Return the end of what an agent printed, from a line's beginning: half of a secret would not be known for one."""
    with log.open("rb") as file:
        left_out = max(0, file.seek(0, os.SEEK_END) - _LARGEST_ANSWER)
        file.seek(left_out)
        text = file.read().decode("utf-8", "replace")
    return text if not left_out else f"[… {left_out} bytes left out …]\n{text.partition(chr(10))[2]}"


def _last_words(log: Path) -> str:
    return "\n".join(_text_of(log).splitlines()[-20:])
