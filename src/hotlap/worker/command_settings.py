"""What the worker of a command needs of its config, read without the schema of hotlap's own trainer.

Loading that takes longer than all else that happens before the command starts, and it counts on the wall clock. The lab
side has checked the config before it stored it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hotlap.config.command import CommandConfig, KnobValue
from hotlap.core.clock import ClockName
from hotlap.core.errors import ConfigError
from hotlap.core.run_folder import RunFolder
from hotlap.core.targets import Target, parse_target


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """The part of a config that a run of a command goes by."""

    command: CommandConfig
    params: Mapping[str, KnobValue]
    targets: tuple[Target, ...]
    clock: ClockName


def command_settings(folder: RunFolder) -> CommandSettings:
    """Read them from a run folder; raises ConfigError when its config has no command that can be run."""
    text = folder.config_text() or ""
    try:
        values: Any = folder.config_values(text) or YAML(typ="safe").load(text)
        command = CommandConfig.model_validate(values["command"])
        targets = tuple(parse_target(str(target), is_any_metric=True) for target in values.get("targets") or ())
        clock: ClockName = "train" if values.get("clock") == "train" else "wall"
        return CommandSettings(command, dict(values.get("params") or {}), targets, clock)
    except (YAMLError, ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{folder.config_path}: no config of a command: {error}; start the run by hotlap exec"
        ) from error
