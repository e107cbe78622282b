"""What the sections of a config are made of: the strict base class, durations, names of parts and their variants."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hotlap.core.durations import parse_seconds
from hotlap.core.errors import unknown_name

CUSTOM: Final = "custom"
"""The variant of a section whose part is code of the project's own."""
PART_PATTERN: Final = r"^[\w.]+:\w+$"
"""`module:function`, the module's file lying in the project's folder."""

Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0)]


class Section(BaseModel):
    """A part of the config: frozen, strict about unknown keys, documented by the strings under its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def file_name(name: str) -> str:
    """Return the name of a file with the user's folder for a ~ at its start."""
    return str(Path(name).expanduser()) if name.startswith("~/") else name


def is_part(name: object) -> bool:
    """Say whether a name is `module:function` of the project rather than one of hotlap's own."""
    return isinstance(name, str) and re.fullmatch(PART_PATTERN[1:-1], name) is not None


def name_or_part(value: Any) -> str:
    """Return which kind of name a value is, right or wrong: `name` for one of hotlap's own, or `part`."""
    return "part" if isinstance(value, str) and ":" in value else "name"


def variant_of(value: Any, default: str) -> str:
    """Return the variant that a section's `name` chooses, for values and for built sections."""
    name = value.get("name", default) if isinstance(value, Mapping) else getattr(value, "name", default)
    return CUSTOM if is_part(name) else str(name)


def check_variant(kind: str, variants: Collection[str], value: Any) -> Any:
    """Return a section's value unchanged.

    Raises ValueError with the known names when its `name` is neither one of them nor `module:function`.
    """
    if not isinstance(value, Mapping) or "name" not in value:
        return value
    name, known = value["name"], [variant for variant in variants if variant != CUSTOM]
    if is_part(name) or (isinstance(name, str) and name in known):
        return value
    raise ValueError(f"{unknown_name(kind, str(name), known)} Code of your own: module:function")
