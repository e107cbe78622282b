"""Ask a process of the training side for something, and pass on what it says as it comes.

    with closing(answers(command, request, directory, "profiling")) as events:
        for event in events: ...

The request goes to its standard input as JSON; it answers with one JSON object a line, and an object with the event
`error` says what cannot be done. Its exit code tells which of hotlap's errors that is.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hotlap.core.errors import ConfigError, DataError, HotlapError, NotSupportedError, RunFailedError, StorageError
from hotlap.launch.environment import worker_environment
from hotlap.launch.evaluate import what_it_said

_KINDS: Final[tuple[type[HotlapError], ...]] = (ConfigError, DataError, NotSupportedError, StorageError)


def verb_command(module: str, *places: Path) -> list[str]:
    """Return the command of a worker's verb: its module, folders, and the process that it ends with."""
    return [sys.executable, "-P", "-m", module, *(str(place.absolute()) for place in places), str(os.getpid())]


def answers(
    command: Sequence[str], request: Mapping[str, Any], directory: Path, doing: str
) -> Generator[dict[str, Any], None, None]:
    """Yield what a process says that is started in `directory`; closing the iterator ends it.

    `doing` names what it does, for a message. Raises ConfigError, DataError, NotSupportedError or StorageError as the
    process does, RunFailedError when it breaks.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=directory,
                env=worker_environment(os.environ),
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is for the process that shows the answers
            )
        except OSError as error:
            raise RunFailedError(f"cannot start {command[0]}: {error.strerror or error}") from error
        told = ""
        with process:
            try:
                for event in _lines(process, request):
                    if event["event"] == "error":
                        told = event["text"]
                    else:
                        yield event
            finally:
                if process.poll() is None:
                    process.kill()
        if process.returncode:
            raise _failure(process.returncode, told or what_it_said(errors), doing)


def _lines(process: "subprocess.Popen[str]", request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Hand the request over and yield the answers until the process has ended."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):  # it has ended already, and has said why
        process.stdin.write(json.dumps(request))
        process.stdin.close()
    for line in process.stdout:
        yield json.loads(line)
    process.wait()


def _failure(code: int, said: str, doing: str) -> HotlapError:
    """Return the error that a process ended with."""
    for kind in _KINDS:
        if kind.exit_code == code:
            return kind(said)
    return RunFailedError(said or f"{doing} ended with exit code {code}")
