"""Load a config: YAML, overrides and schema, with every problem told at once and where it stands.

load_config(Path("hotlap.yaml"), ["training.learning_rate=3e-4"])
"""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from hotlap.config.schema import PROTOCOL_KEYS, RunConfig
from hotlap.core.errors import ConfigError


def load_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a config file and apply `key=value` overrides with dotted keys.

    Raises ConfigError with one message that lists every problem with file, line and key.
    """
    document = _read_yaml(path)
    changed: set[str] = set()
    for override in overrides:
        key, value = parse_override(override)
        set_dotted(document, key, value)
        changed.add(key)
    config = _validate(document, str(path), changed)
    if config.task.text is None or Path(config.task.text).is_absolute():
        return config
    text = str(path.absolute().parent / config.task.text)  # the stored config lies in another folder
    return config.model_copy(update={"task": config.task.model_copy(update={"text": text})})


def config_from_values(values: Mapping[str, Any], patch: Mapping[str, Any] | None = None) -> RunConfig:
    """Build a config from plain values and a patch of dotted keys.

    Raises ConfigError when the patched values do not fit the schema.
    """
    document = json.loads(json.dumps(values))
    for key, value in (patch or {}).items():
        set_dotted(document, key, value)
    return _validate(document, "the patched config", set())


def config_text(config: RunConfig) -> str:
    """Write the resolved config as YAML: enough to run again, and the text that diffs are made of."""
    yaml = YAML()
    yaml.default_flow_style = False
    out = StringIO()
    yaml.dump(config.model_dump(mode="json"), out)
    return out.getvalue()


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
    values["training"].pop("seed")
    values["training"].pop("data_seed")
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
        raise ConfigError(f"cannot read the value of {text!r}: {_problem(error)}") from error


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


def _read_yaml(path: Path) -> CommentedMap:
    try:
        document = YAML().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config; run `hotlap demo` for an example") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise ConfigError(f"{where}: not valid YAML: {_problem(error)}") from error
    if document is None:
        return CommentedMap()
    if not isinstance(document, CommentedMap):
        raise ConfigError(f"{path}: expected settings such as 'name: my-run', got {type(document).__name__}")
    return document


def _problem(error: YAMLError) -> str:
    return str(error.problem if isinstance(error, MarkedYAMLError) else error).splitlines()[0]


def _validate(document: Any, source: str, changed: set[str]) -> RunConfig:
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        rows = [_explain(problem, document, source, changed) for problem in error.errors()]
        raise ConfigError("\n".join([f"{source} has {len(rows)} problem(s):", *rows])) from error


def _explain(problem: Any, document: Any, source: str, changed: set[str]) -> str:
    loc = problem["loc"]
    key = ".".join(str(part) for part in loc)
    is_override = any(".".join(map(str, loc[:end])) in changed for end in range(1, len(loc) + 1))
    where = "the command line" if is_override else f"{source}:{line}" if (line := _line(document, loc)) else source
    if problem["type"] == "extra_forbidden":
        names = _field_names(loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(names)}"
        return f"  {where}: {key}: unknown key; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    got = "" if problem["type"] == "missing" or isinstance(problem["input"], dict) else f", got {problem['input']!r}"
    return f"  {where}: {key or 'config'}: {message}{got}"


def _line(document: Any, loc: tuple[Any, ...]) -> int | None:
    """Return the line of the deepest part of a key path that the file holds, counted from 1."""
    line = None
    for part in loc:
        try:
            place = document.lc.key(part) if isinstance(document, CommentedMap) else document.lc.item(part)
            line, document = place[0] + 1, document[part]
        except (KeyError, IndexError, AttributeError, TypeError):
            break
    return line


def _field_names(loc: tuple[Any, ...]) -> list[str]:
    model: Any = RunConfig
    for part in loc:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return list(model.model_fields)
