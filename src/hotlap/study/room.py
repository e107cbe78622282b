"""What still fits into a study's budget, beside what is kept free for its end."""

from typing import Final

from hotlap.core.records import History
from hotlap.policies.rules import removals
from hotlap.search.cost import proposal_cost, record_cost, run_cost
from hotlap.search.judge import FRESH_RUNS
from hotlap.search.ladder import seconds_without_keep, tries_without_keep
from hotlap.search.record import MAX_LOOKS, is_claimed
from hotlap.study.settings import StudySettings

RECORD_SHARE: Final = 0.25
"""Largest part of the budget that is kept free for a record look while there are ideas left: a look that costs more is
not worth stopping the search for, since every kept change makes it cheaper."""
CLEANING_SHARE: Final = 0.1
"""Largest part of the budget that is kept free for leaving kept changes out again."""


def can_propose(history: History, settings: StudySettings) -> bool:
    """Say whether one more proposal fits into the budget."""
    cleaning = min(_cleaning_cost(history, settings), CLEANING_SHARE * settings.total_seconds)
    cost = proposal_cost(history, settings.run_seconds) + cleaning
    return cost + _kept_free(history, settings) <= seconds_left(history, settings)


def can_ablate(history: History, settings: StudySettings) -> bool:
    """Say whether the next runs without a kept change fit into the budget, and the fresh ones after them."""
    return 2 * _ablation_cost(history, settings) + _kept_free(history, settings) <= seconds_left(history, settings)


def is_out_of_patience(history: History, settings: StudySettings) -> bool:
    """Say whether enough proposals in a row were not kept, and enough of the budget went to them."""
    is_enough = tries_without_keep(history) >= settings.patience
    return is_enough and seconds_without_keep(history) >= settings.patience_seconds


def seconds_left(history: History, settings: StudySettings) -> float:
    """Return the wall seconds that are left."""
    return settings.total_seconds - history.seconds_spent


def _kept_free(history: History, settings: StudySettings) -> float:
    """Return the seconds that the record look at a kept incumbent needs, unless they are too large a part."""
    is_due = history.incumbent and not is_claimed(history, history.incumbent) and len(history.claims) < MAX_LOOKS
    look = record_cost(history, settings.run_seconds, settings.record_runs) if is_due else 0.0
    return look if look <= RECORD_SHARE * settings.total_seconds else 0.0


def _cleaning_cost(history: History, settings: StudySettings) -> float:
    """Return the seconds for leaving out each kept change, or part of one, that was not asked about yet."""
    return len(removals(history)) * _ablation_cost(history, settings)


def _ablation_cost(history: History, settings: StudySettings) -> float:
    return FRESH_RUNS * run_cost(history, history.incumbent, settings.run_seconds)
