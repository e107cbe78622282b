"""Write docs/configuration.md and docs/trainer-settings.md from the code, so that they never say something else.

python scripts/configuration_reference.py            write them
python scripts/configuration_reference.py --check    fail when one is not up to date
"""

import json
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hotlap.config.base import CUSTOM, PART_PATTERN
from hotlap.config.huggingface import FATES, TRAINER_DEFAULTS
from hotlap.config.schema import PROTOCOL_KEYS, VARIANTS, RunConfig, TrainingConfig
from hotlap.core.durations import parse_seconds

DOCS = Path(__file__).parent.parent / "docs"
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "absent"}
PART = "`module:function`"

OPENING = """\
# Configuration

*Written by `scripts/configuration_reference.py` from the schema in `src/hotlap/config/schema.py`; do not edit.*

Everything that a run needs stands in one YAML file, `hotlap.yaml`. Every key may be left out, unknown keys are refused,
and all problems of a file are told at once. Any key can be set on the command line with its dotted name:
`hotlap train hotlap.yaml -s training.learning_rate=3e-4`.

Names are Hugging Face's wherever it has one, with its meaning; what becomes of its other names, and how a plain Trainer
YAML is read, stands in [trainer-settings.md](trainer-settings.md). Durations are written `90s`, `15m`, `1h30m`, `4:38`,
or as plain seconds. Targets are conditions such as `eval_loss < 0.76` and must hold together, at the same evaluation.

Names of parts (`task.name`, `model.name`, `training.optim`, `training.lr_scheduler_type`) may be `module:function`: a
function in a file of the project's folder. The hash of that file is recorded with each run.

Keys marked with ● belong to the measurement: a study never changes them by itself.
"""

TRAINER_OPENING = """\
# The Trainer's settings

*Written by `scripts/configuration_reference.py` from `src/hotlap/config/`; do not edit.*

Every name of Hugging Face's `TrainingArguments` and `Seq2SeqTrainingArguments`, transformers 4.57 and 5, is known to
hotlap. They stand in the section `training` of `hotlap.yaml`, or at the top level of a **plain Trainer YAML**:

```yaml
learning_rate: 3e-4
warmup_ratio: 0.05
num_train_epochs: 1
```

```sh
hotlap train trainer.yaml -s learning_rate=1e-3
```

A file without a section `training`, but with a Trainer's setting at its top level, is read that way. What it leaves out
then has the Trainer's default, and not hotlap's; with `targets`, evaluations fall on the clock's grid unless the file
says otherwise. hotlap's own sections and settings may stand beside the Trainer's.
"""

WORKING = """\
## Settings that work

Names marked with ◆ are hotlap's own; all others have Hugging Face's name and meaning.
"""

OTHERS = """\
## Names with another fate

*No effect*: accepted, with a notice. *Renamed*: taken as the setting that is named, with a notice. *Not supported*:
refused with the reason, unless the value asks for nothing, as the Trainer's default does.
"""


def render_configuration() -> str:
    """Return the page of all settings."""
    return _page([OPENING, *_section(RunConfig, "")])


def render_trainer_settings() -> str:
    """Return the page about the Trainer's settings."""
    return _page([TRAINER_OPENING, WORKING, *_working_rows(), "", OTHERS, *_fate_rows()])


PAGES = {"configuration.md": render_configuration, "trainer-settings.md": render_trainer_settings}


def _page(parts: Iterable[str]) -> str:
    return "\n".join(parts).rstrip() + "\n"


