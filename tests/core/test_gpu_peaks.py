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
        ("NVIDIA GeForce RTX 4090 D", "bf16", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16", None),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", "bf16", None),
        ("NVIDIA GeForce RTX 5090", "bf16", 209.5e12),
        ("NVIDIA GeForce RTX 3090 Ti", "bf16", None),
        ("NVIDIA RTX 6000 Ada Generation", "bf16", 364.2e12),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16", None),
        ("NVIDIA H100 80GB HBM3 MIG 2g.20gb", "bf16", None),
        ("NVIDIA A40-48Q", "bf16", None),
        ("NVIDIA A40", "bf16", 149.7e12),
        ("NVIDIA GH200 480GB", "bf16", 989.4e12),
        ("NVIDIA B200", "bf16", 2250e12),
        ("NVIDIA GB200", "bf16", 2500e12),
        ("NVIDIA B300 SXM6 AC", "bf16", 2250e12),
        ("Tesla V100-SXM2-16GB", "fp32", 15.7e12),
        ("Tesla V100-PCIE-16GB", "fp32", 14e12),
        ("Tesla V100-FHHL-16GB", "fp32", None),
        ("Tesla T4", "bf16", None),
        ("NVIDIA Z9000", "bf16", None),
    ],
)
def test_known_names_have_peaks_and_others_have_none(name: str, kind: str, expected: float | None) -> None:
    assert peak_flops(name, kind) == expected  # type: ignore[arg-type]
