"""Which knobs of a command a study varies, and within which bounds: what `search` says, else what names suggest.

    search = knob_search(config)
    search.parameters["params.lr"].value_at(0.5)

The section is that of a sweep, so one and the same holds for `hotlap speedrun` and `hotlap sweep`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeGuard

from hotlap.config.command import CommandConfig
from hotlap.config.document import Document
from hotlap.config.knob_ranges import (
    DEVICE_NAMES,
    LENGTH_NAMES,
    SEED,
    is_total_batch,
    plain_name,
    range_of,
    role_of,
)
from hotlap.config.load import SEARCH
from hotlap.config.schema import RunConfig
from hotlap.config.sweep import written_parameters
from hotlap.config.sweep_constraints import Constraint, parse_constraint
from hotlap.config.sweep_matching import Placed, check_values, read_constraints
from hotlap.config.sweep_names import match_key
from hotlap.config.sweep_parameter import SweepParameter
from hotlap.config.sweep_settings import Remarks
from hotlap.config.wandb_sweep import read_parameters
from hotlap.core.errors import ConfigError

_SEED_KEY: Final = f"params.{SEED}"
_ROWS: Final = "per_device_train_batch_size"
_MOST_PASSES: Final = 256
"""Passes of all devices beyond which a step's batch counts tokens, not rows."""


def knob_roles(config: RunConfig) -> dict[str, str | None]:
    """Return what each knob is by Hugging Face's names; None for one whose name says nothing."""
    command = config.command
    assert command is not None, "roles belong to the knobs of a command"
    return {name: role_of(name) or _role_by_place(command, name) for name in config.params if name != SEED}


def total_batch_knob(config: RunConfig) -> str | None:
    """Return the knob that holds a whole step's batch: rows per device then change nothing of what is learnt."""
    return next((name for name in config.params if is_total_batch(name)), None)


def fits_total_batch(config: RunConfig, rows: int, devices: int | None = None) -> bool:
    """Say whether so many rows per device take a whole step's batch in whole passes, as far as the knobs tell.

    A batch in tokens (by its name, or since it is that large: nanochat calls it total_batch_size, too) is a multiple of
    rows × length × devices. Where no knob has the length, those that divide the present rows are known to fit.
    `devices` are those of a knob where nobody knows better.
    """
    total_knob = total_batch_knob(config)
    total = config.params.get(total_knob or "")
    if total_knob is None or not _is_count(total):
        return True
    now = next((config.params[name] for name, role in knob_roles(config).items() if role == _ROWS), None)
    devices, length = devices or _count_of(config, DEVICE_NAMES) or 1, _count_of(config, LENGTH_NAMES)
    if total % (rows * devices):
        return False
    most_rows = min(length or _MOST_PASSES + 1, _MOST_PASSES + 1) * devices * now if _is_count(now) else math.inf
    if "tokens" not in plain_name(total_knob) and total < most_rows:
        return True
    if length is not None:
        return total % (rows * length * devices) == 0
    return _is_count(now) and now % rows == 0


def _count_of(config: RunConfig, names: tuple[str, ...]) -> int | None:
    """Return the value of the knob with one of some names, where it is a whole number above 0."""
    found = (value for name, value in config.params.items() if plain_name(name) in names)
    return next((value for value in found if _is_count(value)), None)


@dataclass(frozen=True, slots=True)
class KnobSearch:
    """What a study may make of the knobs."""

    parameters: Mapping[str, SweepParameter]
    """By dotted keys; a knob that is not among them stays as it is."""
    constraints: tuple[Constraint, ...] = ()

    def towards(self, key: str, now: Any, value: Any) -> Any:
        """Return a value that a knob may have, the nearest one on the way from `now` to another; None for none."""
        parameter = self.parameters.get(key)
        if parameter is None:
            return None
        if parameter.is_choice:
            return value if parameter.index_of(value) is not None else None
        if not _is_number(value):
            return None
        allowed = nearest(parameter, value)
        is_on_the_way = not _is_number(now) or (allowed - now) * (value - now) > 0
        return allowed if is_on_the_way else None

    def allows(self, config: RunConfig, patch: Mapping[str, Any]) -> bool:
        """Say whether the constraints hold for a config with a patch of its knobs."""
        values = {**{f"params.{name}": value for name, value in config.params.items()}, **patch}
        return all(constraint.holds(values) for constraint in self.constraints)


def knob_search(config: RunConfig) -> KnobSearch:
    """Return what may be varied; where `search` lists knobs, those alone.

    Raises ConfigError with every problem of the section `search`.
    """
    remarks = Remarks(Document({SEARCH: dict(config.search)}, "hotlap.yaml"), (SEARCH,))
    found: dict[str, Placed] = {}
    for place, parameter in written_parameters(config.search, remarks):
        try:
            key = match_key(parameter.key, config)
        except ConfigError as error:
            remarks.refuse(place, str(error))
            continue
        value = config.params.get(key.removeprefix("params."))
        if key in found:
            remarks.refuse(place, f"{key} is there twice; leave one of them out")
        if not parameter.is_choice and not _is_number(value) and key != _SEED_KEY:
            remarks.refuse(place, f"bounds are for numbers, but {key} is {value!r}; write values: […]")
        found[key] = (place, replace(parameter, key=key))
    constraints = read_constraints(config.search.get("constraints"), list(found.values()), config, remarks)
    remarks.check()
    written = {key: parameter for key, (_, parameter) in found.items() if key != _SEED_KEY}
    return KnobSearch(written or dict(_suggested(config)), tuple(map(parse_constraint, constraints)))


def check_search(config: RunConfig) -> None:
    """Raise ConfigError with every problem of the section `search`, values that no knob can have among them."""
    search, remarks = knob_search(config), Remarks(Document({SEARCH: dict(config.search)}, "hotlap.yaml"), (SEARCH,))
    if config.search:
        check_values([((key,), parameter) for key, parameter in search.parameters.items()], config, remarks)
    remarks.check()


def nearest(parameter: SweepParameter, value: float) -> Any:
    """Return the allowed number that is nearest to one."""
    low, high = ends(parameter)
    bounded = min(max(value, low), high)
    if parameter.distribution == "int_uniform":
        return round(bounded)
    return bounded if parameter.step is None else parameter.value_at(parameter.position_of(bounded))


def ends(parameter: SweepParameter) -> tuple[float, float]:
    """Return the least and the largest number of a parameter; of one without bounds what it rarely goes beyond."""
    if parameter.low is not None and parameter.high is not None:
        return parameter.low, parameter.high
    values = parameter.typical_values()
    return float(values[0]), float(values[-1])


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _suggested(config: RunConfig) -> Iterator[tuple[str, SweepParameter]]:
    """Yield the bounds that names suggest; none for knobs of which nothing is known."""
    spaces = {
        f"params.{name}": range_of(role or name, config.params[name]) for name, role in knob_roles(config).items()
    }
    known: Mapping[str, Any] = {key: space for key, space in spaces.items() if space is not None}
    for _, parameter in read_parameters(known, (), Remarks(Document({}, "hotlap.yaml"))):
        yield parameter.key, parameter


def _role_by_place(command: CommandConfig, knob: str) -> str | None:
    for keys in (*command.files.values(), *command.constants.values()):
        for key, name in keys.items():
            if name == knob and (role := role_of(key)):
                return role
    return None
