"""Names of runs on the command line: `r0042`, `r42`, `42`, `@last`, `@baseline`, `@best`."""

import math
import re
from collections.abc import Sequence
from typing import Final

from hotlap.core.errors import ConfigError, unknown_name
from hotlap.core.study_folder import REPLAY_SIGN
from hotlap.runs.rows import StoredRun

ALIASES: Final = {
    "@last": "the newest run",
    "@baseline": "the newest study's first baseline that reached the target (else its first baseline)",
    "@best": "the newest study's fastest run to target",
}
_SHORT_ID = re.compile(r"r?0*(\d+)")


def resolve_id(name: str, known: Sequence[str]) -> str:
    """Return the run id that a name stands for.

    Raises ConfigError when there is no such run.
    """
    match = _SHORT_ID.fullmatch(name.strip().lower())
    run_id = f"r{int(match[1]):04}" if match else name
    if run_id in known:
        return run_id
    there_are = f"there are {known[0]} to {known[-1]}" if known else "there are none yet"
    raise ConfigError(f"unknown run {name!r}; {there_are} and {', '.join(ALIASES)}")


def resolve_alias(name: str, runs: Sequence[StoredRun]) -> StoredRun:
    """Return the run that an alias stands for; runs that belong to no study count only when there is no other.

    Raises ConfigError for an unknown alias, and when no run fits a known one.
    """
    if name not in ALIASES:
        raise unknown_name("alias", name, ALIASES)
    studies = [run.study for run in runs if run.study and REPLAY_SIGN not in run.study]
    candidates = list(runs) if name == "@last" or not studies else [run for run in runs if run.study == studies[-1]]
    if name == "@baseline":
        candidates = [run for run in candidates if run.role == "baseline"]
        candidates.sort(key=lambda run: not math.isfinite(run.time_to_target))  # stable: the first that reached
    elif name == "@best":
        candidates = [run for run in candidates if math.isfinite(run.time_to_target) and not run.contaminated]
        candidates.sort(key=lambda run: run.time_to_target)
    elif name == "@last":
        candidates = candidates[-1:]
    if not candidates:
        raise ConfigError(f"{name} ({ALIASES[name]}): there is no such run yet")
    return candidates[0]
