"""What an ablation compares: every variant that `-s key=a,b` asks for, as a whole config.

load_ablation(Path("hotlap.yaml"), ["model.positions=learned,rope", "budget.run=60s"])

A setting with one value holds for all variants. Several settings with several values give every combination; the first
value of each makes the reference.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

from hotlap.config.load import get_dotted, load_config, parse_override
from hotlap.config.schema import PROTOCOL_KEYS, RunConfig
from hotlap.core.errors import ConfigError

MOST_VARIANTS: Final = 64
_OPENING: Final = "([{"
_CLOSING: Final = ")]}"
_BEFORE_A_QUOTE: Final = (*_OPENING, ",", ":")
"""Signs after which a quote opens a text; inside of a word it is an apostrophe."""
_EXAMPLE: Final = "-s model.positions=learned,rope"


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the configs that are compared."""

    values: Mapping[str, Any]
    """What the varied settings are, by their keys as they were written."""
    config: RunConfig


@dataclass(frozen=True, slots=True)
class Ablation:
    """At least two variants; the first one is the reference."""

    keys: tuple[str, ...]
    variants: tuple[Variant, ...]


def load_ablation(path: Path, settings: Iterable[str], notices: list[str] | None = None) -> Ablation:
    """Read a config file once for each variant.

    Raises ConfigError when nothing is varied, and for a setting that cannot be varied or does not fit.
    """
    common, varied = _sorted_out(settings)
    keys, lists = tuple(varied), list(varied.values())
    variants: list[Variant] = []
    for texts in product(*lists):
        overrides = [f"{key}={text}" for key, text in zip(keys, texts, strict=True)]
        values = dict(map(parse_override, overrides))
        variants.append(Variant(values, load_config(path, [*common, *overrides], notices)))
    _refuse_other_measurement(variants, keys)
    _refuse_twins(variants)
    return Ablation(keys, tuple(variants))


def split_values(text: str) -> list[str]:
    """Return the values of a list: what stands between commas outside of brackets and quotes."""
    parts, depth, quote, last = [""], 0, "", ","
    for sign in text:
        if quote:
            quote = "" if sign == quote and last != "\\" else quote
        elif sign in "'\"" and last in _BEFORE_A_QUOTE:
            quote = sign
        elif sign in _OPENING:
            depth += 1
        elif sign in _CLOSING:
            depth = max(0, depth - 1)
        elif sign == "," and not depth:
            parts.append("")
            last = sign
            continue
        parts[-1] += sign
        last = last if sign.isspace() else sign
    return [part.strip() for part in parts]


def _sorted_out(settings: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the settings of all variants, and the values of each setting that varies."""
    common: dict[str, str] = {}
    varied: dict[str, list[str]] = {}
    for setting in settings:
        key, values = _listed(setting)
        if key in varied or (key in common and len(values) > 1):
            raise ConfigError(f"{key} is set twice; write all of its values in one list: -s {key}=a,b,c")
        if len(values) == 1:
            common[key] = setting
        else:
            varied[key] = values
    if not varied:
        raise ConfigError(
            f"there is nothing to compare: no setting has two values; write for example: hotlap ablate {_EXAMPLE}"
        )
    _refuse_protocol(varied)
    count = len(list(product(*varied.values())))
    if count > MOST_VARIANTS:
        raise ConfigError(
            f"{count} variants, at most {MOST_VARIANTS} can be told apart in a table; vary less, or search the space "
            "with hotlap sweep"
        )
    return list(common.values()), varied


def _listed(setting: str) -> tuple[str, list[str]]:
    """Return the key of a setting and the texts of its values."""
    key, separator, text = setting.partition("=")
    values = split_values(text)
    if not separator or not key.strip() or len(values) == 1:
        return parse_override(setting)[0], values  # which tells what is wrong with it
    if not all(values):
        raise ConfigError(f"{setting!r} has an empty value in its list; write null for a setting that is to be absent")
    return key.strip(), values


def _refuse_protocol(keys: Iterable[str]) -> None:
    """Raise ConfigError for a key of the measurement, or one above or below such a key."""
    for key in keys:
        for protected in PROTOCOL_KEYS:
            if f"{key}.".startswith(f"{protected}.") or protected.startswith(f"{key}."):
                raise _of_the_measurement(key, protected)


def _refuse_other_measurement(variants: Sequence[Variant], keys: Sequence[str]) -> None:
    """Raise ConfigError when variants are measured differently, under whichever name that was written."""
    first, *others = (variant.config.model_dump(mode="json") for variant in variants)
    for other in others:
        for protected in PROTOCOL_KEYS:
            if _value(first, protected) != _value(other, protected):
                raise _of_the_measurement(", ".join(keys), protected)


def _of_the_measurement(key: str, protected: str) -> ConfigError:
    which = key if key == protected else f"{key} (by {protected})"
    return ConfigError(
        f"{which} belongs to the measurement, which all variants share: with another one their losses and times could "
        "not be compared; give it one value"
    )


def _refuse_twins(variants: Sequence[Variant]) -> None:
    """Raise ConfigError when two variants are one and the same config."""
    seen: dict[str, Variant] = {}
    for variant in variants:
        before = seen.setdefault(variant.config.model_dump_json(), variant)
        if before is not variant:
            told = " and ".join(str(dict(each.values)) for each in (before, variant))
            raise ConfigError(f"{told} are the same config; leave one of them out")


def _value(values: Mapping[str, Any], key: str) -> Any:
    try:
        return get_dotted(values, key)
    except (KeyError, TypeError):
        return None
