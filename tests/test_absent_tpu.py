"""Where libtpu is installed and no TPU is here, JAX is not to look for one; in doubt it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jaxchat import absent_tpu


@pytest.mark.parametrize(
    ("vendor", "packages", "chosen", "expected"),
    [
        ("0x8086", {"libtpu"}, None, "cpu"),
        ("0x1ae0", {"libtpu"}, None, None),
        ("0x8086", set(), None, None),
        ("0x10de", {"libtpu", "jax_cuda12_plugin"}, None, None),
        ("0x8086", {"libtpu"}, "tpu", "tpu"),
    ],
)
def test_only_where_it_is_sure(
    vendor: str, packages: set[str], chosen: str | None, expected: str | None, tmp_path: Path, monkeypatch
):
    (tmp_path / "0000:00:01.0").mkdir()
    (tmp_path / "0000:00:01.0" / "vendor").write_text(vendor + "\n")
    monkeypatch.setattr(absent_tpu, "PCI", tmp_path)
    monkeypatch.setattr(absent_tpu, "find_spec", lambda name: name in packages)
    monkeypatch.delenv("JAX_PLATFORMS")
    if chosen:
        monkeypatch.setenv("JAX_PLATFORMS", chosen)
    absent_tpu.look_for_no_tpu()
    assert os.environ.get("JAX_PLATFORMS") == expected


def test_a_machine_that_does_not_say_is_left_to_jax(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(absent_tpu, "PCI", tmp_path / "none")
    monkeypatch.setattr(absent_tpu, "find_spec", lambda name: name == "libtpu")
    monkeypatch.delenv("JAX_PLATFORMS")
    absent_tpu.look_for_no_tpu()
    assert "JAX_PLATFORMS" not in os.environ
