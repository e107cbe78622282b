"""Lines of a table with commas or tabs, under a line of names."""

import math
import re
from typing import Final

from hotlap.capture.dicts import STEP_KEYS
from hotlap.capture.names import is_metric
from hotlap.capture.printed import Digits, Number
from hotlap.capture.reading import Found

_NAME: Final = re.compile(r"[A-Za-z_][\w ./@()%-]{0,80}", re.ASCII)
_STEP_NAMES: Final = (*STEP_KEYS, "steps", "Step")


class Table:
    """Reads the rows under a line of names; another line of names begins another table."""

    def __init__(self, digits: Digits, *, source: str = "csv", is_certain: bool = False) -> None:
        self._digits = digits
        self._source = source
        self._is_certain = is_certain  # of a file of that kind the first line holds the names, whatever they are
        self._names: list[str] = []
        self._comma = ","

    @property
    def is_open(self) -> bool:
        """Whether its names are known."""
        return bool(self._names)

    def may_read(self, line: str) -> bool:
        """Say quickly whether a line may be one of a table."""
        return self._comma in line if self._names else ("," in line or "\t" in line)

    def read(self, line: str) -> Found | None:
        """Return the figures of a row; None for every other line."""
        line = line.strip("\r\n")
        if self._names:
            parts = [part.strip().strip('"') for part in line.split(self._comma)]
            if len(parts) == len(self._names) and (found := self._row(parts)):
                return found
        self._take_names(line)
        return None

    def _take_names(self, line: str) -> None:
        comma = "\t" if "\t" in line else ","
        names = [part.strip().strip('"') for part in line.lstrip("\ufeff").split(comma)]
        if len(names) < 2 or len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
            return
        has_sign = any(name in _STEP_NAMES or name.lower() == "epoch" for name in names)
        is_header = has_sign and any(map(is_metric, names)) and all(" " not in name for name in names)
        if is_header or (self._is_certain and not self._names):
            self._names, self._comma = names, comma

    def _row(self, parts: list[str]) -> Found | None:
        numbers: dict[str, Number] = {}
        step: int | None = None
        for name, text in zip(self._names, parts, strict=True):
            try:
                value = float(text) if text else None
            except ValueError:
                continue
            if value is None:
                continue
            if name in _STEP_NAMES and math.isfinite(value) and value.is_integer():
                step = int(value)
            elif text.lstrip("+-").isdigit():
                numbers[name] = Number(value)
            else:
                numbers[name] = self._judge(name, text, value)
        return Found(source=self._source, numbers=numbers, step=step) if numbers else None

    def _judge(self, name: str, text: str, value: float) -> Number:
        """Return a figure with its digits: those of the text count, since a table keeps zeros at the end."""
        judged = self._digits.judge(self._source, name, value)
        if judged.decimals is None or "e" in text.lower():
            return judged
        return Number(value, max(judged.decimals, len(text.partition(".")[2])))
