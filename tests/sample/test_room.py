"""The context that memory decides."""

from __future__ import annotations

import jax
import pytest

from jaxchat.errors import InputError
from jaxchat.sample.room import cache_bytes, context_within, free_bytes
from tests.sample.conftest import MODEL, ONE


def test_the_cache_takes_what_was_said():
    with jax.set_mesh(ONE):
        leaves = jax.tree.leaves(jax.eval_shape(lambda: MODEL.empty_cache(3, 200)))
    assert cache_bytes(MODEL, 3, 200) == sum(x.size * x.dtype.itemsize for x in leaves)


def test_a_context_is_as_long_as_fits():
    whole = MODEL.config.context_length
    assert context_within(MODEL, 4, free_bytes(ONE)) == whole
    assert context_within(MODEL, 4, cache_bytes(MODEL, 4, whole)) == whole
    with pytest.raises(InputError, match="4 answers of 512 tokens need"):
        context_within(MODEL, 4, cache_bytes(MODEL, 4, whole) - 1)
