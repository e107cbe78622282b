"""Durations as people write them: `90s`, `15m`, `1h30m`, `4:38`, or plain seconds."""

import math
import re

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def parse_seconds(text: str | float) -> float:
    """Return the seconds that a duration stands for.

    Raises ValueError with the accepted forms when it cannot be read.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    cleaned = text.strip().lower() if isinstance(text, str) else ""
    if re.fullmatch(r"\d+(\.\d+)?", cleaned):
        return float(cleaned)
    if re.fullmatch(r"\d+(:[0-5]\d){1,2}", cleaned):
        seconds = 0.0
        for field in cleaned.split(":"):
            seconds = seconds * 60 + float(field)
        return seconds
    parts = _PART.findall(cleaned)
    if not parts or "".join(_PART.split(cleaned)[::3]).strip():
        raise ValueError(f"cannot read the duration {text!r}; write 90s, 15m, 1h30m or 4:38")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def format_seconds(seconds: float) -> str:
    """Write seconds for people: `0.42 s`, `9.31 s`, `55.2 s`, `4:51`, `1:02:03`."""
    if not math.isfinite(seconds):
        return "never"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
