"""What GPUs can compute at most, by their makers' data sheets: dense products, no sparsity."""

import re
from collections.abc import Mapping
from typing import Final, Literal

NumberFormat = Literal["fp32", "tf32", "bf16"]

_PEAKS: Final[tuple[tuple[str, Mapping[str, float]], ...]] = (
    (r"GB200", {"fp32": 80e12, "tf32": 1250e12, "bf16": 2500e12}),
    (r"B200|B300", {"fp32": 75e12, "tf32": 1125e12, "bf16": 2250e12}),
    (r"H200 NVL", {"fp32": 60e12, "tf32": 418e12, "bf16": 835.5e12}),
    (r"H200|GH200", {"fp32": 67e12, "tf32": 494.7e12, "bf16": 989.4e12}),
    (r"H100 NVL", {"fp32": 60e12, "tf32": 417.5e12, "bf16": 835e12}),
    (r"H100 PCIE", {"fp32": 51e12, "tf32": 378e12, "bf16": 756e12}),
    (r"H100", {"fp32": 67e12, "tf32": 494.7e12, "bf16": 989.4e12}),
    (r"A100", {"fp32": 19.5e12, "tf32": 156e12, "bf16": 312e12}),
    (r"A800", {"fp32": 19.5e12, "tf32": 156e12, "bf16": 312e12}),
    (r"A40", {"fp32": 37.4e12, "tf32": 74.8e12, "bf16": 149.7e12}),
    (r"A30", {"fp32": 10.3e12, "tf32": 82e12, "bf16": 165e12}),
    (r"A10G", {"fp32": 31.5e12, "tf32": 35e12, "bf16": 70e12}),
    (r"A10", {"fp32": 31.2e12, "tf32": 62.5e12, "bf16": 125e12}),
    (r"L40S", {"fp32": 91.6e12, "tf32": 183e12, "bf16": 362e12}),
    (r"L40", {"fp32": 90.5e12, "tf32": 90.5e12, "bf16": 181e12}),
    (r"L4", {"fp32": 30.3e12, "tf32": 60e12, "bf16": 121e12}),
    (r"RTX A6000", {"fp32": 38.7e12, "tf32": 77.4e12, "bf16": 154.8e12}),
    (r"RTX 6000 ADA", {"fp32": 91.1e12, "tf32": 182.1e12, "bf16": 364.2e12}),
    (r"RTX 5090$", {"fp32": 104.8e12, "tf32": 104.8e12, "bf16": 209.5e12}),
    (r"RTX 4090$", {"fp32": 82.6e12, "tf32": 82.6e12, "bf16": 165.2e12}),
    (r"RTX 3090$", {"fp32": 35.6e12, "tf32": 35.6e12, "bf16": 71e12}),
    (r"V100-SXM2", {"fp32": 15.7e12}),
    (r"V100-PCIE", {"fp32": 14e12}),
    (r"(?:TESLA )?T4", {"fp32": 8.1e12}),
)
"""Names as the driver tells them, the longer ones first. A format that a GPU has no units for is not there.

What follows `RTX 4090` names another card: `RTX 4090 D`, `RTX 3090 Ti`.
"""
_PART_OR_OTHER: Final = re.compile(r"\b(?:MIG|LAPTOP|MOBILE|MAX-Q)\b|-\d+[ABCQ](?:ME)?$")
"""Names of a slice of a card (`MIG 1g.5gb`, a virtual one such as `A40-48Q`), or of a laptop's with the same number."""


def peak_flops(device_name: str, number_format: NumberFormat) -> float | None:
    """Return the FLOP/s that a GPU of this name can reach in a number format, None where that is not known here.

    A slice of a card and a laptop's chip are not known: their peak is not that of the card whose number they have.
    """
    name = device_name.upper().strip()
    if _PART_OR_OTHER.search(name):
        return None
    for pattern, peaks in _PEAKS:
        if re.search(rf"\b(?:{pattern})(?!\w)", name):
            return peaks.get(number_format)
    return None
