"""What a `docker run` in a command needs, so that the run reaches into the container.

It is given a folder to report metrics in, the run's variables, and a file for its id, by which it is stopped; `-it`
goes where there is no terminal.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from hotlap.core.errors import ConfigError
from hotlap.core.run_folder import RunFolder
from hotlap.knobs.containers import Container, containers_of
from hotlap.knobs.shell_words import Word, replaced, simple_commands

INSIDE: Final = "/hotlap"
"""Where a container finds the folder that it shares with its run."""

_SWITCHES: Final = frozenset(
    (
        *("-d", "-i", "-t", "-q", "-P", "--detach", "--interactive", "--tty", "--quiet", "--rm", "--init"),
        *("--privileged", "--read-only", "--publish-all", "--no-healthcheck", "--oom-kill-disable", "--sig-proxy"),
        *("--disable-content-trust", "--use-api-socket"),
    )
)
"""Options of `docker run` that take no value from the next word."""


def for_containers(
    shell: str, folder: RunFolder, directory: Path, variables: Mapping[str, str], *, has_terminal: bool
) -> str:
    """Return a command with what its `docker run` needs; other commands stay as they are.

    `variables` are the run's own: those that name files of the shared folder get their path inside the container.
    Raises ConfigError for `docker run -d`, which does not wait for its container.
    """
    changes: dict[Word, str] = {}
    for words in simple_commands(shell):
        container = containers_of(words, directory)
        if container is None or any(word.value == "compose" for word in words if word.start < container.run.start):
            continue  # `docker compose run` has no --cidfile, and ends its containers itself
        folder.containers_path.mkdir(exist_ok=True)
        options = list(_options(container))
        for word in options:
            changes |= _without_input(word, has_terminal=has_terminal)
        has_file = any(word.value.split("=")[0] == "--cidfile" for word in options)
        changes[container.run] = shlex.join(["run"]) + "".join(_added(folder, variables, has_file=has_file))
    return replaced(shell, changes)


def _added(folder: RunFolder, variables: Mapping[str, str], *, has_file: bool) -> Iterator[str]:
    if not has_file:  # the command may start several containers, one after the other
        template = shlex.quote(str(folder.containers_path.absolute() / "XXXXXXXXXX"))
        yield f' --cidfile "$(mktemp -u {template})"'
    shared = str(folder.shared_path.absolute())
    yield f" -v {shlex.quote(f'{shared}:{INSIDE}')}"
    for name, value in variables.items():
        is_shared = value == shared or value.startswith(f"{shared}/")
        yield f" -e {shlex.quote(f'{name}={INSIDE}{value.removeprefix(shared)}') if is_shared else name}"


def _options(container: Container) -> Iterator[Word]:
    """Yield the options of a `docker run`: what stands before the image."""
    words = _after_run(container)
    is_value = False
    for word in words:
        if is_value:
            is_value = False
            continue
        if not word.value.startswith("-"):
            return
        yield word
        is_cluster = not word.value.startswith("--") and set(word.value[1:]) <= set("ditqP")
        is_value = not (is_cluster or word.value in _SWITCHES or "=" in word.value)


def _after_run(container: Container) -> Sequence[Word]:
    mounts = [word for _, _, word in container.mounts]
    return sorted({*container.words, *mounts}, key=lambda word: word.start)


def _without_input(word: Word, *, has_terminal: bool) -> dict[Word, str]:
    """Return what becomes of an option that asks for a terminal: nobody types, so `-i` goes in any case."""
    text = word.value
    if text in ("--detach", "--detach=true"):
        letters = "d"
    elif text in ("--interactive", "--interactive=true"):
        letters = "i"
    elif text in ("--tty", "--tty=true"):
        letters = "t"
    elif not text.startswith("--") and set(text[1:]) <= set("ditqP"):
        letters = text[1:]
    else:
        return {}
    if "d" in letters:
        raise ConfigError(f"command: docker run {text} does not wait for its container; take the d out")
    kept = letters.replace("i", "")
    if not has_terminal:
        kept = kept.replace("t", "")
    return {} if kept == letters else {word: f"-{kept}" if kept else ""}
