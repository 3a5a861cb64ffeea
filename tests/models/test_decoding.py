"""Parameters laid out for decoding compute what they did before, and the CPU reads each of them where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models import presets
from jaxchat.models.decoder import Model
from jaxchat.models.decoding import for_decoding
from jaxchat.models.int8 import Int8, quantise
from jaxchat.models.streaming import BLOCK, FEW, streamed


@pytest.fixture
def mesh() -> Iterator[None]:
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
        yield


@pytest.mark.usefixtures("mesh")
@pytest.mark.parametrize(("tied", "layout"), [(True, "decoding"), (False, "decoding"), (False, "invariant")])
def test_the_layout_changes_nothing_but_rounding(tied, layout):
    model = Model(replace(presets.tiny(), tied=tied))
    params = jax.jit(model.init)(jax.random.key(0))
    decoding, laid_out = for_decoding(model, params, invariant=layout == "invariant")
    assert decoding.layout == layout
    assert jax.tree.map(np.shape, laid_out) == jax.tree.map(np.shape, decoding.abstract())
    tokens_BT = np.random.default_rng(0).integers(0, 256, (3, 9))
    positions_BT, segments_BT = np.tile(np.arange(9), (3, 1)), np.ones((3, 9), np.int32)

    @jax.jit
    def logits(params):
        return model.logits(params, model.hidden(params, tokens_BT, positions_BT, segments_BT))

    @jax.jit
    def one_by_one(params):
        def read(cache, column):
            x_B1D, cache = decoding.cached(params, *(column_B[:, None] for column_B in column), cache)
            return cache, decoding.logits(params, x_B1D)[:, 0]

        return jax.lax.scan(read, decoding.empty_cache(3, 16), (tokens_BT.T, positions_BT.T))[1].swapaxes(0, 1)

    @jax.jit
    def at_once(params):
        return decoding.logits(params, decoding.hidden(params, tokens_BT, positions_BT, segments_BT))

    expected = logits(params)
    np.testing.assert_allclose(one_by_one(laid_out), expected, atol=1e-5)
    np.testing.assert_allclose(at_once(laid_out), expected, atol=1e-5)


def test_parameters_on_several_devices_stay_as_they_are():
    with jax.set_mesh(make_mesh(MeshConfig(tensor=2), devices=jax.devices()[:2])):
        model = Model(presets.tiny())
        params = jax.jit(model.init)(jax.random.key(0))
        assert for_decoding(model, params) == (model, params)


@pytest.mark.parametrize("tokens", [1, 2, FEW, FEW + 1])
@pytest.mark.parametrize("width", [576, 4095, 4096])
def test_a_weight_is_read_where_it_lies(tokens, width):
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((1, tokens, width), (width, width)))
    product = jax.jit(streamed).lower(x, weight).compile()
    np.testing.assert_allclose(product(x, weight)[0], x[0] @ weight.T, atol=1e-3)
    # A copy of the weight, transposed say, would need as much room again.
    assert product.memory_analysis().temp_size_in_bytes < max(weight.nbytes // 4, 4 * x.nbytes)


@pytest.mark.usefixtures("mesh")
@pytest.mark.parametrize("layout", ["decoding", "training"])
def test_eight_bits_lose_no_more_than_their_rounding(layout):
    model = Model(presets.tiny(), dtype="float32" if layout == "decoding" else "bfloat16")
    params = jax.jit(model.init)(jax.random.key(0))
    eight, kept = for_decoding(model, params, "int8")
    assert eight.layout == layout
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(kept)]
    assert {np.dtype("int8"), np.dtype("float32")} == set(dtypes)
    # Computed in float32 from the weights as they are rounded, by the book:
    whole, rounded = Model(presets.tiny()), for_decoding(replace(model, dtype="bfloat16"), params, "int8")[1]
    rounded = jax.tree.map(lambda x: x.astype("float32") if isinstance(x, Int8) else x, rounded, is_leaf=_is_int8)
    tokens_BT = np.random.default_rng(0).integers(0, 256, (3, 9))
    positions_BT, segments_BT = np.tile(np.arange(9), (3, 1)), np.ones((3, 9), np.int32)

    def logits(model, params):
        with_params = jax.jit(lambda params: model.logits(params, model.hidden(params, *arrays)))
        arrays = (tokens_BT, positions_BT, segments_BT)
        return np.asarray(with_params(params))

    expected, exact = logits(whole, rounded), logits(whole, params)
    found = logits(eight, kept)
    np.testing.assert_allclose(found, expected, atol=1e-5 if layout == "decoding" else 0.1)
    assert 0 < np.abs(expected - exact).max() < 0.05 * np.abs(exact).max()


def _is_int8(x: object) -> bool:
    return isinstance(x, Int8)


@pytest.mark.parametrize("tokens", [1, 3, FEW + 1])
@pytest.mark.parametrize("outputs", [64, 3 * BLOCK // 48])
def test_a_product_with_eight_bits_is_that_of_the_weight_they_stand_for(tokens, outputs):
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((1, tokens, 48), (outputs, 48)))
    eight = quantise(jax.numpy.asarray(weight), (1,))
    assert np.abs(eight.astype(np.float32) - weight).max() <= np.abs(weight).max() / 254 + 1e-6
    expected = x[0] @ np.asarray(eight.astype(np.float32)).T
    np.testing.assert_allclose(jax.jit(streamed)(x, eight)[0], expected, atol=1e-4)
