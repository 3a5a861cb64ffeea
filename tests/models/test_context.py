"""A row whose sequence lies over several devices is the row that lies on one: the mesh's `context` axis."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.attention import Backend, Dot, Splash
from jaxchat.models.config import Kind
from jaxchat.models.decoder import Model
from jaxchat.models.presets import tiny

T = 2048
MODEL = Model(replace(tiny(), heads=4, kv_heads=2, context_length=T))
ONE = MeshConfig()


@cache
def outcome(mesh: MeshConfig, backend: Backend, windows: tuple[int | None, ...]) -> tuple[np.ndarray, dict]:
    """Logits of packed rows, and the parameters' gradients of a mean over them."""
    kinds = tuple(Kind(window) for window in windows)
    model = replace(MODEL, config=replace(MODEL.config, kinds=kinds), attention=backend)
    rng = np.random.default_rng(0)
    lengths = [700, 1, 500, 847 - 60, 60]
    segments_BT = np.repeat([1, 2, 3, 4, 0], lengths)[None].astype(np.int32)
    positions_BT = np.concatenate([np.arange(length) for length in lengths])[None].astype(np.int32)
    tokens_BT = rng.integers(0, model.config.vocab_size, (1, T)).astype(np.int32)
    toward_BTV = rng.normal(size=(1, T, model.config.vocab_size)).astype(np.float32)
    with jax.set_mesh(make_mesh(mesh, jax.devices()[: 1 if mesh == ONE else 8])):
        spec = model.rules.activation
        params = jax.tree.map(
            lambda x: jax.device_put(0.3 * rng.normal(size=x.shape).astype(np.float32), x.sharding.spec),
            model.abstract(),
        )
        rows = (
            jax.device_put(jnp.asarray(x), spec("batch", "sequence")) for x in (tokens_BT, positions_BT, segments_BT)
        )
        toward = jax.device_put(jnp.asarray(toward_BTV), spec("batch", "sequence", "vocab"))

        def loss(params, tokens_BT, positions_BT, segments_BT, toward_BTV):
            logits_BTV = model.logits(params, model.hidden(params, tokens_BT, positions_BT, segments_BT))
            return jnp.mean(logits_BTV * toward_BTV), logits_BTV

        (_, logits_BTV), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, *rows, toward)
        return np.asarray(logits_BTV), jax.device_get(grads)


@pytest.mark.parametrize(
    "windows, backend",
    [
        pytest.param((None,), Dot(), marks=pytest.mark.slow),
        ((300, None), Dot()),
        pytest.param((300, None), Splash(interpret=True), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_four_devices_over_a_sequence_are_one(windows, backend):
    logits_BTV, grads = outcome(MeshConfig(context=4), backend, windows)
    whole_BTV, whole = outcome(ONE, Dot(), windows)
    np.testing.assert_allclose(logits_BTV, whole_BTV, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, whole)
    assert max(np.abs(x).max() for x in jax.tree.leaves(whole)) > 1e-3