def _section(model: type[BaseModel], prefix: str, title: str = "") -> Iterator[str]:
    """Yield a model's table, then the sections below it."""
    yield f"## {title or prefix.rstrip('.') or 'Top level'}\n"
    if prefix:
        yield f"{' '.join((model.__doc__ or '').split())}\n"
    yield "| key | values | default | meaning |\n|---|---|---|---|"
    below: list[tuple[str, type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        kind = _inner_section(field.annotation)
        if name in VARIANTS and not prefix:
            below.extend((f"{prefix}{name}.", form, _form_title(name, tag)) for tag, form in VARIANTS[name].items())
        elif kind is not None:
            below.append((f"{prefix}{name}.", kind, ""))
        else:
            yield _row(f"{prefix}{name}", name, field)
    yield ""
    for longer, kind, heading in below:
        yield from _section(kind, longer, heading)


def _inner_section(kind: Any) -> type[BaseModel] | None:
    """Return the section that a field holds, whether or not it may be absent; not those inside of a collection."""
    if get_origin(kind) in (dict, tuple):
        return None
    kinds = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel)]
    return kinds[0] if kinds else None


def _form_title(section: str, tag: str) -> str:
    return f"{section}: {PART if tag == CUSTOM else f'`{tag}`'}"


def _working_rows() -> Iterator[str]:
    yield "| setting | default | the Trainer's default | meaning |\n|---|---|---|---|"
    for name, field in TrainingConfig.model_fields.items():
        is_own = name not in TRAINER_DEFAULTS
        theirs = "" if is_own else _value(TRAINER_DEFAULTS[name])
        yield _cells(f"`{name}`{' ◆' if is_own else ''}", _default(field), theirs, _meaning(field))


def _fate_rows() -> Iterator[str]:
    yield "| name | fate | why, or what it is called here |\n|---|---|---|"
    for name, row in sorted(FATES.items()):
        yield _cells(f"`{name}`", row.fate, row.text)


def _row(key: str, name: str, field: FieldInfo) -> str:
    is_protected = any(key == protected or key.startswith(f"{protected}.") for protected in PROTOCOL_KEYS)
    return _cells(f"`{name}`{' ●' if is_protected else ''}", _values(field), _default(field), _meaning(field))


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _values(field: FieldInfo) -> str:
    found = {sign: _bound(field.metadata, name) for name, sign in SIGNS.items()}
    bounds = [f"{sign} {value:g}" for sign, value in found.items() if value is not None]
    kind = "duration" if _is_duration(field.metadata) else _kind(field.annotation)
    if _bound(field.metadata, "pattern") == PART_PATTERN:
        kind = PART
    return ", ".join([kind, *bounds])


def _is_duration(metadata: Iterable[Any]) -> bool:
    return any(getattr(rule, "func", None) is parse_seconds for rule in metadata)


def _bound(metadata: Iterable[Any], name: str) -> Any:
    """Return a bound from the rules of a field, which may be packed into a FieldInfo of their own."""
    flat = [inner for rule in metadata for inner in (rule.metadata if isinstance(rule, FieldInfo) else [rule])]
    return next((getattr(rule, name) for rule in flat if getattr(rule, name, None) is not None), None)


def _kind(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (types.UnionType, Union):
        return " or ".join(_kind(one) for one in inner)
    if origin is Annotated:
        return _annotated(inner[0], inner[1:])
    if origin is tuple:
        return f"list of {_kind(inner[0])}"
    if origin is dict:
        return "mapping"
    return NAMES.get(kind, str(kind))


def _annotated(kind: Any, metadata: tuple[Any, ...]) -> str:
    """Return the words for a type with rules of its own, as one of several forms."""
    if _is_duration(metadata):
        return "duration"
    if any(isinstance(rule, Tag) and rule.tag == "part" for rule in metadata):
        return PART
    return _kind(kind)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return "–"
    if _is_duration(field.metadata):
        return f"`{value:g}s`"
    return _value(value)


def _value(value: Any) -> str:
    return "–" if value is None else f"`{json.dumps(value)}`"


def main() -> int:
    """Write the pages, or compare them with the files."""
    stale = []
    for name, render in PAGES.items():
        path, text = DOCS / name, render()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    if "--check" not in sys.argv[1:] or not stale:
        return 0
    print(f"{', '.join(stale)}: not up to date; run: python scripts/configuration_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
