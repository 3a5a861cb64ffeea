"""What the compiler says of a program that is too large is understood however it says it."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import pytest

from jaxchat.plan.compiling import compiled
from jaxchat.plan.work import Phase


def phase(message: str) -> Phase:
    def compile(compiler_options):
        raise jax.errors.JaxRuntimeError(message)

    return Phase("train", lambda: SimpleNamespace(compile=compile), {}, tuple, 1.0, 1.0, 1)


@pytest.mark.parametrize(
    ("message", "peak"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.50G of 15.75G hbm.", 17.5 * 2**30),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (17.23G) "
            "exceeds available HBM (15.75G).",
            17.23 * 2**30,
        ),
    ],
)
def test_a_program_that_is_too_large_has_a_peak_and_no_text(message, peak):
    found = compiled(phase(message))
    assert found.text is None and found.peak == int(peak)


def test_what_else_goes_wrong_is_passed_on():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        compiled(phase("INTERNAL: Used 1G of 2G"))
