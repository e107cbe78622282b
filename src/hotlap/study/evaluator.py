"""Ask a project's own evaluator what a run has really reached: the run's figures are what the run says of itself.

    verdict = evaluate_by_command(folder, config, directory, is_stopped)

The command `command.evaluator` is started where the run was, after it has ended. What it prints is read as the lines
of a run are; a target counts only if it holds by these figures, too.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from hotlap.capture.capture import Capture
from hotlap.capture.lines import LineReader
from hotlap.config.command import SEED, CommandConfig
from hotlap.config.in_worktree import in_worktree
from hotlap.config.schema import RunConfig
from hotlap.core.containers import stop_containers
from hotlap.core.masking import with_secrets
from hotlap.core.redact import redacted
from hotlap.core.run_folder import RUN_VARIABLE, RunFolder
from hotlap.core.targets import Target
from hotlap.knobs.docker_run import for_containers
from hotlap.knobs.render import render
from hotlap.launch.environment import worker_environment
from hotlap.launch.evaluate import evaluation_mark
from hotlap.study.shell import run_shell

SLACK: Final = 0.01
"""Share of a target's value by which an evaluation may miss it: two evaluations of the same weights differ a little."""
LEAST_LIMIT_SECONDS: Final = 600.0
LARGEST_OUTPUT: Final = 2**22
_COPIED: Final = ("files", "constants")
_SHOWN_LINES: Final = 8
_SHOWN_CHARACTERS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What an evaluator says of a run."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    was_stopped: bool = False
    """Whether the user broke it off: it says nothing then."""


def evaluate_by_command(
    folder: RunFolder,
    config: RunConfig,
    directory: Path,
    claimed: Mapping[str, float],
    is_stopped: Callable[[], bool] = lambda: False,
    project: Path | None = None,
) -> Verification:
    """Return what the config's evaluator says of a run that has ended in `directory`, and what it `claimed`.

    `project` is the user's own project where `directory` is a worktree of it. Raises ConfigError where the command
    cannot be made.
    """
    assert config.command is not None and config.command.evaluator is not None, "somebody checked that there is one"
    command = config.command if project is None else in_worktree(config.command, project, directory)[0]
    text = command.evaluator or ""
    # The evaluator is given copies of those files alone that it names.
    files = {name: {path: keys for path, keys in getattr(command, name).items() if path in text} for name in _COPIED}
    command = command.model_copy(update={"run": text, **files})
    scratch = Path(tempfile.mkdtemp(prefix="evaluator-", dir=folder.path))
    try:
        shell, environment = _started(command, folder, directory, scratch, config.params)
        limit = max(LEAST_LIMIT_SECONDS, config.budget.run)
        with tempfile.TemporaryFile() as output:
            stop = "stopped by the user"
            code, why = run_shell(shell, directory, environment, output, limit, lambda: stop if is_stopped() else "")
            text = _said(output)
    finally:
        stop_containers(folder.containers_path)
        shutil.rmtree(scratch, ignore_errors=True)
    if is_stopped():
        return Verification(was_stopped=True)
    shown = redacted("\n".join(text.splitlines()[-_SHOWN_LINES:]), os.environ)[-_SHOWN_CHARACTERS:]
    if code is None:
        return Verification(problems=(f"the evaluator could not say what it has reached: {why}",))
    if code:
        return Verification(problems=(f"the evaluator ended with exit code {code}: {shown}",))
    metrics = metrics_of(text, config.command.model_dump(mode="json"), directory)
    problems = tuple(verification_problems(config.parsed_targets(), metrics, claimed))
    return Verification(metrics=metrics, problems=problems)


def _started(
    command: CommandConfig, folder: RunFolder, directory: Path, scratch: Path, params: Mapping[str, Any]
) -> tuple[str, dict[str, str]]:
    """Return what a shell is given for an evaluator, and its environment: both reach into containers as a run's do."""
    seed = int((folder.read("command") or {}).get("seed") or params.get(SEED) or 0)
    rendered = render(command, {**params, SEED: seed}, directory, scratch)
    own = {
        **{name: with_secrets(text, os.environ) for name, text in rendered.env.items()},
        RUN_VARIABLE: evaluation_mark(folder),
        "HOTLAP_RUN_DIR": str(folder.shared_path.absolute()),
        # Compiled files that the run has left stay unread: they need not be what their source says.
        "PYTHONPYCACHEPREFIX": str(scratch / "compiled"),
    }
    shell = for_containers(rendered.shell, folder, directory, own, has_terminal=False)
    return shell, {**worker_environment(os.environ, is_foreign=True), **own}


def metrics_of(text: str, settings: Mapping[str, Any], directory: Path) -> dict[str, float]:
    """Return the last value of every metric in what an evaluator printed."""
    capture = Capture({**settings, "read": ()}, directory)
    found: dict[str, float] = {}
    readings = [*capture.feed_all(text.splitlines(), 0.0), *capture.end(0.0)]  # a block ends with its last line
    for reading in readings:
        found.update(reading.metrics)
    return found


def verification_problems(
    targets: tuple[Target, ...], metrics: Mapping[str, float], claimed: Mapping[str, float]
) -> Iterator[str]:
    """Say which targets do not hold by the evaluator's figures."""
    for target in targets:
        value = metrics.get(target.metric)
        if value is None:
            told = ", ".join(sorted(metrics)) or "no metric at all"
            yield f"the evaluator does not say what {target.metric} is; it printed {told}"
        elif not _holds(target, value):
            said = f", the run itself printed {claimed[target.metric]:g}" if target.metric in claimed else ""
            yield f"by the evaluator {target.metric} is {value:g}{said}: {target} does not hold"


def _holds(target: Target, value: float) -> bool:
    slack = SLACK * abs(target.value)
    return target.holds({target.metric: value - slack}) or target.holds({target.metric: value + slack})


def _said(output: IO[bytes]) -> str:
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - LARGEST_OUTPUT))
    reader = LineReader()
    lines = [*reader.feed(output.read()), *reader.end()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
