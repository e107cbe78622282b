"""What a search optimises, in the words that reading, searching, judging and telling of it share."""

from typing import Final, Literal

Goal = Literal["minimize", "maximize"]

TIME_TO_TARGET: Final = "time_to_target"
"""The metric of a search for the least time to the targets of its config."""
FAILURES: Final = ("diverged", "out_of_memory", "crashed", "invalid")
"""Outcomes that the config is to blame for."""
FAILED_SPREADS: Final = 0.5
"""A failed run is worse than the worst by so much of the distance between the best and the worst."""
