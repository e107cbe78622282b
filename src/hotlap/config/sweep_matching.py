"""Hold the parameters of a sweep against the config that its runs start from: names, conditions, values, constraints.

Everything that is wrong becomes a remark with its place; nothing is raised here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hotlap.config.load import config_from_values, get_dotted, refuse_protocol_keys
from hotlap.config.schema import RunConfig
from hotlap.config.sweep_constraints import parse_constraint
from hotlap.config.sweep_names import match_key, translated, translated_value
from hotlap.config.sweep_parameter import SweepParameter, is_same
from hotlap.config.sweep_settings import Method, Remarks
from hotlap.config.trainer_yaml import KeyPath
from hotlap.core.errors import ConfigError

Placed = tuple[KeyPath, SweepParameter]
"""A parameter, and where it stands in the file."""

_IDLE: Final[Mapping[str, tuple[str, float]]] = {
    "training.num_train_epochs": ("training.max_steps", -1),
    "training.warmup_ratio": ("training.warmup_steps", 0),
}
"""Settings that say nothing unless another one has this value."""
_PATCHED: Final = "the patched config: "


def matched(
    found: Sequence[Placed], base: RunConfig, remarks: Remarks
) -> tuple[list[Placed], RunConfig, dict[str, Any]]:
    """Return the parameters under the config's keys, the config with what is the same for every run, and this by key.

    A constant goes into the config, so that the baseline has it, too; only where the config does not take it without
    other parameters it stays one. What belongs to the measurement (a seed, a budget) may not vary.
    """
    kept: list[Placed] = []
    constants: list[Placed] = []
    for place, written in found:
        parameter = translated(written, place, remarks) if base.command is None else written
        if parameter is None:
            continue
        try:
            parameter = replace(parameter, key=match_key(parameter.key, base))
        except ConfigError as error:
            remarks.refuse(place, str(error))
            continue
        if any(parameter.key == other.key for _, other in (*kept, *constants)):
            remarks.refuse(place, f"{parameter.key} is there twice; leave one of them out")
            continue
        reason = _protocol_reason(parameter.key)
        if parameter.distribution == "constant" and not parameter.when and not reason:
            constants.append((place, parameter))
        elif not reason:
            kept.append((place, parameter))
        elif parameter.is_choice and len(parameter.values) == 1:
            base = _with_constant(base, place, parameter, remarks)
        else:
            remarks.refuse(place, f"{reason}; one value for all runs may stand there")
    left, base = _with_constants(base, constants, remarks)
    _refuse_idle([*kept, *constants], base, remarks)
    values = base.model_dump(mode="json")
    fixed = {each.key: value_in(values, each.key) for place, each in constants if (place, each) not in left}
    return [(place, _canonical(parameter, values)) for place, parameter in [*left, *kept]], base, fixed


def linked(found: Sequence[Placed], base: RunConfig | None, remarks: Remarks, fixed: Mapping[str, Any]) -> list[Placed]:
    """Return the parameters with the keys of their conditions matched, each one behind those that it depends on.

    `fixed` are the constants that went into the config: a condition on one of them always holds, or never.
    """
    parents = {parameter.key: parameter for _, parameter in found}
    waiting = [
        (place, replace(parameter, when=dict(_conditions(place, parameter, {**fixed, **parents}, base, remarks))))
        for place, parameter in found
    ]
    done: list[Placed] = []
    while waiting:
        known = {parameter.key for _, parameter in done}
        ready = next((each for each in waiting if each[1].when.keys() <= known), None)
        if ready is None:
            for place, parameter in waiting:
                remarks.refuse((*place, "when"), f"{parameter.key} depends on itself, over {', '.join(parameter.when)}")
            return [*done, *waiting]
        waiting.remove(ready)
        done.append(ready)
    return done


def check_values(found: Sequence[Placed], base: RunConfig, remarks: Remarks) -> None:
    """Refuse values that the schema refuses; note those that only go together with other values than the config's."""
    values = base.model_dump(mode="json")
    for place, parameter in found:
        conditions = {key: allowed[0] for key, allowed in parameter.when.items()}
        for value in parameter.typical_values():
            own, together = _schema_problems(values, {**conditions, parameter.key: value}, parameter.key)
            if own:
                hint = "" if parameter.is_choice or "integer" not in own else "; for whole numbers write int_uniform"
                remarks.refuse(place, f"{own}{hint}")
                break
            if together:
                text = (
                    f"{value!r} does not go with the rest of the config ({together}); combinations that fit are tried"
                )
                remarks.note(place, text)


def check_method(method: Method, found: Sequence[Placed], remarks: Remarks) -> None:
    """Refuse or note what a method makes nothing of."""
    for place, parameter in found:
        if method == "grid" and not parameter.is_countable:
            text = f"a grid cannot go through {parameter.distribution}; write values, int_uniform or q_uniform"
            remarks.refuse(place, text)
        if parameter.probabilities is not None and method == "grid":
            remarks.refuse(place, "a grid takes each value once; leave probabilities out")
        if parameter.probabilities is not None and method == "tpe":
            remarks.note(
                place, "probabilities count where a proposal is drawn at random: the first ones, and every sixth"
            )
    numbers = sum(not parameter.is_choice and not parameter.when for _, parameter in found)
    if method == "cmaes" and numbers < 2:
        remarks.refuse(("method",), f"cmaes needs at least 2 numbers that are always there, got {numbers}; write bayes")


