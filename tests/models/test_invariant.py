"""A row's numbers do not depend, in any bit, on what is computed beside them, nor on the pieces of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.mesh import make_mesh
from jaxchat.models import invariant
from jaxchat.models.config import LayerNorm
from jaxchat.models.decoder import Model
from jaxchat.models.decoding import for_decoding
from jaxchat.models.presets import smollm2_135m, tiny

ONE = make_mesh(devices=jax.devices()[:1])


@pytest.mark.parametrize(
    ("inputs", "outputs"), [(64, 96), (100, 300), (576, 960), (576, 3072), (896, 1152), (1536, 576), (2500, 64)]
)
def test_products_and_means(inputs, outputs):
    rng = np.random.default_rng(inputs)
    w_IO, x_MI = (rng.standard_normal(shape, dtype=np.float32) for shape in ((inputs, outputs), (100, inputs)))
    product, mean = jax.jit(invariant.product), jax.jit(invariant.mean)
    whole, means = np.asarray(product(x_MI, w_IO)), np.asarray(mean(x_MI))
    np.testing.assert_allclose(whole, x_MI @ w_IO, atol=1e-3)
    np.testing.assert_allclose(means, x_MI.mean(1, keepdims=True), atol=1e-5)
    for count in (1, 2, 3, 7, 16, 17, 33, 64):
        np.testing.assert_array_equal(np.asarray(product(x_MI[:count], w_IO)), whole[:count])
        np.testing.assert_array_equal(np.asarray(mean(x_MI[:count])), means[:count])


@pytest.mark.parametrize(
    "config", [tiny(), replace(tiny(), norm=LayerNorm()), smollm2_135m()], ids=["rms", "layer", "smollm2"]
)
@pytest.mark.parametrize("weights", ["whole", "int8"])
def test_hidden_states_and_scores_of_a_row(config, weights):
    config = replace(config, layers=2, vocab_size=512)
    tokens_BT = np.random.default_rng(0).integers(0, 512, (16, 40)).astype(np.int32)
    with jax.set_mesh(ONE):
        model = Model(config)
        params: Any = jax.jit(model.init)(jax.random.key(0))
        model, params = for_decoding(model, params, weights, invariant=True)

        @partial(jax.jit, static_argnames="span")
        def read(params, tokens_RT, positions_RT, cache, rows_R, span):
            x_RTD, cache = model.cached(params, tokens_RT, positions_RT, cache, rows_R, span)
            return jnp.concatenate([x_RTD, model.logits(params, x_RTD)], axis=2), cache

        def states(rows: int, piece: int, span: int) -> np.ndarray:
            """Those of the first row, read in pieces of so many tokens beside others."""
            cache, found = model.empty_cache(16, 512), []
            for begin in range(0, tokens_BT.shape[1], piece):
                cut_RT = tokens_BT[:rows, begin : begin + piece]
                positions_RT = np.tile(begin + np.arange(cut_RT.shape[1], dtype=np.int32), (rows, 1))
                found_RTx, cache = read(params, cut_RT, positions_RT, cache, jnp.arange(rows), span=span)
                found.append(np.asarray(found_RTx)[0])
            return np.concatenate(found)

        alone = states(1, 1, 128)
        for rows, piece, span in ((2, 1, 128), (4, 1, 512), (16, 1, 128), (1, 8, 128), (4, 20, 512), (1, 40, 128)):
            np.testing.assert_array_equal(states(rows, piece, span), alone)
