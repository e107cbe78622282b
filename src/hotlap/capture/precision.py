"""Whether a number that was rounded for printing decides a target."""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from hotlap.core.targets import Target


def verdict(target: Target, value: float, decimals: int | None) -> bool | None:
    """Say whether a condition holds for the number that was printed as `value`, or None where its digits cannot tell.

    `decimals` are the digits after the point that it was rounded to, fewer than none for thousands, None for a number
    with all of its digits. 3.28 with two decimals may have been anything from 3.275 to 3.285, so it does not decide
    `<= 3.28`. A value that is not finite never passes.
    """
    if not math.isfinite(value):
        return False
    if decimals is None:
        return target.holds({target.metric: value})
    half, middle, limit = Decimal(5).scaleb(-decimals - 1), Decimal(repr(value)), Decimal(repr(target.value))
    low, high = middle - half, middle + half
    match target.comparison:
        case "<":
            holds, fails = high < limit, low >= limit
        case "<=":
            holds, fails = high <= limit, low > limit
        case ">":
            holds, fails = low > limit, high <= limit
        case _:
            holds, fails = low >= limit, high < limit
    return True if holds else False if fails else None


def verdict_of_all(
    targets: Iterable[Target],
    metrics: Mapping[str, float],
    decimals: Mapping[str, int],
    doubts: Mapping[str, str] | None = None,
) -> bool | None:
    """Say whether all conditions hold, or None where those that can be told hold and another cannot be told.

    A metric that is missing does not pass, and one in `doubts` cannot be told. No targets never hold.
    """
    told: list[bool | None] = []
    for target in targets:
        if target.metric not in metrics:
            told.append(False)
        elif doubts is not None and target.metric in doubts:
            told.append(None)
        else:
            told.append(verdict(target, metrics[target.metric], decimals.get(target.metric)))
    if not told or False in told:
        return False
    return None if None in told else True
