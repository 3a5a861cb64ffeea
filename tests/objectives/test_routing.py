"""The losses of routers: the published ones, over tokens that are no padding, and lowest where experts share alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.models.mixture import Routed
from jaxchat.objectives.routing import Routing, balance, penalty, z

B, T, E, K = 3, 20, 6, 2
SEGMENTS_BT = (np.arange(T) < np.array([20, 13, 4])[:, None]).astype(np.int32)
TOKENS = SEGMENTS_BT.sum()
LOGITS_LBTE = np.random.default_rng(0).normal(0, 2, (2, B, T, E)).astype(np.float32)


def routed(logits_LBTE: jax.Array, segments_BT: np.ndarray = SEGMENTS_BT) -> Routed:
    layers = [Routed.of(logits_BTE, jax.lax.top_k(logits_BTE, K)[1], segments_BT) for logits_BTE in logits_LBTE]
    return jax.tree.map(lambda *each: jnp.stack(each), *layers)


def test_the_balance_loss_is_transformers():
    import torch
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    def theirs(logits_BTE: np.ndarray) -> float:
        flat = torch.from_numpy(logits_BTE).reshape(-1, E)
        return float(load_balancing_loss_func((flat,), E, K, torch.from_numpy(SEGMENTS_BT)))

    # Theirs counts a token once for each expert that it takes, so that the least is their number.
    expected = np.mean([theirs(logits_BTE) / K for logits_BTE in LOGITS_LBTE])
    assert balance(routed(LOGITS_LBTE), TOKENS) == pytest.approx(expected, rel=1e-6)
    assert expected > 1.01


def test_the_z_loss_is_the_mean_square_of_what_the_softmax_divides_by():
    norms_LBT = np.log(np.exp(LOGITS_LBTE).sum(-1))
    expected = (np.square(norms_LBT) * SEGMENTS_BT).sum() / TOKENS / 2
    assert z(routed(LOGITS_LBTE), TOKENS) == pytest.approx(expected, rel=1e-5)


def test_experts_that_share_alike_are_in_balance_and_one_that_takes_all_is_not():
    even_BTE = np.eye(E)[np.arange(B * T) % E].reshape(B, T, E) + np.eye(E)[(np.arange(B * T) + 1) % E].reshape(B, T, E)
    everything = np.ones((B, T), np.int32)
    assert balance(routed(100 * even_BTE[None], everything), B * T) == pytest.approx(1)
    one_BTE = np.tile(100.0 * (np.arange(E) < K), (B, T, 1))
    assert balance(routed(one_BTE[None], everything), B * T) == pytest.approx(E / K)


def test_with_the_batchs_counts_a_part_of_it_adds_its_own_share_of_the_gradient():
    whole = routed(LOGITS_LBTE)
    routing = Routing(balance=0.7, z=0.2)

    def gradient(segments_BT: np.ndarray) -> jax.Array:
        return jax.grad(lambda logits: penalty(routed(logits, segments_BT), whole.chosen_LE, routing))(LOGITS_LBTE)

    rows = [SEGMENTS_BT * (np.arange(B) == row)[:, None] for row in range(B)]
    np.testing.assert_allclose(sum(map(gradient, rows)), gradient(SEGMENTS_BT), atol=1e-6)
    assert np.abs(gradient(rows[2])).max() > 0
    assert not gradient(SEGMENTS_BT)[:, SEGMENTS_BT == 0].any()
