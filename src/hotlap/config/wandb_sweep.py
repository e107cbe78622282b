"""The grammar of wandb's sweep parameters, which is that of the section `search` too.

Names are read as they are written; `sweep.py` matches them to the config.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from hotlap.config.sweep_parameter import SweepParameter, is_same
from hotlap.config.sweep_settings import SETTINGS, Remarks, number_of
from hotlap.config.trainer_yaml import KeyPath
from hotlap.core.errors import unknown_name

_BOUNDS: Final = ("min", "max")
_FIELDS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ("probabilities",)),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (_BOUNDS, ()),
    "uniform": (_BOUNDS, ()),
    "q_uniform": (_BOUNDS, ("q",)),
    "log_uniform": (_BOUNDS, ()),
    "q_log_uniform": (_BOUNDS, ("q",)),
    "inv_log_uniform": (_BOUNDS, ()),
    "log_uniform_values": (_BOUNDS, ()),
    "q_log_uniform_values": (_BOUNDS, ("q",)),
    "inv_log_uniform_values": (_BOUNDS, ()),
    "normal": ((), ("mu", "sigma")),
    "q_normal": ((), ("mu", "sigma", "q")),
    "log_normal": ((), ("mu", "sigma")),
    "q_log_normal": ((), ("mu", "sigma", "q")),
    "beta": ((), ("a", "b")),
    "q_beta": ((), ("a", "b", "q")),
}
"""Every distribution of wandb's: what it needs, and what it takes."""
_EXPONENTS: Final = ("log_uniform", "q_log_uniform", "inv_log_uniform")
"""Distributions whose bounds are natural logarithms."""
_EQUALS: Final[Mapping[str, str]] = {
    "categorical_w_probabilities": "categorical",
    "log_uniform": "log_uniform_values",
    "inv_log_uniform": "log_uniform_values",
    "inv_log_uniform_values": "log_uniform_values",
    "q_log_uniform": "q_log_uniform_values",
}
"""Distributions that are another one, once their bounds are values."""
_NUMBERS: Final[Mapping[str, tuple[str, float | None]]] = {
    "min": ("low", None),
    "max": ("high", None),
    "q": ("step", 1),
    "mu": ("mu", 0),
    "sigma": ("sigma", 1),
    "a": ("a", 1),
    "b": ("b", 1),
}
"""Our names for wandb's figures, and wandb's defaults."""


