"""Progress bars in the form of tqdm: what they tell of the step, and the figures behind them."""

import re
from dataclasses import dataclass, field
from typing import Final

from hotlap.capture.names import is_metric, tidy
from hotlap.capture.printed import NUMBER, Number, parse_general

_BAR: Final = re.compile(
    r"(?P<label>[^|%]*?)(?P<percent>\d{1,3})%\|[^|]*\|\s*(?P<count>\d{1,15})/(?P<total>\d{1,15})\s*"
    r"\[(?P<rest>[^\]\[]*)\](?P<tail>.*)",
    re.ASCII,
)
_POSTFIX: Final = re.compile(rf"([A-Za-z_][\w./-]{{0,60}})=({NUMBER})(?=$|[,\s])", re.ASCII)
_POSTFIX_DIGITS: Final = 3
"""tqdm rounds the figures behind a bar to so many digits, and so does Lightning, which fills up with zeros."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What one drawing of a progress bar shows."""

    label: str
    count: int
    total: int
    numbers: dict[str, Number] = field(default_factory=dict)
    tail: str = ""
    """What stands behind it, when something was printed into the same line."""


def parse_bar(line: str) -> Bar | None:
    """Read a progress bar; None for any other line."""
    match = _BAR.match(line)
    if match is None:
        return None
    numbers = {}
    for name, text in _POSTFIX.findall(match["rest"]):
        number = _postfix(text)
        if number is not None and is_metric(name):
            numbers[tidy(name)] = number
    label = match["label"].strip().removesuffix(":")
    return Bar(label, int(match["count"]), int(match["total"]), numbers, match["tail"].strip())


def _postfix(text: str) -> Number | None:
    stripped = text.rstrip("0") if "." in text and "e" not in text.lower() else text
    return parse_general(stripped.rstrip(".") or "0", _POSTFIX_DIGITS)


class Bars:
    """Follows the bars without a label, which nest in each other: the outermost one that is open counts the steps.

    The Trainer draws one over the training and within it one for each evaluation. Once it is known which one is that
    of the training, those that come after it count nothing.
    """

    def __init__(self) -> None:
        self._open: list[tuple[int, int]] = []  # total and count, the outermost first
        self._training: int | None = None
        self._step: int | None = None

    @property
    def step(self) -> int | None:
        """The step that the training's bar was last drawn at; None without a bar."""
        return self._step

    @property
    def step_after_training(self) -> int | None:
        """The same, once it is known which bar is the training's."""
        return self._step if self._training is not None else None

    def mark_training(self) -> None:
        """Take note that the outermost bar is that of the training."""
        if self._open and self._training is None:
            self._training = self._open[0][0]

    def draw(self, bar: Bar) -> bool:
        """Take in a drawing; say whether it was the outermost bar."""
        if bar.label:
            return False
        is_outermost = self._nest(bar)
        if is_outermost and self._training is None:
            self._step = bar.count
        elif is_outermost and self._training == bar.total:
            self._step = max(self._step or 0, bar.count)
        return is_outermost

    def _nest(self, bar: Bar) -> bool:
        for depth in reversed(range(len(self._open))):
            total, count = self._open[depth]
            if total == bar.total and count <= bar.count:
                self._open[depth:] = [(bar.total, bar.count)]
                return depth == 0
        while self._open and self._open[-1][0] <= self._open[-1][1]:
            self._open.pop()  # that one has come to its end
        self._open = [*self._open[-8:], (bar.total, bar.count)]
        return len(self._open) == 1
