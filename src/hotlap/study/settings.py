"""What a study may spend, and what it asks of a result."""

from dataclasses import dataclass
from typing import Final

from hotlap.config.bounds import check_search
from hotlap.config.schema import RunConfig
from hotlap.core.clock import ClockName
from hotlap.core.errors import ConfigError
from hotlap.core.goals import Goal, parse_goal
from hotlap.search.record import check_record_plan

DEFAULT_PATIENCE: Final = 12
PATIENCE_SHARE: Final = 0.25
"""Share of the budget that goes by without a keep before a study whose user named no patience loses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """What a study may spend and what it asks of a result."""

    clock: ClockName = "train"
    total_seconds: float = 3600.0
    """Longest study, wall clock."""
    run_seconds: float = 900.0
    """Longest run, on the judged clock."""
    calibrate_runs: int = 3
    record_runs: int = 4
    alpha: float = 0.05
    patience: int = DEFAULT_PATIENCE
    """Proposals in a row without a keep after which the search ends, once they have also taken `patience_seconds`."""
    patience_seconds: float = 0.0
    """Wall seconds, since where runs are short a dozen of them is soon tried; 0 where the user named a patience."""
    allow_trade: bool = False
    seed_base: int = 42
    goal: Goal | None = None
    """Time to target at which the search stops."""

    @classmethod
    def from_config(cls, config: RunConfig) -> "StudySettings":
        """Take the settings from a config.

        Raises ConfigError when there is no target, for another backend, for bounds of knobs that cannot be used, or
        when a record could never be claimed.
        """
        if not config.targets:
            raise ConfigError("a study needs targets; add for example targets: [eval_loss < 0.76]")
        if config.backend == "hf":
            raise ConfigError("a study searches with hotlap's own training loop; backend: hf is for hotlap train")
        if config.command is not None:
            check_search(config)
        check_record_plan(config.record.runs, config.record.alpha)
        return cls(
            clock=config.clock,
            total_seconds=config.budget.total,
            run_seconds=config.budget.run,
            calibrate_runs=config.calibrate.runs,
            record_runs=config.record.runs,
            alpha=config.record.alpha,
            patience=DEFAULT_PATIENCE if config.patience is None else config.patience,
            patience_seconds=PATIENCE_SHARE * config.budget.total if config.patience is None else 0.0,
            allow_trade=config.allow_trade,
            seed_base=config.seed,
            goal=parse_goal(config.stop_when) if config.stop_when else None,
        )
