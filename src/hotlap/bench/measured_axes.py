"""What the axes of a bench are: how much work a step has, how it is done, or what is learnt; and how much each matters.

axes = measured_axes_of(cells, base)
[(effect.axis.key, effect.ratio) for effect in effects_of(cells, axes, noise)]
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hotlap.bench.cells import Cell, Noise
from hotlap.bench.setting_names import Role, role_of

_SAME_STEPS: Final = (frozenset({"adamw_torch", "adamw_torch_fused", "adamw_torch_npu_fused"}),)
"""Values of `optim` that compute the same."""
_PACKED: Final = "packed"
"""The `padding` with which a step has more examples: another step."""


@dataclass(frozen=True, slots=True)
class MeasuredAxis:
    """A setting that a bench varies."""

    key: str
    role: Role
    values: tuple[Any, ...]
    """Those that it was to be measured at, numbers in their order."""
    base: Any
    """What the config has; None where it has nothing, which is also the value of a setting that is off."""

    @property
    def name(self) -> str:
        """The key without its section."""
        return self.key.rsplit(".", maxsplit=1)[-1]

    @property
    def is_number(self) -> bool:
        """Whether the values are positive numbers that can be put between and beyond one another."""
        return all(is_number(value) and value > 0 for value in self.values)

    @property
    def is_free(self) -> bool:
        """Whether a suggestion may choose its value: the same is learnt with each, or the batch is what is asked."""
        known = [value for value in (*self.values, self.base) if value is not None]
        if self.name == "optim":
            return any(all(value in group for value in known) for group in _SAME_STEPS)
        if self.name == "padding":
            return _PACKED not in known
        return self.role in ("batch", "devices", "how")


class Effect(NamedTuple):
    """How much an axis matters for the throughput."""

    axis: MeasuredAxis
    ratio: float
    """Throughput at its best value over that at its worst, everything else equal; geometric mean over the rest."""
    low: float
    """Smallest such ratio at any setting of the others."""
    high: float
    """Largest such ratio."""
    best: Any
    """Value that is best on average."""
    worst: Any
    is_visible: bool
    """Whether that is more than the noise."""
    is_everywhere: bool
    """Whether the best value is so at every setting of the others."""


def measured_axes_of(cells: Iterable[Cell], base: Mapping[str, Any]) -> tuple[MeasuredAxis, ...]:
    """Return the settings that differ between cells; `base` has the config's own values by dotted key."""
    values: dict[str, list[Any]] = {}
    for cell in cells:
        for key, value in cell.settings.items():
            known = values.setdefault(key, [])
            if not any(same(value, other) for other in known):
                known.append(value)
    return tuple(
        MeasuredAxis(key, role_of(key), _in_order(found), base.get(key))
        for key, found in values.items()
        if len(found) > 1
    )


def _in_order(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(sorted(values)) if all(map(is_number, values)) else tuple(values)


def is_number(value: Any) -> bool:
    """Say whether a value is a number that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def same(one: Any, other: Any) -> bool:
    """Say whether two values of a setting are the same; True is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def agrees(settings: Mapping[str, Any], wanted: Mapping[str, Any], *, but: str = "") -> bool:
    """Say whether settings have all wanted values, that of one key left out."""
    return all(key == but or same(settings.get(key), value) for key, value in wanted.items())


def axis_with(axes: Iterable[MeasuredAxis], role: Role) -> MeasuredAxis | None:
    """Return the first axis of a role."""
    return next((axis for axis in axes if axis.role == role), None)


def place_of(cell: Cell, axes: Iterable[MeasuredAxis]) -> Hashable:
    """Return the values of some axes in a cell, to group cells by."""
    return tuple((type(value := cell.settings.get(axis.key)).__name__, str(value)) for axis in axes)


def groups(cells: Iterable[Cell], axes: Sequence[MeasuredAxis], *without: str) -> list[list[Cell]]:
    """Return the cells that are equal in all axes but some, given by their keys."""
    found: dict[Hashable, list[Cell]] = defaultdict(list)
    kept = [axis for axis in axes if axis.key not in without]
    for cell in cells:
        found[place_of(cell, kept)].append(cell)
    return list(found.values())


def effects_of(
    cells: Sequence[Cell],
    axes: Sequence[MeasuredAxis],
    noise: Noise,
    pay: Callable[[Cell], float] = lambda cell: cell.pay,
) -> tuple[Effect, ...]:
    """Return how much each axis matters, the weightiest first; only cells equal in everything else are compared."""
    measured = [cell for cell in cells if cell.is_measured]
    effects = [effect for axis in axes if (effect := _effect(measured, axes, axis, noise, pay)) is not None]
    return tuple(sorted(effects, key=lambda effect: -effect.ratio))


def _effect(
    measured: Sequence[Cell],
    axes: Sequence[MeasuredAxis],
    axis: MeasuredAxis,
    noise: Noise,
    pay: Callable[[Cell], float],
) -> Effect | None:
    logs: list[dict[int, float]] = []
    repeats = []
    for group in groups(measured, axes, axis.key):
        known = {_number(axis, cell): math.log(pay(cell)) for cell in group}
        if len(known) > 1:
            logs.append(known)
            repeats += [cell.num_repeats for cell in group]
    if not logs:
        return None
    level = _levels(logs, len(axis.values))
    best, worst = max(level, key=lambda number: level[number]), min(level, key=lambda number: level[number])
    ranges = [max(known.values()) - min(known.values()) for known in logs]
    ratio = level[best] - level[worst]
    visible = math.sqrt(2 / len(logs)) * noise.uncertainty(min(repeats))
    return Effect(
        axis,
        math.exp(ratio),
        math.exp(min(ranges)),
        math.exp(max(ranges)),
        axis.values[best],
        axis.values[worst],
        ratio > visible,
        all(known[best] == max(known.values()) for known in logs if best in known),
    )


def _number(axis: MeasuredAxis, cell: Cell) -> int:
    value = cell.settings.get(axis.key)
    return next(number for number, other in enumerate(axis.values) if same(value, other))


def _levels(groups_of_logs: Sequence[Mapping[int, float]], num_values: int) -> dict[int, float]:
    """Return the mean log throughput of each value of an axis, as if every group had all of them.

    Groups are shifted to fit one another (alternating least squares): a value that was measured only where everything
    is slow does not look slow for it.
    """
    level = dict.fromkeys((n for n in range(num_values) if any(n in known for known in groups_of_logs)), 0.0)
    for _ in range(50):
        shifts = [sum(known[n] - level[n] for n in known) / len(known) for known in groups_of_logs]
        for n in level:
            gaps = [known[n] - shift for known, shift in zip(groups_of_logs, shifts, strict=True) if n in known]
            level[n] = sum(gaps) / len(gaps)
    return level
