"""Lines that hold a dict: the Trainer's, as Python writes it, and JSON.

transformers 4 prints numbers ({'loss': 0.5234, 'epoch': 0.5}, the loss rounded to four digits after the point), 5
prints strings with four digits in all ({'loss': '0.5234', 'epoch': '0.5'}); TRL prints more keys in the same way.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hotlap.capture.names import is_metric
from hotlap.capture.printed import NUMBER, Digits, Number, parse_general
from hotlap.capture.reading import Found
from hotlap.core.foreign import number_of
from hotlap.core.trainer_names import metric_name

STEP_KEYS: Final = (
    "step",
    "global_step",
    "_step",
    "iter",
    "iteration",
    "train_step",
    "num_updates",
    "trainer/global_step",
    "train/global_step",
)
"""Names of a step, in the order in which they are believed."""
_TRAINER_KEYS: Final = ("epoch", "train_runtime")
"""Keys that the Trainer's lines have and a printed config does not."""
_STRING_DIGITS: Final = 4
_LOSS_DECIMALS: Final = 4
_ITEM: Final = re.compile(
    r"\s*(?P<key>'[^'\\]*'|\"[^\"\\]*\")\s*:\s*(?:"
    rf"(?P<number>{NUMBER})(?=\s*[,}}])"
    rf"|(?:tensor|(?:np|numpy)\.\w+|array)\((?P<wrapped>{NUMBER})(?:,[^()]*)?\)"
    r"|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|\[[^\[\]]*\]|\{[^{}]*\}|\([^()]*\)|True|False|None|[A-Za-z_][\w.]*(?:\([^()]*\))?)"
    r"\s*(?P<end>[,}])",
    re.ASCII,
)


def parse_python_dict(line: str) -> Found | None:
    """Read a line that holds a dict with metrics as Python prints it; None for any other, also for one that is cut."""
    start = line.find("{")
    if start < 0 or line[start + 1 : start + 2] != "'":
        return None
    numbers = _items(line, start + 1)
    if not numbers:
        return None
    is_trainer = any(key in numbers for key in _TRAINER_KEYS)
    if not is_trainer and not any(map(is_metric, numbers)):
        return None
    step = _take_step(numbers)
    if not numbers:
        return None
    if is_trainer:
        numbers = {metric_name(key): number for key, number in numbers.items()}
        loss = numbers.get("train_loss")
        if loss is not None and loss.decimals is None and math.isfinite(loss.value):
            numbers["train_loss"] = Number(loss.value, _LOSS_DECIMALS)
    return Found(source="trainer" if is_trainer else "dict", numbers=numbers, step=step)


def _items(line: str, at: int) -> dict[str, Number]:
    """Return the numbers of a dict whose first item begins at a place; none where the dict is not whole."""
    numbers: dict[str, Number] = {}
    while match := _ITEM.match(line, at):
        key, number = match["key"][1:-1], None
        if (plain := match["number"] or match["wrapped"]) is not None:
            number = _exact(plain)
        elif match["text"] is not None:
            number = parse_general(match["text"][1:-1].strip(), _STRING_DIGITS)
        if number is not None and key:
            numbers[key] = number
        if match["end"] == "}":
            return numbers
        at = match.end()
    return {}


def _exact(text: str) -> Number | None:
    try:
        return Number(float(text))
    except ValueError:
        return None


def _take_step(numbers: dict[str, Number]) -> int | None:
    for key in STEP_KEYS:
        if key in numbers and numbers[key].value >= 0 and numbers[key].value.is_integer():
            return int(numbers.pop(key).value)
    return None


def parse_json(line: str, digits: Digits, source: str = "json") -> Found | None:
    """Read a line that ends with a JSON object with numbers; None for any other."""
    start = line.find("{")
    if start < 0 or not line.rstrip().endswith("}"):
        return None
    try:
        values = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    return from_mapping(values, digits, source) if isinstance(values, dict) else None


def from_mapping(values: Mapping[str, Any], digits: Digits | None, source: str) -> Found | None:
    """Return the numbers of a mapping, nested ones under dotted names; None where there are none.

    Without `digits` its numbers are taken for whole ones.
    """
    numbers: dict[str, Number] = {}
    for key, value in _flat(values):
        if isinstance(value, int) or digits is None:
            numbers[key] = Number(_as_float(value))
        else:
            numbers[key] = digits.judge(source, key, value)
    step = _take_step(numbers)
    return Found(source=source, numbers=numbers, step=step) if numbers else None


def _flat(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, int | float]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < 8:
            yield from _flat(value, f"{name}.", depth + 1)
        elif (number := number_of(value)) is not None:
            yield name, number


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
