"""How fast steps were before a study began to search: what a small bench measured, as its ledger keeps it.

speed.ratio({"training.bf16": False}, {"training.bf16": True})   # seconds per step, relative to before
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class SpeedCell:
    """One combination of settings, and the median seconds of its steps."""

    settings: Mapping[str, Any]
    """Dotted keys; the same ones in every cell."""
    seconds_per_step: float


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """What a study's bench found; without cells where it could measure none."""

    bench: str
    """Id of the bench whose folder has the details."""
    seconds: float = 0.0
    """Wall seconds of the study that it took."""
    cells: tuple[SpeedCell, ...] = ()

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Self:
        """Return what a ledger's event `speed` tells of."""
        cells = (SpeedCell(dict(cell["settings"]), float(cell["seconds_per_step"])) for cell in event.get("cells", ()))
        return cls(str(event["bench"]), float(event.get("seconds", 0.0)), tuple(cells))

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings that were varied."""
        return tuple(self.cells[0].settings) if self.cells else ()

    def ratio(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
        """Return the step time of one combination relative to another's; None where one of them was not measured."""
        seconds = [self._seconds(settings) for settings in (before, after)]
        if seconds[0] is None or seconds[1] is None:
            return None
        return seconds[1] / seconds[0]

    def _seconds(self, settings: Mapping[str, Any]) -> float | None:
        for cell in self.cells:
            if all(settings.get(key) == value for key, value in cell.settings.items()):
                return cell.seconds_per_step if math.isfinite(cell.seconds_per_step) else None
        return None
