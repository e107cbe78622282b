"""From a command line to the text of its hotlap.yaml: find the settings, try the command, write it down.

words = Wording(command="python train.py", directory=Path.cwd())
found = inspect(words)                     # the source alone, and --help where `may_run`
seen = try_out(found, words)               # a run of at most 30 s
text = file_text(found, words, seen)
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hotlap.config.knob_ranges import SEED
from hotlap.config.load import config_from_text, config_from_values
from hotlap.config.schema import RunConfig
from hotlap.core.masking import hide_secrets
from hotlap.inspect_script.compose import Metric, Plan, best_metric, hotlap_yaml, reached_target, study_name
from hotlap.inspect_script.help_text import ask_for_help, options_of_help
from hotlap.inspect_script.probe import PROBE_SECONDS, Probe, probe
from hotlap.inspect_script.settings import Found, find_settings
from hotlap.inspect_script.sources import readable

_PARSERS: Final = re.compile(
    r"argparse|HfArgumentParser|TrlParser|tyro|typer|click|absl|fire|simple_parsing|jsonargparse"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What the user has said."""

    command: str
    directory: Path
    targets: Sequence[str] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Regular expressions by the names of metrics."""
    written_by: str = "hotlap init"

    @property
    def safe_command(self) -> str:
        """The command without its secrets, which come from the environment."""
        return hide_secrets(self.command, os.environ)[0]

    @property
    def secrets(self) -> tuple[str, ...]:
        """Variables that have to be set for the command, since their values were taken out of it."""
        return tuple(hide_secrets(self.command, os.environ)[1])


def inspect(words: Wording, *, may_run: bool) -> Found:
    """Return the settings of a command; with `may_run` its `--help` is asked where its source tells nothing."""
    found = find_settings(words.safe_command, words.directory)
    if not may_run or found.sources.is_container or any(knob.name != SEED for knob in found.knobs):
        return found
    script = found.sources.script
    texts = [readable(path) for path in ([script] if script else []) + found.sources.modules]
    if script is not None and not any(_PARSERS.search(text) for text in texts):
        return found
    program = _program(words.command, found)
    options = options_of_help(ask_for_help(program, words.directory)) if program else []
    return find_settings(words.safe_command, words.directory, options) if options else found


def _program(command: str, found: Found) -> str:
    """Return the start of a command that can be asked for help: up to the script, or its first word."""
    words = found.sources.words
    if not words or found.sources.shell_scripts:
        return ""
    script = found.sources.script
    for word in words:
        if script is not None and word.value.endswith(script.name):
            return command[words[0].start : word.end]
    return command[words[0].start : words[0].end] if script is None else ""


def try_out(
    found: Found, words: Wording, echo: Callable[[bytes], object] = bytes, limit_seconds: float = PROBE_SECONDS
) -> Probe:
    """Run the command as the config will start it, for a short while.

    Raises ConfigError where the knobs cannot be put into it.
    """
    values = {"command": {**_section(found), "metrics": dict(words.metrics)}, "params": _params(found)}
    return probe(config_from_values(values), words.directory, limit_seconds, echo)


def try_out_settled(
    found: Found, words: Wording, echo: Callable[[bytes], object] = bytes, limit_seconds: float = PROBE_SECONDS
) -> tuple[Found, Probe]:
    """Try the command, and once more without the flags that it was given where it does not take them.

    Raises ConfigError where the knobs cannot be put into it.
    """
    seen = try_out(found, words, echo, limit_seconds)
    if not found.added or seen.is_well:
        return found, seen
    plainer = find_settings(words.safe_command, words.directory, add_flags=False)
    again = try_out(plainer, words, echo, limit_seconds)
    return (plainer, again) if again.is_well else (found, seen)


def _section(found: Found) -> dict[str, Any]:
    return {"run": found.run, "files": found.files, "constants": found.constants, "env": found.env}


def _params(found: Found) -> dict[str, Any]:
    return {knob.name: knob.value for knob in found.knobs}


def suggested_target(seen: Probe | None) -> str:
    """Return the target that a probe suggests: what the command reached by its own end; empty where it had none."""
    metric = _metric_named(seen, best_metric(seen.metrics)) if seen else None
    return reached_target(metric) if seen and seen.is_whole and metric and metric.count > 1 else ""


def _metric_named(seen: Probe | None, name: str | None) -> Metric | None:
    return next((metric for metric in seen.metrics if metric.name == name), None) if seen else None


def file_text(found: Found, words: Wording, seen: Probe | None) -> str:
    """Return the text of the config; it has been read again.

    Raises ConfigError where a target cannot be read.
    """
    notes = [f"set {name} before you start hotlap; its value was taken out of the command" for name in words.secrets]
    if seen and seen.is_buffered:
        notes.append("its lines came in blocks, so their times cannot be believed; flush them, or set clock: train")
    plan = Plan(
        name=study_name(words.command, found.sources.script or _first(found.sources.shell_scripts)),
        written_by=words.written_by,
        found=found,
        targets=words.targets,
        suggested_target=suggested_target(seen),
        metrics=seen.metrics if seen else (),
        expressions=words.metrics,
        run_seconds=seen.wall_seconds if seen and seen.is_whole else None,
        has_own_clock=bool(seen and seen.has_own_clock),
        notes=tuple(notes),
    )
    text = hotlap_yaml(plan)
    config_from_text(text, words.directory / "hotlap.yaml")
    return text


def _first(paths: Sequence[Path]) -> Path | None:
    return paths[0] if paths else None


def read_config(text: str, directory: Path) -> RunConfig:
    """Return the config that a written file is."""
    return config_from_text(text, directory / "hotlap.yaml")
