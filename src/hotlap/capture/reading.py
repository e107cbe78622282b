"""What somebody else's log says at once, and what one line of it was found to hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hotlap.capture.printed import Number

CLOCK = "clock"
"""Stands for the command's own clock among the doubts of a reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The metrics that a command has told at once."""

    step: int | None = None
    """The step they belong to; None where the line does not say it."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """By the names that the command prints; a number that is not finite stays in it."""
    clock_seconds: float | None = None
    """The command's own clock: seconds of training so far; None where it has none."""
    decimals: Mapping[str, int] = field(default_factory=dict)
    """Digits after the point that a metric was printed with; a metric that is not in it has all of its digits."""
    source: str = ""
    """The form of the line, such as `json`, or the file that it stands in."""
    at_seconds: float | None = None
    """When its line arrived, as `feed` was told; that may be a little before the call that returns the reading.

    A figure from a file that gives more digits to one that was printed has the time of the printed line. None for
    other figures from files.
    """
    unix_seconds: float | None = None
    """When the command wrote it down, by its own account, in seconds since 1970; None where it does not say."""
    doubts: Mapping[str, str] = field(default_factory=dict)
    """Metrics that are not to be believed, or `clock`, each with the reason in a sentence."""


@dataclass(slots=True, kw_only=True)
class Found:
    """What was found in a line or in an entry of a file, before anything is known of the lines around it."""

    source: str
    numbers: dict[str, Number]
    step: int | None = None
    is_step_told: bool = True
    """Whether the step stands in the line itself, and not in a progress bar or a line before it."""
    unix_seconds: float | None = None
    is_last_word: bool = False
    """Whether it comes from a file that has all digits, so that what is printed of the same metric says less."""
