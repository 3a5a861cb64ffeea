"""Rooms import no more than they need when they are imported; import-linter (pyproject.toml) checks the directions."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "tensorflow_datasets", "transformers", "orbax", "torch", "gguf", "sentencepiece", "matplotlib")


def loaded_by(program: str, names: tuple[str, ...]) -> set[str]:
    """Which of `names` are loaded once `program` has run in a Python of its own."""
    ask = f"{program}\nimport sys\nprint([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, env=os.environ)
    return set(eval(done.stdout.splitlines()[-1]))


def test_no_module_loads_a_heavy_package_before_it_is_used():
    """data/builder.py is a class of TFDS's and harness_model.py one of lm_eval's: imported only where those work."""
    walk = """
import importlib, pkgutil, jaxchat
for module in pkgutil.walk_packages(jaxchat.__path__, "jaxchat."):
    if module.name not in ("jaxchat.data.builder", "jaxchat.evals.benchmarks.harness_model"):
        importlib.import_module(module.name)
"""
    assert loaded_by(walk, (*HEAVY, "lm_eval", "datasets", "jaxchat.data.builder")) == set()


@pytest.mark.parametrize("room", ["jaxchat.__main__", "jaxchat.chat", "jaxchat.corpora.importing"])
def test_what_needs_no_device_loads_no_jax(room: str):
    assert loaded_by(f"import {room}", ("jax", "flax", *HEAVY)) == set()
