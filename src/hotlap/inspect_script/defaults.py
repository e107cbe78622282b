"""What a command takes where it says nothing: files of settings, and values, that options and variables stand for."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hotlap.config.knob_ranges import role_of
from hotlap.core.secret_names import is_secret
from hotlap.inspect_script.definitions import variables_in
from hotlap.inspect_script.sources import Sources, readable
from hotlap.inspect_script.syntax import Option
from hotlap.knobs import python_text, shell_text
from hotlap.knobs.edits import SETTINGS_FILES
from hotlap.knobs.shell_words import as_path

SETTINGS_MODULES: Final = re.compile(r"config|setting|hparam|hyper|params|const", re.IGNORECASE)
"""Names of modules that hold settings."""


def variables_of(sources: Sources) -> dict[str, Any]:
    """Return the variables that the script and its modules of settings read, but for those that the command sets."""
    if sources.is_container:
        return {}
    modules = [path for path in sources.modules if SETTINGS_MODULES.search(path.stem)]
    found: dict[str, Any] = {}
    for path in [*([sources.script] if sources.script else []), *modules]:
        found |= variables_in(readable(path))
    given = {word.value.partition("=")[0] for word in sources.assignments}
    return {name: _present(name, value) for name, value in found.items() if name not in given and not is_secret(name)}


def _present(name: str, default: Any) -> Any:
    """Return what a variable is: as it is set outside, where its name says what it does, else its default."""
    outside = os.environ.get(name)
    return shell_text.read_value(outside) if outside and role_of(name) else default


def add_files_of_variables(sources: Sources, variables: dict[str, Any]) -> dict[str, str]:
    """Take in files of settings that variables name, by their default or from outside; return these variables."""
    env: dict[str, str] = {}
    for name, default in list(variables.items()):
        text = os.environ.get(name, default)
        path = as_path(text, sources.folder) if isinstance(text, str) and text.endswith(SETTINGS_FILES) else None
        if path is not None and path.is_file():
            env[name] = str(text)
            del variables[name]
            if path not in sources.settings:
                sources.settings.append(path)
    return env


def take_over_config_scripts(sources: Sources, known: dict[str, Option]) -> None:
    """Take the values of nanoGPT's config files for defaults: in `train.py config/small.py` they come before flags."""
    for word in sources.own_words:
        path = as_path(word.value, sources.folder)
        if path is None or path.suffix != ".py" or path == sources.script or not path.is_file():
            continue
        try:
            constants = python_text.constants(readable(path))
        except ValueError:
            continue
        for name, constant in constants.items():
            if name in known and known[name].source == "configurator":
                known[name] = replace(known[name], default=constant.value)


def add_default_files(sources: Sources, known: Mapping[str, Option], directory: Path) -> None:
    """Take in files of settings that options name by default, if the command names none of its own."""
    if sources.settings:
        return
    for option in known.values():
        if isinstance(option.default, str) and option.default.endswith((".yaml", ".yml", ".json", ".toml")):
            path = (sources.folder if sources.words else directory) / option.default
            if path.is_file() and not any(word.value.startswith(option.flag) for word in sources.words):
                sources.settings.append(path)
                sources.default_files.append((option.flag, option.default))