def read_constraints(given: Any, found: Sequence[Placed], base: RunConfig | None, remarks: Remarks) -> tuple[str, ...]:
    """Return the constraints with the config's keys; each speaks of parameters, or of settings that are numbers."""
    if given is None:
        return ()
    if not isinstance(given, list):
        remarks.refuse(("constraints",), f"expected a list such as [training.warmup_steps < 100], got {given!r}")
        return ()
    varied = {parameter.key for _, parameter in found}
    values = {} if base is None else base.model_dump(mode="json")
    read: list[str] = []
    for number, text in enumerate(given):
        try:
            constraint = parse_constraint(text)
            keys = {name: name if base is None else match_key(name, base) for name in constraint.names}
            for key in keys.values():
                value = value_in(values, key)
                if key not in varied and (isinstance(value, bool) or not isinstance(value, int | float)):
                    raise ConfigError(f"{key} is neither a parameter of the search nor a number, but {value!r}")
            read.append(str(constraint.renamed(keys)))
        except ConfigError as error:
            remarks.refuse(("constraints", number), str(error))
    return tuple(read)


def value_in(values: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, None where there is none."""
    try:
        return get_dotted(values, key)
    except (KeyError, TypeError):
        return None


def _conditions(
    place: KeyPath,
    parameter: SweepParameter,
    parents: Mapping[str, Any],
    base: RunConfig | None,
    remarks: Remarks,
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the conditions of a parameter under the config's keys and with its values.

    `parents` are the other parameters by key, and the values of constants.
    """
    for name, allowed in parameter.when.items():
        where = (*place, "when", name)
        try:
            key = name if base is None else match_key(name, base)
        except ConfigError as error:
            remarks.refuse(where, str(error))
            continue
        parent = parents.get(key)
        is_fixed = key in parents and not isinstance(parent, SweepParameter)
        known = [parent] if is_fixed else list(parent.values) if parent is not None and parent.is_choice else []
        if not known:
            remarks.refuse(where, f"{key} is no parameter of this search that has values")
            continue
        meant = allowed if base is None else tuple(_meant(key, value, base) for value in allowed)
        held = [value for value in meant if any(is_same(value, each) for each in known)]
        unknown = [value for value in meant if value not in held]
        if unknown and not (is_fixed and held):
            remarks.refuse(where, f"{key} is never {unknown[0]!r}; its values are {known}")
        elif not is_fixed:
            yield key, meant


def _protocol_reason(key: str) -> str:
    """Return why a setting may not vary between the runs of a study; empty for one that may."""
    try:
        refuse_protocol_keys({key: None})
    except ConfigError as error:
        return str(error)
    return ""


def _with_constant(base: RunConfig, place: KeyPath, parameter: SweepParameter, remarks: Remarks) -> RunConfig:
    try:
        changed = config_from_values(base.model_dump(mode="json"), {parameter.key: parameter.values[0]})
    except ConfigError as error:
        remarks.refuse(place, str(error).rpartition(_PATCHED)[2])
        return base
    remarks.note(place, f"{parameter.key} is {parameter.values[0]!r} for every run")
    return changed


def _with_constants(base: RunConfig, constants: Sequence[Placed], remarks: Remarks) -> tuple[list[Placed], RunConfig]:
    """Return the constants that the config does not take as it is, and the config with the others."""
    left = list(constants)
    for group in ([*constants], *([each] for each in constants)):  # all at once: some go only together
        patch = {parameter.key: parameter.values[0] for _, parameter in group}
        if not patch or any(each not in left for each in group):
            continue
        try:
            base = config_from_values(base.model_dump(mode="json"), patch)
        except ConfigError:
            continue  # check_values says why, or that it goes together with other parameters
        left = [each for each in left if each not in group]
        for place, parameter in group:
            remarks.note(place, f"{parameter.key} is {parameter.values[0]!r} for every run")
    return left, base


def _refuse_idle(found: Sequence[Placed], base: RunConfig, remarks: Remarks) -> None:
    """Refuse what has no effect in any run."""
    values = base.model_dump(mode="json")
    varied = {parameter.key: parameter for _, parameter in found if parameter.distribution != "constant"}
    for place, parameter in found:
        other, needed = _IDLE.get(parameter.key, ("", 0.0))
        parent = varied.get(other)
        if not other or (parent is not None and (parent.when or parent.can_be(needed))):
            continue
        value = value_in(values, other)
        if parent is not None:
            remarks.refuse(place, f"has no effect, since {other} is never {needed:g}; vary one of the two")
        elif value != needed:
            remarks.refuse(place, f"has no effect while {other} is {value}; write -s {other}={needed:g}")


def _canonical(parameter: SweepParameter, values: Mapping[str, Any]) -> SweepParameter:
    """Return a parameter with its texts as the config holds them: a number or truth value in quotes is one."""
    if not parameter.is_choice:
        return parameter
    meant = tuple(_as_held(values, parameter.key, value) for value in parameter.values)
    try:
        return replace(parameter, values=meant)
    except ValueError:  # '1' beside 1, say: check_values has nothing against either, and both may stay
        return parameter


def _meant(key: str, value: Any, base: RunConfig) -> Any:
    return _as_held(base.model_dump(mode="json"), key, translated_value(key, value))


def _as_held(values: Mapping[str, Any], key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return value_in(config_from_values(values, {key: value}).model_dump(mode="json"), key)
    except ConfigError:
        return value  # check_values says what is wrong with it


def _schema_problems(values: Mapping[str, Any], patch: Mapping[str, Any], key: str) -> tuple[str, str]:
    """Return what the schema has against a key's value, and against the values together; empty where nothing."""
    try:
        config_from_values(values, patch)
    except ConfigError as error:
        rows = [row.partition(_PATCHED)[2] for row in str(error).splitlines()[1:]]
        own = [row for row in rows if row.startswith((f"{key}:", f"{key}."))]
        if own or not rows:
            return (own[0].partition(": ")[2] if own else str(error)), ""
        return "", rows[0]
    return "", ""
