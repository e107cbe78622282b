"""Start a command-line agent in a folder, follow it to its end or its time limit, and leave nothing of it running."""

import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotlap.core.run_folder import RUN_VARIABLE, RunFolder
from hotlap.core.study_folder import ProjectFolder
from hotlap.launch.evaluate import evaluation_mark
from hotlap.study.shell import run_shell

PROMPT_FILE: Final = "HOTLAP_PROMPT_FILE"
ANSWER_FILE: Final = "HOTLAP_ANSWER_FILE"
LARGEST_LOG: Final = 2**26
"""Bytes of an agent's output after which it is ended: it would fill the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEnd:
    """How an agent ended."""

    exit_code: int | None
    """None where it had to be stopped."""
    seconds: float
    problem: str = ""
    """Why what it left cannot be used; empty when it can."""


def run_agent(
    project: ProjectFolder, command: str, directory: Path, files: tuple[Path, Path], log: Path, timeout_seconds: float
) -> AgentEnd:
    """Run an agent's command in a folder; `files` are its prompt and where it answers, `log` takes what it prints.

    Its children end with it, whatever session they made for themselves. Raises StudyError when it cannot be started.
    """
    prompt, answer = (str(path) for path in files)
    shell = command.replace("{prompt_file}", shlex.quote(prompt)).replace("{answer_file}", shlex.quote(answer))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    mark = evaluation_mark(RunFolder(project.runs_path / "agent"))  # a killed driver's agent is found by it, and ended
    environment |= {PROMPT_FILE: prompt, ANSWER_FILE: answer, RUN_VARIABLE: mark}
    # The user's repository lies around the worktree: git must not take it for the agent's where that has lost its own.
    environment["GIT_CEILING_DIRECTORIES"] = str(project.path.resolve())
    started = time.monotonic()

    def why_stop() -> str:
        too_much = log.stat().st_size > LARGEST_LOG
        return f"it printed more than {LARGEST_LOG} bytes and was stopped" if too_much else ""

    with log.open("wb") as output:
        code, why = run_shell(shell, directory, environment, output, timeout_seconds, why_stop)
    problem = why or (f"it ended with exit code {code}" if code else "")
    return AgentEnd(exit_code=code, seconds=time.monotonic() - started, problem=problem)
