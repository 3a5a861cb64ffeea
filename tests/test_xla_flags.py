"""What XLA is told, and who has the last word."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxchat.errors import InputError
from jaxchat.xla_flags import FLAGS, flags


def test_a_run_adds_to_its_platforms_flags_and_overrides_them():
    made = flags("cpu", ("xla_cpu_prefer_vector_width=256", "--xla_dump_hlo_as_text=true", "xla_dump_to=here"))
    assert made == FLAGS["cpu"] | {
        "xla_cpu_prefer_vector_width": "256",
        "xla_dump_hlo_as_text": True,
        "xla_dump_to": "here",
    }


def test_this_platforms_flags_are_known_to_the_compiler():
    assert jax.jit(lambda x: 2 * x, compiler_options=flags("cpu"))(jnp.float32(3)) == 6


@pytest.mark.parametrize("text", ["xla_cpu_prefer_vector_width", "vector=1"])
def test_what_is_no_flag_is_refused(text):
    with pytest.raises(InputError, match="is no flag of XLA"):
        flags("cpu", (text,))
