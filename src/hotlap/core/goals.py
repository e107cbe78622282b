"""Goals: how fast a study wants to get before it stops, such as `10x` or `20s`."""

import re
from dataclasses import dataclass

from hotlap.core.durations import format_seconds, parse_seconds
from hotlap.core.errors import ConfigError

_FACTOR = re.compile(r"(\d+(?:\.\d+)?)\s*[x×]")
_BARE_NUMBER = re.compile(r"[-+]?[\d.]+")
_FORMS = "write 10x (ten times sooner than the baseline), 0.1x (a tenth of its time) or a time to target such as 20s"


@dataclass(frozen=True, slots=True)
class Goal:
    """A time to target that is fast enough: a share of the baseline's, or seconds. One of the two is given."""

    share: float | None = None
    seconds: float | None = None

    def limit_seconds(self, baseline_seconds: float) -> float:
        """Return the longest time to target that reaches the goal."""
        if self.seconds is not None:
            return self.seconds
        assert self.share is not None
        return self.share * baseline_seconds

    def __str__(self) -> str:
        return f"{1 / self.share:.4g}x" if self.share is not None else format_seconds(self.seconds or 0.0)


def parse_goal(text: str) -> Goal:
    """Read `10x`, `0.1x` (the same as a share of the baseline's time) or a duration with its unit.

    Raises ConfigError for anything else, also for a bare number, which could mean either.
    """
    cleaned = text.strip().lower()
    if match := _FACTOR.fullmatch(cleaned):
        factor = float(match[1])
        if factor in (0.0, 1.0):
            raise ConfigError(f"the goal {text!r} is no goal; {_FORMS}")
        return Goal(share=factor if factor < 1 else 1 / factor)
    if _BARE_NUMBER.fullmatch(cleaned):
        raise ConfigError(f"the goal {text!r} has no unit; {_FORMS}")
    try:
        seconds = parse_seconds(cleaned)
    except ValueError:
        raise ConfigError(f"cannot read the goal {text!r}; {_FORMS}") from None
    if not seconds > 0:
        raise ConfigError(f"the goal {text!r} is no time; {_FORMS}")
    return Goal(seconds=seconds)
