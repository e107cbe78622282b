"""What all plotly figures of a report share: their look, rows with names, whiskers, and ticks on logarithms.

Colours are Okabe and Ito's, and never alone: lines have dashes and names, bars patterns, cells numbers. Backgrounds are
clear and the page sets the colour of the text, so that one figure serves light and dark.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

Figure = dict[str, Any]

GREY: Final = "#8a8a8a"
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
_CLEAR: Final = "rgba(0,0,0,0)"
_AXIS: Final[Mapping[str, Any]] = {
    "automargin": True,
    "exponentformat": "power",
    "zeroline": False,
    "showline": True,
    "ticks": "outside",
    "linecolor": GREY,
    "tickcolor": GREY,
    "gridcolor": "rgba(128,128,128,0.22)",
}


def figure(data: list[dict[str, Any]], height: int, **layout: Any) -> Figure:
    """Return a figure with the common look, `height` pixels high; `layout` adds to it."""
    base = {
        "height": height,
        "margin": {"l": 60, "r": 40, "t": 15, "b": 50},
        "showlegend": False,
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "template": {"layout": {"xaxis": dict(_AXIS), "yaxis": dict(_AXIS)}},
    }
    return {"data": data, "layout": {**base, **layout}}


def named_rows(names: Sequence[str]) -> dict[str, Any]:
    """Return an axis with a name a row, the first on top."""
    texts = [escaped(cut(name)) for name in names]
    rows = list(range(len(names)))
    return {"tickvals": rows, "ticktext": texts, "range": [len(names) - 0.4, -0.6], "ticks": ""}


def whiskers(values: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Return error bars from (value, low, high); none where one of them is not finite."""
    reach = [
        (max(0.0, high - value), max(0.0, value - low)) if all(map(math.isfinite, (value, low, high))) else (0.0, 0.0)
        for value, low, high in values
    ]
    above, below = [up for up, _ in reach], [down for _, down in reach]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": GREY, "thickness": 1.5}


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers from `low` to `high` (above 0), for an axis of logarithms; the ends where there is none."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [float(f"{factor}e{power}") for power in powers for factor in factors]
        inside = [value for value in found if low <= value <= high]
        if 2 <= len(inside) <= 8:
            return inside
    return [low, high]


def cut(text: str, length: int = 36) -> str:
    """Return text on one line and not longer than `length`."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 1]}…"


def escaped(text: str) -> str:
    """Return text of others for a place where plotly would read tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
