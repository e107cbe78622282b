"""Write docs/configuration.md from the schema, so that it never says something else than the code.

python scripts/configuration_reference.py            write it
python scripts/configuration_reference.py --check    fail when it is not up to date
"""

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hotlap.config.schema import PROTOCOL_KEYS, RunConfig
from hotlap.core.durations import parse_seconds

TARGET = Path(__file__).parent.parent / "docs" / "configuration.md"
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "absent"}

OPENING = """\
# Configuration

*Written by `scripts/configuration_reference.py` from the schema in `src/hotlap/config/schema.py`; do not edit.*

Everything that a run needs stands in one YAML file, `hotlap.yaml`. Every key may be left out, unknown keys are refused,
and all problems of a file are told at once. Any key can be set on the command line with its dotted name:
`hotlap train hotlap.yaml -s training.learning_rate=3e-4`.

Names are Hugging Face's wherever it has one, with its meaning. Durations are written `90s`, `15m`, `1h30m`, `4:38`, or
as plain seconds. Targets are conditions such as `eval_loss < 0.76` and must hold together, at the same evaluation.

Keys marked with ● belong to the measurement: a study never changes them by itself.
"""


def render() -> str:
    """Return the whole page."""
    return "\n".join([OPENING, *_section(RunConfig, "")]).rstrip() + "\n"


def _section(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Yield a model's table, then the sections below it."""
    yield f"## {prefix.rstrip('.') or 'Top level'}\n"
    if prefix:
        yield f"{' '.join((model.__doc__ or '').split())}\n"
    yield "| key | values | default | meaning |\n|---|---|---|---|"
    below: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            below.append((f"{prefix}{name}.", kind))
        else:
            yield _row(f"{prefix}{name}", name, field)
    yield ""
    for longer, kind in below:
        yield from _section(kind, longer)


def _row(key: str, name: str, field: FieldInfo) -> str:
    is_protected = any(key == protected or key.startswith(f"{protected}.") for protected in PROTOCOL_KEYS)
    cells = [
        f"`{name}`{' ●' if is_protected else ''}",
        _values(field),
        _default(field),
        " ".join((field.description or "").split()),
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(field: FieldInfo) -> str:
    bounds = [f"{sign} {value:g}" for name, sign in SIGNS.items() if (value := _bound(field, name)) is not None]
    kind = "duration" if _is_duration(field) else _kind(field.annotation)
    return ", ".join([kind, *bounds])


def _is_duration(field: FieldInfo) -> bool:
    return any(getattr(rule, "func", None) is parse_seconds for rule in field.metadata)


def _bound(field: FieldInfo, name: str) -> Any:
    return next((getattr(rule, name) for rule in field.metadata if getattr(rule, name, None) is not None), None)


def _kind(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (types.UnionType, Union):
        return " or ".join(_kind(one) for one in inner)
    if origin is Annotated:
        return _kind(inner[0])
    if origin is tuple:
        return f"list of {_kind(inner[0])}"
    if origin is dict:
        return "mapping"
    return NAMES.get(kind, str(kind))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return "–"
    if _is_duration(field):
        return f"`{value:g}s`"
    return f"`{json.dumps(value)}`"


def main() -> int:
    """Write the page, or compare it with the file."""
    text = render()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET.name} is not up to date; run: python scripts/configuration_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
