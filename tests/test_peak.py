from __future__ import annotations

import pytest

from jaxchat.peak import peak_flops


@pytest.mark.parametrize(
    "kind, teraflops",
    [
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("TPU7x", 1153.5),
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
    ],
)
def test_known_devices(kind: str, teraflops: float):
    assert peak_flops(kind) == teraflops * 1e12


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA L40", "TPU v9", ""])
def test_an_unknown_device_has_no_figure(kind: str):
    assert peak_flops(kind) is None
