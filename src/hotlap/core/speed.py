"""How fast steps were before a study began to search: what a small bench measured, as its ledger keeps it.

speed.ratio({"training.bf16": False}, {"training.bf16": True})   # seconds per step, relative to before
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


def setting_text(value: Any) -> str:
    """Return a measured value for a reader; what is not set is chosen by hotlap, or by the command whose knob it is."""
    return "auto" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class SpeedCell:
    """One combination of settings, and the median seconds of its steps."""

    settings: Mapping[str, Any]
    """Dotted keys; the same ones in every cell."""
    seconds_per_step: float
    uncertainty: float = 0.0
    """Half-width of its 95 % interval, as a share of it."""


@dataclass(frozen=True, slots=True)
class FailedCell:
    """One combination of settings that could not be measured."""

    settings: Mapping[str, Any]
    outcome: str
    """What a repeat of a bench says, or `untold`: it ran, but its output told no step times."""


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """What a study's bench found; without cells where it could measure none."""

    bench: str
    """Id of the bench whose folder has the details."""
    seconds: float = 0.0
    """Wall seconds of the study that it took."""
    cells: tuple[SpeedCell, ...] = ()
    failed: tuple[FailedCell, ...] = ()
    """Without the settings of the config: those are tried anyway. Empty in ledgers older than the field."""

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Self:
        """Return what a ledger's event `speed` tells of."""
        cells = (
            SpeedCell(dict(cell["settings"]), float(cell["seconds_per_step"]), float(cell.get("uncertainty", 0.0)))
            for cell in event.get("cells", ())
        )
        failed = (FailedCell(dict(cell["settings"]), str(cell["outcome"])) for cell in event.get("failed", ()))
        return cls(str(event["bench"]), float(event.get("seconds", 0.0)), tuple(cells), tuple(failed))

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings that were varied."""
        return tuple(self.cells[0].settings) if self.cells else ()

    def ratio(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
        """Return the step time of one combination relative to another's; None where one of them was not measured."""
        one, other = self._cell(before), self._cell(after)
        return None if one is None or other is None else other.seconds_per_step / one.seconds_per_step

    def noise(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
        """Return the share by which two combinations have to differ to be told apart; 0 where nobody knows."""
        found = (self._cell(before), self._cell(after))
        return math.hypot(*(cell.uncertainty for cell in found if cell is not None))

    def _cell(self, settings: Mapping[str, Any]) -> SpeedCell | None:
        for cell in self.cells:
            if all(settings.get(key) == value for key, value in cell.settings.items()):
                return cell if math.isfinite(cell.seconds_per_step) else None
        return None
