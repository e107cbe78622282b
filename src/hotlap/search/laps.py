"""What a running screen is held against, and what is known of it: the two things that the kill rules read."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from hotlap.core.clock import ClockName
from hotlap.core.targets import Target
from hotlap.search.curves import Curve, Plan, Point, Scale


class Rung(NamedTuple):
    """A reading at which a screen has to be among the better runs so far."""

    seconds: float
    entries: tuple[tuple[float, float], ...]
    """Gap and share of the planned horizon of each earlier candidate there."""
    incumbent_gap: float
    """Gap of the incumbent's worst run there; minus infinity without one."""
    noise: float
    """Distance between the incumbent's best and worst run there."""


class Allowance(NamedTuple):
    """What a run is believed to make up on the incumbent from one check on, at most."""

    seconds: float
    """Reading at which a run is checked."""
    log_ratio: float
    seen: float = math.nan
    """The most that a run that reached has made up from there; not a number where too few runs tell."""
    runs: int = 0
    """How many runs tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceContext:
    """What a running screen is held against."""

    clock: ClockName
    incumbent_seconds: float
    """Median time to target; infinite where the incumbent mostly misses."""
    pass_seconds: float
    """Time to target that passes the screen; infinite without an incumbent time."""
    cap_seconds: float
    """Reading after which a screen cannot pass any more; infinite without an incumbent time."""
    incumbent_curve: Curve = Curve()  # noqa: RUF009 - a tuple of tuples
    """The incumbent's slowest run that reached."""
    sigma: float = 0.05
    initial_loss: float = math.inf
    """eval_loss at the baseline's first evaluation; infinite when unknown."""
    targets: tuple[Target, ...] = ()
    exempt_until: float = 0.0
    """Fraction of the incumbent's time before which a slow start is normal for this family."""
    minimum_tokens: float = 0.0
    """Fewest tokens in which any run reached; 0 when none did."""
    reference_seconds: float = math.inf
    """The incumbent's time, or how long it went on without reaching."""
    limit_seconds: float = math.inf
    """Reading at which the run is ended by its budget."""
    scale: Scale = Scale()  # noqa: RUF009 - frozen
    plan: Plan = Plan()  # noqa: RUF009 - frozen
    envelope: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    """Shares of the planned horizon, and the worst gap there of the runs that reached late in their schedules."""
    allowances: tuple[Allowance, ...] = ()
    """What may be made up from each check on, in the order of the clock."""
    trusts_extrapolation: bool = False
    """Whether extrapolating the runs that reached never promised more time than they took."""
    rungs: tuple[Rung, ...] = ()
    doubtful: frozenset[str] = frozenset()
    """Rules that a replay has seen stopping a run that passed; they stop nothing."""


@dataclass(slots=True)
class Lap:
    """What is known of a running screen."""

    context: RaceContext
    curve: Curve
    first: Point = field(default_factory=dict)
    last: Point = field(default_factory=dict)
    evaluation: Point = field(default_factory=dict)
    """The last evaluation."""
    first_losses: dict[str, float] = field(default_factory=dict)
    last_losses: dict[str, float] = field(default_factory=dict)
    """Latest train_loss and eval_loss."""
    not_finite: str = ""
    """Which figure was no number, and when."""
    lags: dict[float, float] = field(default_factory=dict)
    """What was still to be made up on the incumbent, as a log ratio, by the check."""
    crossings: dict[float, float] = field(default_factory=dict)
    """Earliest crossing by the check at which it was extrapolated."""
    passed_rungs: set[float] = field(default_factory=set)

    @property
    def reading(self) -> float:
        """Last reading of the judged clock, in seconds."""
        return float(self.last.get(f"{self.context.clock}_seconds", 0.0))

    @property
    def is_exempt(self) -> bool:
        """Whether the family's slow start is not over."""
        return self.reading < self.context.exempt_until * self.context.reference_seconds

    def take(self, point: Point) -> None:
        """Note what the rules ask of a point, but for the curve."""
        self.first = self.first or point
        self.last = point
        for name in ("train_loss", "eval_loss", "grad_norm"):
            value = point.get(name)
            if value is None:
                continue
            if not math.isfinite(value):
                self.not_finite = self.not_finite or f"{name} is {value} at step {point.get('step', '?')}"
            elif name != "grad_norm":
                self.first_losses.setdefault(name, value)
                self.last_losses[name] = value
