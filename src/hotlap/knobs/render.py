"""What a command looks like with the values of its knobs, and the edited copies of the files that it reads.

rendered = render(config.command, config.params, project, scratch)
subprocess.Popen(rendered.shell, shell=True, env={**os.environ, **rendered.env})

The user's files are read and never written. Where the command names a file that has knobs in it (as a word, behind `=`,
or in a variable), it is given the copy; in a container the copy is mounted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hotlap.config.command import CommandConfig, KnobValue
from hotlap.core.errors import ConfigError, StorageError
from hotlap.knobs.copies import Copy, with_copies, write_copies
from hotlap.knobs.edits import edited
from hotlap.knobs.placeholders import filled, filled_plain, quoted
from hotlap.knobs.shell_words import replaced, words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What is started, and what was written for it."""

    shell: str
    """The command, for a shell."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of the environment; a container needs them, too."""
    files: Mapping[Path, Path] = field(default_factory=dict)
    """The edited copy of each file that has knobs in it."""


def render(command: CommandConfig, params: Mapping[str, KnobValue], directory: Path, scratch: Path) -> Rendered:
    """Fill the knobs in; `directory` is the project, `scratch` a folder for copies, which is made where it is missing.

    Raises ConfigError where a file that has knobs in it cannot be read, has not the keys, or is not named by the
    command; StorageError where a copy cannot be written.
    """
    directory, scratch = directory.absolute(), scratch.absolute()
    env = {name: filled_plain(text, params) for name, text in command.env.items()}
    shell = _with_variables(filled(command.run, params), env)
    copies = [
        *(_copy(path, keys, params, directory, is_code=False) for path, keys in command.files.items()),
        *(_copy(path, keys, params, directory, is_code=True) for path, keys in command.constants.items()),
    ]
    try:
        written = write_copies(copies, directory, scratch)
    except OSError as error:
        raise StorageError(f"cannot write the copies of your files in {scratch}: {error.strerror or error}") from error
    shell, env = with_copies(shell, env, written, directory)
    return Rendered(shell=shell, env=env, files={copy.original: copy.path for copy in written})


def _copy(
    path: str, keys: Mapping[str, str], params: Mapping[str, KnobValue], directory: Path, *, is_code: bool
) -> Copy:
    original = directory / Path(path).expanduser()
    missing = [knob for knob in keys.values() if knob not in params]
    if missing:
        raise ConfigError(f"{path}: the knob {missing[0]} has no value; write params: {{{missing[0]}: …}}")
    text = edited(original, {key: params[knob] for key, knob in keys.items()}, is_code=is_code)
    return Copy(original=original, text=text, is_code=is_code, name=path)


def _with_variables(shell: str, env: Mapping[str, str]) -> str:
    """Return a command whose own `NAME=value` words have the values of the variables, which they would hide."""
    changes = {}
    for word in words_of(shell):
        name, is_assignment, _ = word.value.partition("=")
        if is_assignment and name in env:
            changes[word] = f"{name}={quoted(env[name])}"
    return replaced(shell, changes)
