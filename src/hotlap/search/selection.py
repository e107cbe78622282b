"""How much of a gain is luck that is told only because it was large enough (the winner's curse).

A record is claimed when its test is passed. So among recipes whose gain is near what the test can see, the lucky ones
are told and the unlucky ones are not: what was seen is on average too large. Far above that nothing is luck. Gains are
in standard errors of a difference here, and taken to be normal.
"""

from statistics import NormalDist
from typing import Final

CERTAIN: Final = 5.0
"""So far above what was needed, everything passes and nothing is luck."""
_NORMAL: Final = NormalDist()
_HALVINGS: Final = 40
_SLICES: Final = 200
_REACH: Final = 5.0


def expected_luck(seen: float, needed: float) -> float:
    """Return by how much a gain is overstated that was told because it was above `needed`.

    The likelihood of the true gain, given that it passed, is read in two ways, where it is largest and on average, and
    the mean of the two taken (Ghosh, Zou and Wright, Estimating odds ratios in genome scans: an approximate conditional
    likelihood approach, Am. J. Hum. Genet. 82, 2008). A record is no loss: gains below 0 are left out.
    """
    if seen >= needed + CERTAIN:
        return 0.0
    return max(0.0, seen - (_most_likely(seen, needed) + _average(seen, needed)) / 2)


def _most_likely(seen: float, needed: float) -> float:
    """Return the true gain whose passing runs show `seen` on average; 0 where even that shows more."""
    low, high = 0.0, max(0.0, seen)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _mean_of_passing(middle, needed) < seen:
            low = middle
        else:
            high = middle
    return low


def _mean_of_passing(gain: float, needed: float) -> float:
    """Return what runs of a true gain show on average when they pass (the mean of a truncated normal)."""
    return gain + _NORMAL.pdf(gain - needed) / _NORMAL.cdf(gain - needed)


def _average(seen: float, needed: float) -> float:
    """Return the mean of the conditional likelihood over the gains from 0 on."""
    step = (max(0.0, seen) + _REACH) / _SLICES
    gains = [(index + 0.5) * step for index in range(_SLICES)]
    weights = [_NORMAL.pdf(seen - gain) / _NORMAL.cdf(gain - needed) for gain in gains]
    return sum(gain * weight for gain, weight in zip(gains, weights, strict=True)) / sum(weights)
