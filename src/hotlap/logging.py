"""Metrics from inside a script, with all their digits: two lines, and nothing happens when hotlap does not run it.

import hotlap
hotlap.log({"val_loss": val_loss}, step=step)

Trainer(..., callbacks=[hotlap.HFCallback()])
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from hotlap.core.errors import ConfigError
from hotlap.core.logged import METRICS_FILE, STEP, UNIX_SECONDS
from hotlap.core.trainer_names import metric_name

_MAX_DEPTH: Final = 4


_ENCODE: Final = json.JSONEncoder().encode
_MOST_NAMES: Final = 10_000
_NAMES: Final[dict[str, str]] = {}
"""The beginning of each metric's item in a line: encoding it anew takes longer than all of its number."""


class _File:
    """The file that is written to, which stays open from call to call."""

    def __init__(self) -> None:
        self._path = ""
        self._descriptor: int | None = None

    def is_open(self, path: str) -> bool:
        """Say whether this process writes to a file: of several the first one does, as long as it can."""
        if path != self._path:
            self._open(path)
        return self._descriptor is not None

    def append(self, line: bytes) -> None:
        """Append a line; when that fails it says so once, and the training goes on."""
        assert self._descriptor is not None, "is_open comes first"
        try:
            os.write(self._descriptor, line)
        except OSError as error:
            self._give_up(error)

    def _open(self, path: str) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._path, self._descriptor = path, None
        if os.environ.get("RANK", "0") == "0":
            try:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        reason = error.strerror or error
        self._descriptor = None
        print(f"hotlap.log: cannot write {self._path}: {reason}; nothing more is logged", file=sys.stderr)


_FILE: Final = _File()


def log(metrics: Mapping[str, Any], step: int | None = None) -> None:
    """Report metrics to the run that this script is started by; outside of one, do nothing.

    Numbers of any kind are taken, tensors with one element included; nested mappings get dotted names, everything else
    is left out. Of several processes (RANK) only the first one reports. A file that cannot be written is named once on
    stderr and does not end the training. Raises ConfigError for metrics that are no mapping, or a step that is no
    whole number.
    """
    path = os.environ.get(METRICS_FILE)
    if not path or not _FILE.is_open(path):
        return
    if type(metrics) is not dict and not isinstance(metrics, Mapping):
        raise ConfigError(f'hotlap.log: expected a mapping such as {{"val_loss": 3.2}}, got {type(metrics).__name__}')
    if UNIX_SECONDS in metrics or (step is not None and STEP in metrics):  # these two are the line's own
        ours = (UNIX_SECONDS,) if step is None else (STEP, UNIX_SECONDS)
        metrics = {name: value for name, value in metrics.items() if name not in ours}
    own = f'"{UNIX_SECONDS}": {time.time()!r}'
    items = [own] if step is None else [f'"{STEP}": {step if type(step) is int else _whole(step)}', own]
    for name, value in metrics.items():
        if type(value) is float and (text := repr(value))[-1] <= "9":  # finite; the others end with a letter
            items.append((_NAMES.get(name) or _item(name)) + text)
        elif (number := _number(value)) is not None:
            items.append((_NAMES.get(name) or _item(name)) + _ENCODE(number))
    _FILE.append(f"{{{', '.join(items)}}}\n".encode())


def _item(name: Any) -> str:
    """Return how the item of a metric begins; one of text is remembered."""
    item = f"{_ENCODE(str(name))}: "
    if type(name) is str:  # 1 and True are one key and two names
        if len(_NAMES) >= _MOST_NAMES:
            _NAMES.clear()
        _NAMES[name] = item
    return item


def _whole(step: Any) -> int:
    number = _number(step)
    if isinstance(number, float) and number.is_integer():
        return int(number)
    if not isinstance(number, int):
        raise ConfigError(f"hotlap.log: step: expected a whole number, got {step!r}")
    return number


def _number(value: Any, depth: int = 0) -> Any:
    """Return a value as a number, or as a mapping of numbers; None for what is neither."""
    if isinstance(value, int):
        return int(value)  # a truth value is 0 or 1
    if isinstance(value, Mapping):
        inner = {str(name): _number(one, depth + 1) for name, one in value.items()} if depth < _MAX_DEPTH else {}
        return {name: one for name, one in inner.items() if one is not None} or None
    if value is None or isinstance(value, str | bytes | bytearray):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor with several elements
        return None


class HFCallback:
    """Reports what the Trainer logs, with all digits and the step, by `hotlap.log`.

    It is a callback by its methods alone, so that neither importing nor making it loads transformers.
    """

    def __getattr__(self, event: str) -> Callable[..., None]:
        """Return a function that does nothing for the events that it has no use for."""
        if event.startswith("on_"):
            return _ignore
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {event!r}")

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Report what was logged: `loss` as train_loss, and the Trainer's mean over the run as train_loss_mean."""
        if logs and state.is_world_process_zero:
            log({metric_name(name): value for name, value in logs.items()}, step=state.global_step)


def _ignore(*_arguments: Any, **_named: Any) -> None:
    """Do nothing."""
