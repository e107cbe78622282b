"""What the small bench before a study saw fail: as a run it would fail again, and teach nothing."""

from collections.abc import Mapping
from typing import Any, Final

from hotlap.config.bounds import knob_roles
from hotlap.config.knob_ranges import LENGTH_NAMES, plain_name, role_of
from hotlap.config.load import get_dotted
from hotlap.config.schema import RunConfig
from hotlap.core.records import History
from hotlap.core.speed import FailedCell

_FAILURES: Final = ("out_of_memory", "failed")
"""Outcomes of a cell that a run of the same settings will have, too; one that took too long may be worth its time."""
_ROWS: Final = "per_device_train_batch_size"
_SIZES: Final = ("hidden_size", "num_hidden_layers", "lora_r", "gradient_checkpointing")
"""Settings with which steps need another amount of memory, as with another length of the rows."""


def is_known_to_fail(history: History, parent: RunConfig, patch: Mapping[str, Any]) -> bool:
    """Say whether the bench saw the settings fail that a patch makes of the incumbent's config, `parent`.

    What had no room for some rows has none for more. A model or rows of another size are not judged by it.
    """
    if history.speed is None:
        return False
    cells = [cell for cell in history.speed.failed if cell.outcome in _FAILURES and set(patch) & set(cell.settings)]
    if not cells:
        return False
    values = parent.model_dump(mode="json")
    changed = {*history.config_of(history.incumbent), *patch}
    rows = _rows_key(parent)
    for cell in cells:
        after = {key: patch[key] if key in patch else get_dotted(values, key) for key in cell.settings}
        if _covers(cell, after, rows) and not any(map(_is_size, changed - set(cell.settings))):
            return True
    return False


def _covers(cell: FailedCell, settings: Mapping[str, Any], rows: str | None) -> bool:
    """Say whether settings are those of a cell, or need more memory than one that had too little."""
    for key, value in cell.settings.items():
        is_more = (
            cell.outcome == "out_of_memory"
            and key == rows
            and isinstance(settings[key], int)
            and isinstance(value, int)
            and settings[key] > value
        )
        if settings[key] != value and not is_more:
            return False
    return True


def _is_size(key: str) -> bool:
    return role_of(key) in _SIZES or plain_name(key) in LENGTH_NAMES


def _rows_key(config: RunConfig) -> str | None:
    if config.command is None:
        return f"training.{_ROWS}"
    return next((f"params.{name}" for name, role in knob_roles(config).items() if role == _ROWS), None)
