"""Attention against the formula written out in NumPy, and its hand-written gradient against differences."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxchat.mesh import make_mesh
from jaxchat.models.attention import Dot, Sight
from jaxchat.sharding import Rules

SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 3, 3]])
SCALE = 0.7


@pytest.fixture(autouse=True)
def mesh() -> Iterator[None]:
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
        yield


def inputs(B: int = 2, T: int = 6, K: int = 2, G: int = 3, H: int = 4) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    shapes = ((B, T, K, G, H), (B, K, T, H), (B, K, T, H))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def by_the_formula(q_BTKGH, k_BKSH, v_BKSH, mask_BTS, soft_cap=None):
    out = np.zeros(q_BTKGH.shape)
    for b, t, k, g in np.ndindex(q_BTKGH.shape[:4]):
        seen = np.flatnonzero(mask_BTS[b, t])
        scores = k_BKSH[b, k, seen].astype(np.float64) @ q_BTKGH[b, t, k, g] * SCALE
        if soft_cap is not None:
            scores = soft_cap * np.tanh(scores / soft_cap)
        probs = np.exp(scores - scores.max())
        out[b, t, k, g] = (probs / probs.sum()) @ v_BKSH[b, k, seen]
    return out


def dot(q, k, v, sight, soft_cap=None):
    return Dot()(q, k, v, sight, Rules(), scale=SCALE, soft_cap=soft_cap)


@pytest.mark.parametrize("soft_cap", [None, 0.5])
@pytest.mark.parametrize("window", [None, 2])
def test_dot_is_the_formula(window, soft_cap):
    sight = Sight.packed(SEGMENTS, SEGMENTS, window)
    expected = by_the_formula(*inputs(), sight.mask, soft_cap)
    np.testing.assert_allclose(dot(*inputs(), sight, soft_cap), expected, atol=1e-5)


@pytest.mark.parametrize("soft_cap", [None, 0.5])
@pytest.mark.parametrize("window", [None, 2])
def test_its_gradient_is_that_of_the_formula(window, soft_cap):
    sight = Sight.packed(SEGMENTS, SEGMENTS, window)
    check_grads(lambda q, k, v: dot(q, k, v, sight, soft_cap), inputs(), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_no_gradient_reaches_what_is_masked():
    q, k, v = inputs()
    sight = Sight.packed(SEGMENTS, SEGMENTS, 2)

    def of_token_2(k, v):
        return jnp.sum(dot(q, k, v, sight)[:, 2])

    of_k, of_v = jax.grad(of_token_2, argnums=(0, 1))(k, v)
    for grad in (of_k, of_v):
        seen_BS = np.abs(grad).sum((1, 3)) > 0
        np.testing.assert_array_equal(seen_BS, sight.mask[:, 2])


def test_the_packed_mask_is_the_one_in_its_docstring():
    mask = Sight.packed(np.array([[1, 1, 2, 2, 0]]), np.array([[1, 1, 2, 2, 0]])).mask[0].astype(int)
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert mask.tolist() == expected


def test_a_window_ends_that_many_tokens_back():
    mask = Sight.packed(np.array([[1, 1, 1, 1, 2]]), np.array([[1, 1, 1, 1, 2]]), 2).mask[0].astype(int)
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert mask.tolist() == expected


def test_the_mask_of_a_cache_ends_at_the_querys_own_slot():
    mask = Sight.cached(np.array([[2, 3, -1]]), 5).mask[0].astype(int)
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 0, 0, 0, 0]]


def test_a_window_through_a_cache_is_the_same_window():
    mask = Sight.cached(np.array([[0, 3, -1]]), 5, 2).mask[0].astype(int)
    assert mask.tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 0, 0]]
