"""A mixture of experts computes the same wherever its experts lie and however its tokens come."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.config import Mixture
from jaxchat.models.decoder import Model
from jaxchat.models.decoding import for_decoding
from jaxchat.models.presets import tiny
from jaxchat.objectives.routing import Routing, penalty
from jaxchat.sharding import Rules
from jaxchat.train.checks import check_model

MODEL = Model(replace(tiny(), mlp=Mixture(experts=8, chosen=3)))
ONE = MeshConfig()
B, T = 4, 48
TOKENS_BT = np.random.default_rng(0).integers(0, 256, (B, T)).astype(np.int32)
POSITIONS_BT = np.tile(np.arange(T), (B, 1)).astype(np.int32)
SEGMENTS_BT = (np.array([48, 30, 48, 7])[:, None] > POSITIONS_BT).astype(np.int32)


@cache
def params() -> Any:
    with jax.set_mesh(make_mesh(ONE)):
        made = jax.device_get(jax.jit(MODEL.init)(jax.random.key(0)))
    mlp = made["layers"]["mlp"]
    mlp["router"] = 5 * mlp["router"]  # so that some experts are taken far more often than others
    return made


@cache
def outcome(mesh: MeshConfig) -> tuple[np.ndarray, Any, Any]:
    """Logits, what the routers did, and the gradient of both."""
    with jax.set_mesh(make_mesh(mesh)):
        placed = jax.tree.map(lambda x, shape: jax.device_put(x, shape.sharding.spec), params(), MODEL.abstract())
        spec = MODEL.rules.activation("batch", "sequence")
        rows = tuple(jax.device_put(jnp.asarray(x), spec) for x in (TOKENS_BT, POSITIONS_BT, SEGMENTS_BT))

        def loss(params, *rows):
            x_BTD, routed = MODEL.read(params, *rows)
            logits_BTV = MODEL.logits(params, x_BTD)
            losses = penalty(routed, routed.chosen_LE, Routing(balance=1.0, z=0.1)) / B / T
            return jnp.mean(jnp.square(logits_BTV)) + losses, (logits_BTV, routed)

        grads, (logits_BTV, routed) = jax.jit(jax.grad(loss, has_aux=True))(placed, *rows)
        return np.asarray(logits_BTV), jax.device_get(routed), jax.device_get(grads)


@pytest.mark.parametrize(
    "mesh",
    [MeshConfig(expert=4), MeshConfig(expert=2, tensor=2), MeshConfig(fsdp=2, expert=2, context=2)],
    ids=lambda mesh: "x".join(f"{name}{size}" for name, size in vars(mesh).items() if size > 1),
)
def test_split_over_devices_is_whole(mesh: MeshConfig):
    whole, split = outcome(ONE), outcome(mesh)
    chosen_LE = whole[1].chosen_LE
    assert chosen_LE.max() > 3 * max(chosen_LE.min(), 1)  # a device is sent far more than its share of the tokens
    np.testing.assert_allclose(split[0], whole[0], atol=5e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), split[1], whole[1])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), split[2], whole[2])
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(whole[2]["layers"]["mlp"]))


def test_experts_lie_apart_on_the_mesh():
    with jax.set_mesh(make_mesh(MeshConfig(expert=4))):
        made = jax.jit(MODEL.init)(jax.random.key(0))
    assert {shard.data.shape[1] for shard in made["layers"]["mlp"]["experts"]["gate"].addressable_shards} == {2}


def test_padding_is_not_counted():
    _, routed, _ = outcome(ONE)
    tokens = SEGMENTS_BT.sum()
    np.testing.assert_array_equal(routed.chosen_LE.sum(1), 3 * tokens)
    np.testing.assert_allclose(routed.shares_LE.sum(1), tokens, rtol=1e-5)


def test_a_token_takes_no_other_expert_for_its_neighbours():
    with jax.set_mesh(make_mesh(ONE, jax.devices()[:1])):
        ones = np.ones((1, 7), np.int32)
        alone = jax.jit(MODEL.hidden)(params(), TOKENS_BT[3:, :7], POSITIONS_BT[3:, :7], ones)
        among = jax.jit(MODEL.hidden)(params(), TOKENS_BT, POSITIONS_BT, SEGMENTS_BT)
    np.testing.assert_allclose(among[3:, :7], alone, atol=1e-5)


@pytest.mark.parametrize("laid_out", [False, True], ids=["training", "decoding"])
def test_reading_through_a_cache_is_reading_at_once(laid_out: bool):
    with jax.set_mesh(make_mesh(ONE, jax.devices()[:1])):
        rows = TOKENS_BT[:2, :20], POSITIONS_BT[:2, :20], np.ones((2, 20), np.int32)
        whole = jax.jit(MODEL.hidden)(params(), *rows)
        model, held = for_decoding(MODEL, params()) if laid_out else (MODEL, params())
        assert model.layout == ("decoding" if laid_out else "training")
        np.testing.assert_allclose(jax.jit(model.hidden)(held, *rows), whole, atol=1e-5)
        cache, parts, cached = model.empty_cache(2, 32), [], jax.jit(model.cached)
        for begin, end in ((0, 17), (17, 18), (18, 20)):
            x_BTD, cache = cached(held, rows[0][:, begin:end], rows[1][:, begin:end], cache)
            parts.append(x_BTD)
        np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=1e-5)


def test_experts_that_do_not_divide_over_devices_are_refused():
    config = replace(MODEL.config, mlp=Mixture(experts=6, chosen=2))
    with pytest.raises(InputError, match=r"experts 6 does not divide over expert=4; set --mesh\.expert to 2"):
        check_model(config, {**vars(ONE), "expert": 4}, Rules())


def test_only_a_tokens_own_experts_count_as_its_operations():
    config = replace(MODEL.config, mlp=Mixture(experts=8, chosen=2))
    more = replace(config, mlp=Mixture(experts=8, chosen=3))
    one = 3 * config.width * config.hidden
    assert more.flops_per_token(0) - config.flops_per_token(0) == 6 * config.layers * one
    assert more.parameters == config.parameters