def read_parameters(
    entries: Mapping[str, Any], place: KeyPath, remarks: Remarks, prefix: str = ""
) -> Iterator[tuple[KeyPath, SweepParameter]]:
    """Yield the parameters under their written names, nested ones dotted, and where each one stands."""
    for name, spec in entries.items():
        where = (*place, name)
        if not isinstance(spec, Mapping):
            close = get_close_matches(str(name), SETTINGS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            remarks.refuse(where, f"expected value, values, or min and max, got {spec!r}{hint}")
        elif "parameters" in spec:
            inner = spec["parameters"]
            if len(spec) > 1 or not isinstance(inner, Mapping):
                remarks.refuse(where, "parameters holds a mapping of parameters, and stands alone")
            else:
                yield from read_parameters(inner, (*where, "parameters"), remarks, f"{prefix}{name}.")
        else:
            parameter = _parameter(f"{prefix}{name}", spec, where, remarks)
            if parameter is not None:
                yield where, parameter


def merged(
    values: Sequence[Any], probabilities: Sequence[float] | None
) -> tuple[tuple[Any, ...], tuple[float, ...] | None]:
    """Return values each once; the probabilities of equal ones add up."""
    kept: list[Any] = []
    chances: list[float] = []
    for index, value in enumerate(values):
        chance = probabilities[index] if probabilities is not None else 0.0
        found = next((place for place, other in enumerate(kept) if is_same(other, value)), None)
        if found is None:
            kept.append(value)
            chances.append(chance)
        else:
            chances[found] += chance
    return tuple(kept), None if probabilities is None else tuple(chances)


def _parameter(name: str, spec: Mapping[str, Any], place: KeyPath, remarks: Remarks) -> SweepParameter | None:
    written = spec.get("distribution", _implied(spec))
    if written is None:
        remarks.refuse(place, "expected value, values, or min and max")
        return None
    if not isinstance(written, str) or written not in _FIELDS:
        remarks.refuse((*place, "distribution"), str(unknown_name("distribution", str(written), list(_FIELDS))))
        return None
    needed, optional = _FIELDS[written]
    known = (*needed, *optional, "distribution", "when")
    if any(key not in spec for key in needed) or any(key not in known for key in spec):
        takes = ", ".join([*needed, *(f"{key} (may be left out)" for key in optional)])
        got = ", ".join(str(key) for key in spec if key not in ("distribution", "when"))
        remarks.refuse(place, f"{written} takes {takes}; got {got or 'nothing'}")
        return None
    try:
        fields = _choice_fields(spec) if "value" in spec or "values" in spec else _number_fields(written, spec)
        found = SweepParameter(
            key=name, distribution=_EQUALS.get(written, written), when=_conditions(spec.get("when")), **fields
        )
    except ValueError as error:
        remarks.refuse(place, str(error))
        return None
    if written in _EXPONENTS:
        instead = "q_log_uniform_values" if written.startswith("q_") else "log_uniform_values"
        text = f"the bounds of {written} are natural logarithms: values from {found.low:.4g} to {found.high:.4g}"
        remarks.note(place, f"{text}; where the bounds are values write {instead}")
    if isinstance(spec.get("values"), list) and len(spec["values"]) > len(found.values):
        remarks.note(place, "a value is listed twice; it counts once, give probabilities to weigh values")
    return found


def _implied(spec: Mapping[str, Any]) -> str | None:
    """Return the distribution of a parameter that names none."""
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical"
    if "min" in spec and "max" in spec:
        is_whole = all(isinstance(spec[key], int) and not isinstance(spec[key], bool) for key in _BOUNDS)
        return "int_uniform" if is_whole else "uniform"
    return None


def _choice_fields(spec: Mapping[str, Any]) -> dict[str, Any]:
    if "value" in spec:
        return {"values": (spec["value"],)}
    values, given = spec["values"], spec.get("probabilities")
    if not isinstance(values, list):
        raise ValueError(f"values is a list, got {values!r}")
    if given is None:
        return {"values": merged(values, None)[0]}
    chances = [number_of(chance) for chance in given] if isinstance(given, list) else []
    if len(chances) != len(values) or any(chance is None for chance in chances):
        raise ValueError(f"probabilities is a list of {len(values)} numbers, one for each value, got {given!r}")
    distinct, weights = merged(values, [chance for chance in chances if chance is not None])
    return {"values": distinct, "probabilities": weights}


def _number_fields(written: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    needed, optional = _FIELDS[written]
    fields: dict[str, Any] = {}
    for key in (*needed, *optional):
        name, default = _NUMBERS[key]
        fields[name] = number_of(spec.get(key, default))
        if fields[name] is None:
            raise ValueError(f"{key} is a number, got {spec.get(key)!r}")
    if written in _EXPONENTS:
        low, high = fields["low"], fields["high"]
        if written == "inv_log_uniform":  # of 1/X
            low, high = -high, -low
        try:
            fields |= {"low": math.exp(low), "high": math.exp(high)}
        except OverflowError:
            raise ValueError(f"min and max of {written} are natural logarithms, and e^{high:g} is too large") from None
    return fields


def _conditions(given: Any) -> dict[str, tuple[Any, ...]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or any(value == [] for value in given.values()):
        example = "{training.optim: muon}"
        raise ValueError(f"when holds other parameters and their values, such as {example}, got {given!r}")
    return {str(key): tuple(value) if isinstance(value, list) else (value,) for key, value in given.items()}
