"""How numbers and other people's sentences are written in the journal; nothing here fails on what is not finite."""

import html
import math
import re
from collections.abc import Container, Mapping, Sequence

from hotlap.core.clock import ClockName
from hotlap.core.durations import format_seconds
from hotlap.core.records import RunRecord

NOTHING = "–"
LINE_END = "↵"
_OPENS_A_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_MARKUP = re.compile(r"[\\`*\[\]~|$]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|!(?=\[)")
"""What Markdown may read as markup; an underscore inside of a word is none."""
_BLANKS = re.compile(r"[^\S\u00a0]+")
_LOST_BLANK = re.compile(r"^ | $|(?<= ) ")


def seconds_text(seconds: float) -> str:
    """Return a duration, `a miss` for an infinite one and a dash for what is not a number."""
    if math.isfinite(seconds):
        return format_seconds(seconds)
    return NOTHING if math.isnan(seconds) else "a miss"


def delta_text(seconds: float) -> str:
    """Return a difference of durations with its sign."""
    if not math.isfinite(seconds):
        return NOTHING
    return f"{'−' if seconds < 0 else '+'}{format_seconds(abs(seconds))}"


def ratio_text(ratio: float, *, is_lower_bound: bool = False) -> str:
    """Return how many times faster: `4.56×`, or `≥ 4.56×`."""
    if not math.isfinite(ratio):
        return NOTHING
    digits = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return f"{'≥ ' if is_lower_bound else ''}{ratio:.{digits}f}×"


def percent_text(share: float) -> str:
    """Return a share as `12.5 %`."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else NOTHING


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return an interval of ratios; an end that is not bounded is left out, without either the text is empty."""
    low, high = interval or (0.0, math.inf)
    if low > 0 and math.isfinite(high):
        return f"{ratio_text(low)} to {ratio_text(high)}"
    if low > 0 and math.isfinite(low):
        return f"at least {ratio_text(low)}"
    return f"at most {ratio_text(high)}" if math.isfinite(high) else ""


def revisit_text(conditions: Mapping[str, float]) -> str:
    """Return in words what would reopen a change that was not kept."""
    parts = []
    if conditions.get("keeps") == 0:
        return "it is proposed again"
    if keeps := conditions.get("keeps"):
        parts.append(f"{count_text(int(keeps), 'more change')} {'is' if keeps == 1 else 'are'} kept")
    if sigma := conditions.get("sigma_below"):
        parts.append(f"σ falls below {percent_text(sigma)}")
    return " or ".join(parts)


def number_text(value: float, format_spec: str = ".4g") -> str:
    """Return a number, a dash for what is not a number."""
    return NOTHING if math.isnan(value) else format(value, format_spec)


def step_time_text(seconds_per_step: float) -> str:
    """Return milliseconds with three digits."""
    milliseconds = 1000 * seconds_per_step
    if not math.isfinite(milliseconds):
        return NOTHING
    return f"{milliseconds:,.{2 if milliseconds < 10 else 1 if milliseconds < 100 else 0}f}"


def ms_text(seconds: float) -> str:
    """Return milliseconds of three digits or more with their unit: `0.123 ms`, `45.6 ms`, `1,234 ms`."""
    milliseconds = 1000 * seconds
    return f"{milliseconds:,.0f} ms" if milliseconds >= 999.5 else f"{milliseconds:.3g} ms"


def time_text(run: RunRecord, clock: ClockName) -> str:
    """Return a run's time to target; of a run without one how far it got and why: `> 12.3 s (raced)`."""
    seconds = run.clock_to_target(clock)
    if math.isfinite(seconds):
        return format_seconds(seconds)
    return f"> {seconds_text(run.reading(clock))} ({run.outcome.replace('_', ' ')})"


def count_text(count: int, noun: str) -> str:
    """Return a count with its noun: `1 run`, `3 runs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def one_line(text: str) -> str:
    """Return text for a Markdown paragraph: on one line, and unable to open an HTML tag, a link or a picture."""
    return _OPENS_A_TAG.sub(r"\\<", _BLANKS.sub(" ", text).strip(" ")).replace("](", r"]\(")


def unbroken(text: str) -> str:
    """Return text for a cell that shows it as it was written: line ends as `↵`, every blank as one that stays."""
    return _LOST_BLANK.sub("\u00a0", text.replace("\n", LINE_END))


def markup_free(text: str) -> str:
    """Return text for one line of Markdown in which no sign is markup."""
    return _MARKUP.sub(r"\\\g<0>", _BLANKS.sub(" ", text).strip(" "))


def inside_html(text: str) -> str:
    """Return text for the inside of an HTML tag."""
    return html.escape(" ".join(text.split()), quote=False)


def fenced(text: str, language: str = "") -> str:
    """Return text as a fenced block, with a fence longer than any inside it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], words: Container[str]) -> str:
    """Return a Markdown table of plain text; columns whose header is in `words` align left, the others right."""
    marks = ["---" if header in words else "--:" for header in headers]
    lines = [list(map(markup_free, headers)), marks, *(list(map(markup_free, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
