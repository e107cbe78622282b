"""Carry kept values of knobs into the user's own files: YAML, JSON, TOML and scripts, with their comments.

knobs = plan_knobs(config.command, {"params.lr": 3e-3}, project, base.params)     # nothing is written
knobs.write()

Knobs on the command line and in variables are in the config file alone, which is written beside these.
"""

import difflib
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotlap.config.command import CommandConfig
from hotlap.config.set_in_yaml import value_text
from hotlap.core.files import write_atomic
from hotlap.knobs.edits import edited, read_text, values_at


@dataclass(frozen=True, slots=True, kw_only=True)
class KnobFile:
    """What is set in one file of the user's."""

    path: Path
    name: str
    """The path as the config has it."""
    values: Mapping[str, Any]
    """New values by keys of the file, or names of constants."""
    is_code: bool

    @property
    def after(self) -> str:
        """The text of the file as it is now, with the values in it; raises ConfigError where they do not fit."""
        return edited(self.path, self.values, is_code=self.is_code)


@dataclass(frozen=True, slots=True)
class KnobApplication:
    """What becomes of the user's files that knobs are in."""

    files: tuple[KnobFile, ...]
    """Those that have not got the values yet."""
    notes: tuple[str, ...]

    @property
    def patch(self) -> str:
        """The unified diff of the files; empty where they have everything already."""
        return "".join(_diff(file) for file in self.files)

    def write(self) -> None:
        """Write the values into the files as they are by then.

        Raises ConfigError where they do not fit any more, StorageError where a file cannot be written.
        """
        for file in self.files:
            target = file.path.resolve()  # a link stays one
            mode = target.stat().st_mode
            write_atomic(target, file.after)
            target.chmod(stat.S_IMODE(mode))


def plan_knobs(
    command: CommandConfig | None, patch: Mapping[str, Any], directory: Path, base: Mapping[str, Any]
) -> KnobApplication:
    """Return what dotted changes of params make of the user's files; `base` are the values that the study began with.

    Raises ConfigError for a file that cannot be read or has not the key.
    """
    wanted = {key.removeprefix("params."): value for key, value in patch.items() if key.startswith("params.")}
    found = list(_files(command, wanted, directory)) if command is not None else []
    notes = [note for file, knobs in found for note in _notes(file, knobs, base)]
    return KnobApplication(tuple(file for file, _ in found if file.after != read_text(file.path)), tuple(notes))


def _files(
    command: CommandConfig, wanted: Mapping[str, Any], directory: Path
) -> Iterator[tuple[KnobFile, Mapping[str, str]]]:
    for places, is_code in ((command.files, False), (command.constants, True)):
        for name, keys in places.items():
            values = {key: wanted[knob] for key, knob in keys.items() if knob in wanted}
            if values:
                path = directory / Path(name).expanduser()
                yield KnobFile(path=path, name=name, values=values, is_code=is_code), keys


def _notes(file: KnobFile, knobs: Mapping[str, str], base: Mapping[str, Any]) -> Iterator[str]:
    """Say where a file has another value than the study began with."""
    now = values_at(file.path, list(file.values), is_code=file.is_code)
    for key, value in now.items():
        began = base.get(knobs[key])
        if value not in (began, file.values[key]):
            yield f"{file.name}: {key} is {value_text(value)}, but the study began with {value_text(began)}"


def _diff(file: KnobFile) -> str:
    before, after = read_text(file.path).splitlines(keepends=True), file.after.splitlines(keepends=True)
    lines = difflib.unified_diff(before, after, file.name, file.name)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
