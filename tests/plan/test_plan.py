"""Plans from the command line, compiled for slices that are not here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="compiling for TPUs needs libtpu")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"XLA_FLAGS": ""}
    command = [sys.executable, "-m", "jaxchat", "plan", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
@needs_libtpu
def test_one_slice_and_two_as_a_table_json_and_a_page(tmp_path):
    flags = ("--on", "v5e:2x2,2xv5e:2x2", "--mesh.fsdp", "-1", "--json", str(tmp_path / "plan.json"))
    done = run(str(CONFIGS / "smoke_cpu.py"), *flags, "--rows-per-chip", "2", "--page", str(tmp_path / "plan.html"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "smoke_cpu: 2 of 2 plans fit"
    one, two = json.loads((tmp_path / "plan.json").read_text())
    assert (one["topology"], one["chips"], one["batch"], two["chips"], two["batch"]) == ("v5e:2x2", 4, 8, 8, 16)
    for plan in (one, two):
        assert plan["fits"] and 0 < plan["peak_bytes"] < plan["limit_bytes"]
        assert plan["tokens_per_second"] == pytest.approx(plan["batch"] * 128 / plan["step_seconds"])
        assert 0 < plan["mfu"] < 1
        assert plan["memory"]["optimizer"] == pytest.approx(2 * plan["memory"]["parameters"], rel=0.01)
    assert {place["network"] for place in one["network"]} == {"ICI"}
    assert two["memory"]["parameters"] == one["memory"]["parameters"]  # each slice holds a copy
    between = [place for place in two["network"] if place["network"] == "DCN"]
    assert [place["axes"] for place in between] == ["data"]
    assert between[0]["bytes"]["all-reduce"] >= one["memory"]["parameters"]  # a chip's part of the gradients, at least
    page = (tmp_path / "plan.html").read_text()
    assert all(name in page for name in ("v5e:2x2", "2xv5e:2x2", "all-gather"))


@pytest.mark.slow
@needs_libtpu
def test_what_cannot_fit_is_told_without_compiling_with_what_would(tmp_path):
    done = run(
        str(CONFIGS / "llama3_8b_sft.py"), "--on", "v5e:2x2", "--rows-per-chip", "1", "--json", str(tmp_path / "p.json")
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (plan,) = json.loads((tmp_path / "p.json").read_text())
    assert not plan["fits"] and not plan["compiled"]
    assert plan["peak_bytes"] > 16 * 8.03e9 / 4  # parameters, two moments and gradients, in float32, on four chips
    assert plan["change"]["topology"] == "v5e:4x4"
    assert "--on v5e:4x4" in done.stdout


@pytest.mark.slow
@needs_libtpu
def test_what_waits_in_the_hosts_memory_takes_none_of_the_chips(tmp_path):
    flags = ("--on", "v5e:2x2", "--mesh.fsdp", "-1", "--rows-per-chip", "2", "--model.layers", "8")
    plans = []
    for offload in ((), ("--offload", "optimizer"), ("--offload", "optimizer", "parameters")):
        done = run(str(CONFIGS / "smoke_cpu.py"), *flags, *offload, "--json", str(tmp_path / "plan.json"))
        assert done.returncode == 0, done.stderr[-2000:]
        assert ("GiB a chip wait in the host's memory" in done.stdout) == bool(offload)
        plans += json.loads((tmp_path / "plan.json").read_text())
    held = [sum(plan["memory"][kind] for kind in ("parameters", "optimizer")) + plan["host_bytes"] for plan in plans]
    assert held == [held[0]] * 3
    assert 0 == plans[0]["host_bytes"] < plans[1]["host_bytes"] < plans[2]["host_bytes"]
    assert plans[1]["memory"]["optimizer"] < 16  # its counts of steps stay


def test_a_topology_that_does_not_exist_is_refused():
    done = run(str(CONFIGS / "smoke_cpu.py"), "--on", "v5x:2x2")
    assert done.returncode == 2
    assert "no topology is called v5x:2x2" in done.stderr
