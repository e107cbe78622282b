"""Load a config: YAML, overrides and schema, with every problem told at once and where it stands.

load_config(Path("hotlap.yaml"), ["training.learning_rate=3e-4"])
"""

import difflib
import hashlib
import json
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from hotlap.config.document import Document, yaml_problem
from hotlap.config.models import forget_shape
from hotlap.config.pretrained import resolve_model
from hotlap.config.schema import (
    PROTOCOL_KEYS,
    TAGGED_KEYS,
    VARIANTS,
    RunConfig,
)
from hotlap.config.tasks import with_absolute_files
from hotlap.config.tokenizers import with_absolute_path
from hotlap.config.trainer_yaml import (
    TRAINING_NAMES,
    KeyPath,
    is_trainer_yaml,
    resolve_sections,
    resolve_trainer_yaml,
)
from hotlap.core.errors import ConfigError
from hotlap.core.masking import hide_secrets
from hotlap.core.secret_names import is_secret

SEARCH: Final = "search"
"""The section that says what a sweep varies."""
_LINE_ENDS: Final = frozenset("\x85\u2028\u2029")
"""What YAML takes for the end of a line, beside the newline."""


def load_config(path: Path, overrides: Iterable[str] = (), notices: list[str] | None = None) -> RunConfig:
    """Read a config file, or a plain Trainer YAML, and apply `key=value` overrides with dotted keys.

    What the user should know of names that mean something else here is appended to `notices`, a line each.
    The section `search` is left to `load_sweep`, but for that of a command, which every study of it goes by.
    Raises ConfigError with one message that lists every problem with file, line and key.
    """
    return _load(Document.read(path), path, overrides, notices)


def config_from_text(
    text: str, path: Path, overrides: Iterable[str] = (), notices: list[str] | None = None
) -> RunConfig:
    """Build the config that a text would be if it stood in a file; everything else is as `load_config` has it."""
    return _load(Document.parse(text, path), path, overrides, notices)


def _load(document: Document, path: Path, overrides: Iterable[str], notices: list[str] | None) -> RunConfig:
    search = document.values.pop(SEARCH, None)
    if document.values.get("command") is not None and search is not None:
        document.values[SEARCH] = search
    document.is_flat = is_trainer_yaml(document.values)
    for override in overrides:
        key, value = parse_override(override)
        set_dotted(document.values, key, value)
        document.changed.add(key)
    resolved = (resolve_trainer_yaml if document.is_flat else resolve_sections)(document.plain())
    document.origins = resolved.origins
    config = _validate(resolved.values, document, resolved.problems)
    if notices is not None:
        notices.extend(_row(document, key, text).strip() for key, text in resolved.notices)
    if config.command is not None:
        return without_secrets(config)
    config = config.model_copy(update={"model": resolve_model(config.model, path.absolute().parent)})
    task = with_absolute_files(config.task, path.absolute().parent)  # the stored config lies in another folder
    tokenizer = with_absolute_path(config.tokenizer, path.absolute().parent)
    return config.model_copy(update={"task": task, "tokenizer": tokenizer})


def config_from_values(
    values: Mapping[str, Any], patch: Mapping[str, Any] | None = None, source: str = "the patched config"
) -> RunConfig:
    """Build a config from plain values and a patch of dotted keys; `source` is what a message calls it.

    Raises ConfigError when the patched values do not fit the schema.
    """
    copy = json.loads(json.dumps(values))
    of_model = {key.removeprefix("model.") for key in patch or {} if f"{key}.".startswith("model.")}
    if isinstance(copy.get("model"), dict):
        forget_shape(copy["model"], of_model)
    for key, value in (patch or {}).items():
        set_dotted(copy, key, value)
    config = _validate(copy, Document(copy, source), [])
    return config.model_copy(update={"model": resolve_model(config.model, Path())}) if of_model else config


def without_secrets(config: RunConfig) -> RunConfig:
    """Return a config whose command takes its secrets from variables, which are set for this process and its children.

    A config is stored, shown and compared; a value of the environment is not.
    """
    assert config.command is not None, "only a command has secrets"
    variables: dict[str, str] = {}

    def hidden(text: str) -> str:
        hidden_text, found = hide_secrets(text, {**os.environ, **variables})
        variables.update(found)
        return hidden_text

    changed: dict[str, Any] = {"run": hidden(config.command.run)}
    changed["env"] = {
        name: hidden(f"{name}={text}").removeprefix(f"{name}=").replace('"', "") if is_secret(name) else text
        for name, text in config.command.env.items()
    }
    if config.command.evaluator is not None:
        changed["evaluator"] = hidden(config.command.evaluator)
    os.environ.update(variables)
    return config.model_copy(update={"command": config.command.model_copy(update=changed)})


def config_text(config: RunConfig) -> str:
    """Write the resolved config as YAML: enough to run again, and the text that diffs are made of."""
    return "".join(_yaml_lines(config.model_dump(mode="json"), ""))


