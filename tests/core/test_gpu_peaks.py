"""Peaks of GPUs by the names that drivers tell."""

import pytest

from hotlap.core.gpu_peaks import peak_flops


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA H200", "tf32", 494.7e12),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5e12),
        ("NVIDIA L4", "bf16", 121e12),
        ("NVIDIA L40S", "bf16", 362e12),
        ("NVIDIA A10G", "bf16", 70e12),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2e12),
        ("Tesla T4", "bf16", None),
        ("NVIDIA Z9000", "bf16", None),
    ],
)
def test_known_names_have_peaks_and_others_have_none(name: str, kind: str, expected: float | None) -> None:
    assert peak_flops(name, kind) == expected  # type: ignore[arg-type]
