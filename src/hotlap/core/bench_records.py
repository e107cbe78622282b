"""What a bench measures: one record for every repeat of every cell of its grid.

A **cell** is one combination of the axes' values; a **repeat** is one process that measured it. The training side
writes the record, the lab side keeps it as a line of `cells.jsonl` and computes every figure from these lines.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, Self, get_args

CellOutcome = Literal["measured", "out_of_memory", "timed_out", "failed"]
CELL_OUTCOMES: Final[tuple[str, ...]] = get_args(CellOutcome)
STEP_PARTS: Final = ("waiting", "data", "forward", "backward", "optimizer")
"""The parts of a step that hotlap's own trainer tells apart, in the order in which they happen."""
PRODUCTS: Final = ("matmul", "attention")
"""The kinds of operators that multiply matrices: what the arithmetic of a model is."""


@dataclass(frozen=True, slots=True)
class CellRepeat:
    """One cell, measured once in a process of its own, or why it could not be."""

    cell: int
    """Number of the combination in the grid, from 0."""
    repeat: int
    """Number of the measurement of this cell, from 0."""
    settings: Mapping[str, Any]
    """The axes only: dotted config keys (`params.X` for a knob of a command) and the cell's values."""
    outcome: CellOutcome
    message: str = ""
    """Why there is no measurement, or what is to be known about it."""
    step_seconds: tuple[float, ...] = ()
    """Seconds of each measured optimizer step, first to last."""
    startup_seconds: float = 0.0
    """Imports, data and building, until the first step could begin."""
    warmup_seconds: float = 0.0
    """Compilation and the steps that are not measured."""
    samples_per_step: float = 0.0
    """Examples (rows) of an optimizer step, on all devices together; a mean where steps differ."""
    samples_by: str = ""
    """How somebody else's command has its examples counted, or why it has not; empty for hotlap's own trainer."""
    tokens_per_step: float = 0.0
    """Input tokens of a step without padding, on all devices together."""
    slots_per_step: float = 0.0
    """Places of the step's batches, padding included, on all devices together."""
    seconds_by_part: Mapping[str, float] = field(default_factory=dict)
    """Mean seconds per step by `STEP_PARTS`; empty for somebody else's command."""
    peak_memory_bytes: int | None = None
    """Highest use of memory: of the GPU, on a CPU of the process; of one device. None where nobody measured it."""
    flops_per_step: float | None = None
    """Model FLOPs of a step on all devices: 6 per weight of a Linear and token plus attention; padding counts 0."""
    matmul_flops: float | None = None
    """FLOP/s of a large matrix product (2048 rows on a CPU) in the run's number format, measured in this process."""
    peak_flops: float | None = None
    """FLOP/s that the maker of the GPU states for that format, for one device; None where it is not known."""
    device: str = ""
    """Name of the device: of the GPU, or of the CPU."""
    num_devices: int = 1
    threads: int = 1
    """Threads that one process computes with."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """Figures for the verdict on what bounds the step (counts, shares and seconds, units in their names)."""

    @property
    def is_measured(self) -> bool:
        """Whether there are step times."""
        return self.outcome == "measured"

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; `from_json` reads it back."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("settings", "seconds_by_part", "evidence"):
            plain[name] = dict(plain[name])
        return {**plain, "step_seconds": list(self.step_seconds)}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Return the record of a line; keys that are missing get their defaults, unknown ones are left out.

        Raises ValueError for a line without cell, repeat or settings, or with an unknown outcome.
        """
        missing = [name for name in ("cell", "repeat", "settings", "outcome") if name not in line]
        if missing:
            raise ValueError(
                f"a line of cells.jsonl needs {', '.join(missing)}, got only {', '.join(line) or 'nothing'}"
            )
        if line["outcome"] not in CELL_OUTCOMES:
            raise ValueError(f"outcome {line['outcome']!r} is none of {', '.join(CELL_OUTCOMES)}")
        known = {each.name: line[each.name] for each in fields(cls) if each.name in line}
        return cls(**{**known, "step_seconds": tuple(map(float, line.get("step_seconds") or ()))})


def median(values: Sequence[float]) -> float:
    """Return the median; not a number for no values."""
    if not values:
        return math.nan
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
