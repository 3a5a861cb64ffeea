"""A decoder looks back and never ahead or next door, however it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.mesh import make_mesh
from jaxchat.models import presets
from jaxchat.models.config import DecoderConfig, Kind, Rotary, shortest
from jaxchat.models.decoder import Model, Params

MODEL = Model(presets.tiny())
PRESETS = [presets.tiny, presets.nano, presets.smollm2_135m, presets.llama3_8b]

PUBLISHED = [
    presets.llama3_2_1b,
    presets.tinyllama_1_1b,
    presets.smollm3_3b,
    presets.mistral_7b,
    presets.mixtral_8x7b,
    presets.qwen2_5_0_5b,
    presets.qwen3_0_6b,
    presets.qwen3_30b_a3b,
    presets.gemma2_2b,
    presets.gemma3_1b,
    presets.phi3_mini,
    presets.gpt2,
]


@pytest.fixture(autouse=True)
def mesh() -> Iterator[None]:
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
        yield


@pytest.fixture(scope="module")
def params() -> Params:
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
        return jax.jit(MODEL.init)(jax.random.key(0))


def tokens(rows: int, length: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, MODEL.config.vocab_size, (rows, length)).astype(np.int32)


@partial(jax.jit, static_argnums=0)
def logits(model: Model, params: Params, tokens_BT: jax.Array, positions_BT: jax.Array, segments_BT: jax.Array):
    return model.logits(params, model.hidden(params, tokens_BT, positions_BT, segments_BT))


def alone(params: Params, tokens_T: np.ndarray, model: Model = MODEL) -> jax.Array:
    length = len(tokens_T)
    return logits(model, params, tokens_T[None], np.arange(length)[None], np.ones((1, length), np.int32))[0]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_config_counts_its_parameters(preset, tied):
    config = replace(preset(), tied=tied)
    assert config.parameters == sum(x.size for x in jax.tree.leaves(Model(config).abstract()))


def test_presets_have_the_size_in_their_name():
    assert presets.smollm2_135m().parameters == 134_515_008
    assert presets.llama3_8b().parameters == 8_030_261_248
    assert 9e6 < presets.nano().parameters < 11e6


def test_presets_have_as_many_parameters_as_the_published_models():
    assert {preset.__name__: preset().parameters for preset in PUBLISHED} == {
        "llama3_2_1b": 1_235_814_400,
        "tinyllama_1_1b": 1_100_048_384,
        "smollm3_3b": 3_075_098_624,
        "mistral_7b": 7_241_732_096,
        "mixtral_8x7b": 46_702_792_704,
        "qwen2_5_0_5b": 494_032_768,
        "qwen3_0_6b": 596_049_920,
        "qwen3_30b_a3b": 30_532_122_624,
        "gemma2_2b": 2_614_341_888,
        "gemma3_1b": 999_885_952,
        "phi3_mini": 3_821_079_552,
        "gpt2": 124_439_808,
    }


def test_no_token_depends_on_a_later_one(params):
    in_order = np.arange(12, dtype=np.int32)[
        None
    ]  # each token once, so that a row of the table is one token of the sequence
    ones = np.ones((1, 12), np.int32)

    @jax.jit
    def pull(params, t):
        def of_token_t(params):
            hidden_BTD = MODEL.hidden(params, in_order, in_order, ones)
            return jnp.sum(hidden_BTD * (jnp.arange(12) == t)[None, :, None])

        return jax.grad(of_token_t)(params)

    for t in (0, 5, 10):
        moved_T = np.abs(pull(params, t)["embed"]["table"][:12]).sum(-1)
        assert (moved_T[: t + 1] > 0).all()
        assert (moved_T[t + 1 :] == 0).all()


def test_packed_conversations_are_computed_as_if_alone(params):
    first, second = tokens(2, 9)
    row = np.concatenate([first, second[:5], np.zeros(2, np.int32)])
    positions = np.concatenate([np.arange(9), np.arange(5), np.arange(2)])
    segments = np.repeat([1, 2, 0], [9, 5, 2])
    packed = logits(MODEL, params, row[None], positions[None], segments[None])[0]
    np.testing.assert_allclose(packed[:9], alone(params, first), atol=1e-5)
    np.testing.assert_allclose(packed[9:14], alone(params, second[:5]), atol=1e-5)
    assert jnp.isfinite(packed).all()


def gradient(remat):
    """The gradient of some loss, as a function of the parameters."""
    tokens_BT, positions_BT, segments_BT = tokens(2, 10), np.tile(np.arange(10), (2, 1)), np.ones((2, 10), np.int32)
    model = replace(MODEL, remat=remat)

    def loss(params):
        return jnp.mean(jnp.square(model.hidden(params, tokens_BT, positions_BT, segments_BT)[..., :3]))

    return jax.jit(jax.grad(loss))


def test_recomputing_in_the_backward_pass_changes_no_gradient(params):
    whole = gradient("none")(params)
    for remat in ("dots", "full"):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7), whole, gradient(remat)(params))


def test_a_layers_products_are_kept_where_dots_are_to_be(params):
    """In the one loop over layers of the backward pass: q, k, v, o, gate and up again, or not."""
    products = {remat: str(gradient(remat).trace(params).jaxpr).count("dot_general") for remat in ("dots", "full")}
    assert products["full"] - products["dots"] >= 6


def test_reading_through_a_cache_in_parts_is_reading_at_once(params):
    lengths = [11, 7]
    tokens_BT = tokens(2, 11)
    cache = MODEL.empty_cache(2, 16)
    cached = jax.jit(MODEL.cached)
    seen = [[], []]
    for begin, end in ((0, 5), (5, 8), (8, 9), (9, 10), (10, 11)):
        positions_BT = np.array([[t if t < length else -1 for t in range(begin, end)] for length in lengths])
        x_BTD, cache = cached(params, tokens_BT[:, begin:end], positions_BT, cache)
        scores_BTV = MODEL.logits(params, x_BTD)
        for row, length in enumerate(lengths):
            seen[row].append(scores_BTV[row, : max(0, min(end, length) - begin)])
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(np.concatenate(seen[row]), alone(params, tokens_BT[row, :length]), atol=1e-4)


def test_padding_leaves_the_cache_as_it_was(params):
    cache = MODEL.empty_cache(2, 8)
    _, filled = MODEL.cached(params, tokens(2, 4), np.tile(np.arange(4), (2, 1)), cache)
    _, after = MODEL.cached(params, tokens(2, 3), np.array([[4, 5, -1], [-1, -1, -1]]), filled)
    np.testing.assert_array_equal(after.k_LBKHS[:, 1], filled.k_LBKHS[:, 1])
    np.testing.assert_array_equal(after.v_LBKSH[:, 0, :, 6:], filled.v_LBKSH[:, 0, :, 6:])
    assert (after.v_LBKSH[:, 0, :, 4:6] != filled.v_LBKSH[:, 0, :, 4:6]).any()


def test_bfloat16_is_near_float32(params):
    row = tokens(1, 20)[0]
    exact, rough = alone(params, row), alone(params, row, replace(MODEL, dtype="bfloat16"))
    assert rough.dtype == jnp.float32
    assert jnp.abs(exact - rough).max() < 0.1 * jnp.abs(exact).max()


def test_shapes_that_cannot_be_are_refused():
    base = presets.tiny()
    with pytest.raises(InputError, match="is not a multiple"):
        replace(base, kv_heads=3)
    with pytest.raises(InputError, match="head_size 7 is odd"):
        replace(base, head_size=7)
    with pytest.raises(InputError, match="layers is 0"):
        replace(base, layers=0)
    with pytest.raises(InputError, match="3 kinds for 2 layers"):
        replace(base, kinds=(Kind(), Kind(4), Kind(8)))
    with pytest.raises(InputError, match=r"window of model\.kinds is 0"):
        replace(base, kinds=(Kind(0),))
    with pytest.raises(InputError, match=r"fraction 0\.4 of head_size 8 is odd"):
        replace(base, kinds=(Kind(rotary=Rotary(fraction=0.4)),))


def test_kinds_are_told_by_as_few_as_say_the_same_for_every_layer():
    near, far = Kind(4), Kind()
    assert shortest((near, near, near)) == (near,)
    assert shortest((near, near, far) * 2 + (near, near)) == (near, near, far)
    assert shortest((far, near, near)) == (far, near, near)
    config = replace(presets.tiny(), layers=8, kinds=(near, near, far))
    assert [config.kind(layer) for layer in range(8)] == [*(near, near, far) * 2, near, near]
    assert config.flops_per_token(100) - config.flops_per_token(0) == 6 * 2 * 32 * (6 * 4 + 2 * 100)


def test_flops_are_six_a_parameter_but_for_attention_and_lookups():
    config: DecoderConfig = presets.smollm2_135m()
    norms = config.width * (2 * config.layers + 1)
    assert config.flops_per_token(0) == 6 * (config.parameters - norms)
    assert config.flops_per_token(100) - config.flops_per_token(0) == 6 * 2 * 30 * 576 * 100
    assert config.flops_per_token(100) - config.flops_per_token(100, frozen=True) == 2 * (config.parameters - norms)