def _yaml_lines(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield textwrap.indent(_yaml_entry(json.dumps({key: None})), indent)
            yield from _yaml_lines(value, f"{indent}  ")
        else:
            yield textwrap.indent(_yaml_entry(json.dumps({key: value})), indent)


@lru_cache(maxsize=4096)  # the configs of a study differ in a few settings, and writing YAML is slow
def _yaml_entry(entry: str) -> str:
    yaml = YAML()
    yaml.default_flow_style = False
    out = StringIO()
    yaml.dump(json.loads(entry, object_hook=_with_plain_lines), out)
    return out.getvalue()


def _with_plain_lines(values: dict[str, Any]) -> dict[str, Any]:
    """Return values whose texts are written escaped where a reader would fold them into other lines."""
    return {key: _escaped(value) for key, value in values.items()}


def _escaped(value: Any) -> Any:
    if isinstance(value, list):
        return [_escaped(entry) for entry in value]
    return DoubleQuotedScalarString(value) if isinstance(value, str) and _LINE_ENDS & set(value) else value


def config_diff(parent: RunConfig, child: RunConfig) -> str:
    """Return the exact unified diff between two resolved configs."""
    lines = difflib.unified_diff(
        config_text(parent).splitlines(keepends=True),
        config_text(child).splitlines(keepends=True),
        "parent/config.yaml",
        "child/config.yaml",
        n=1,
    )
    return "".join(lines)


def config_hash(config: RunConfig) -> str:
    """Return what names a config apart from its seeds: runs with equal hashes are replicates."""
    values = config.model_dump(mode="json")
    values.pop(SEARCH, None)  # what may be varied is no part of what is
    for section, key in (("training", "seed"), ("training", "data_seed"), ("params", "seed")):
        values.get(section, {}).pop(key, None)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def refuse_protocol_keys(patch: Mapping[str, Any]) -> None:
    """Raise ConfigError when a patch touches what belongs to the measurement."""
    for key in patch:
        for protected in PROTOCOL_KEYS:
            if f"{key}.".startswith(f"{protected}.") or protected.startswith(f"{key}."):
                raise ConfigError(f"a proposal may not change {key}: it belongs to the protocol of the study")


def parse_override(text: str) -> tuple[str, Any]:
    """Read `training.learning_rate=3e-4`; the value is YAML.

    Raises ConfigError when there is no `=` or the value is not YAML.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"cannot read the setting {text!r}; write key=value, for example training.learning_rate=3e-4")
    try:
        return key.strip(), YAML(typ="safe").load(value) if value.strip() else None
    except YAMLError as error:
        raise ConfigError(f"cannot read the value of {text!r}: {yaml_problem(error)}") from error


def set_dotted(document: Any, key: str, value: Any) -> None:
    """Set one dotted key in nested mappings, making the mappings on the way.

    Raises ConfigError when something on the way is not a mapping.
    """
    *parents, last = key.split(".")
    for name in parents:
        if document.get(name) is None:
            document[name] = {}
        document = document[name]
        if not isinstance(document, dict):
            raise ConfigError(f"cannot set {key}: {name} is {document!r}, not a section")
    document[last] = value


def get_dotted(values: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key; raises KeyError when there is none."""
    found: Any = values
    for name in key.split("."):
        found = found[name]
    return found


def _validate(values: Any, document: Document, problems: Iterable[tuple[KeyPath, str]]) -> RunConfig:
    """Build the config from values in the form of the schema; raises ConfigError with these problems and all others."""
    rows = [_row(document, key, text) for key, text in problems]
    config: RunConfig | None = None
    cause: ValidationError | None = None
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        cause = error
        rows += [_explain(problem, document) for problem in error.errors()]
    if config is None or rows:
        raise ConfigError("\n".join([f"{document.source} has {len(rows)} problem(s):", *rows])) from cause
    return config


def _row(document: Document, key: KeyPath, text: str) -> str:
    """Return a line about a key path as it was written."""
    name = ".".join(str(part) for part in key)
    return f"  {document.place(key)}: {f'{name}: ' if name else ''}{text}"


def _explain(problem: Any, document: Document) -> str:
    key = document.written(_untagged(tuple(part for part in problem["loc"] if part != "[key]")))
    if problem["type"] == "extra_forbidden":
        return _row(document, key, f"unknown key; {_hint(problem['loc'], is_flat=document.is_flat)}")
    message = problem["msg"].removeprefix("Value error, ")
    got = "" if problem["type"] == "missing" or isinstance(problem["input"], dict) else f", got {problem['input']!r}"
    return _row(document, key or ("config",), f"{message}{got}")


def _untagged(loc: KeyPath) -> KeyPath:
    """Return a place of pydantic's without the name of the form that was chosen for a value of several."""
    if _is_in_mixture(loc):  # task, mixture, tasks, NAME, task, form, …
        return ("task", "tasks", loc[3], *loc[6:])
    for end in range(1, len(loc)):
        if loc[:end] in TAGGED_KEYS:
            return loc[:end] + loc[end + 1 :]
    return loc


def _is_in_mixture(loc: KeyPath) -> bool:
    """Say whether a place of pydantic's lies in the section of a task of a mixture."""
    return len(loc) > 4 and loc[:3] == ("task", "mixture", "tasks") and loc[4] == "task"


def _hint(loc: KeyPath, *, is_flat: bool) -> str:
    """Return what a key that nobody knows may have been meant to be."""
    known, written, is_top = _names_beside(loc), str(loc[-1]), len(loc) == 1
    if is_top and written in TRAINING_NAMES:
        return f"did you mean 'training.{written}'?"
    also = sorted(TRAINING_NAMES) if loc[0] == "training" or (is_top and is_flat) else []
    close = difflib.get_close_matches(written, [*known, *also], n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "neither the Trainer nor hotlap has it" if is_top and is_flat else f"known here: {', '.join(known)}"


def _names_beside(loc: KeyPath) -> list[str]:
    """Return the settings of the section that a place lies in."""
    if _is_in_mixture(loc) and len(loc) > 5:
        return [*VARIANTS["task"][loc[5]].model_fields, "weight"]
    model: Any = RunConfig
    if loc[0] in VARIANTS and len(loc) > 1:
        model, loc = VARIANTS[loc[0]][loc[1]], loc[2:]
    for part in loc[:-1]:
        field = model.model_fields.get(part)
        inner = (field.annotation, *get_args(field.annotation)) if field is not None else ()
        model = next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)
