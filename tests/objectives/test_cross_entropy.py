"""Chunks and shards of the cross entropy change neither its value nor its gradients."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.objectives.cross_entropy import Layout, token_nll, weighted_nll
from jaxchat.sharding import Rules

B, T, D, V = 8, 6, 16, 128


def problem() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    x_BTD = rng.normal(size=(B, T, D)).astype(np.float32)
    table_VD = rng.normal(size=(V, D)).astype(np.float32)
    targets_BT = rng.integers(0, V, (B, T)).astype(np.int32)
    weights_BT = (rng.random((B, T)) * (rng.random((B, T)) > 0.3)).astype(np.float32)
    return x_BTD, table_VD, targets_BT, weights_BT


def by_the_book(x_BTD, table_VD, targets_BT, weights_BT, cap=None):
    logits_BTV = jnp.einsum("BTD,VD->BTV", x_BTD, table_VD)
    logprobs_BTV = jax.nn.log_softmax(logits_BTV if cap is None else cap * jnp.tanh(logits_BTV / cap))
    return -jnp.sum(jnp.take_along_axis(logprobs_BTV, targets_BT[..., None], -1)[..., 0] * weights_BT)


def stored(layout: Layout, axes: tuple[str, str]) -> PartitionSpec:
    """How the weight is stored by these logical axes of its width and its vocabulary."""
    return Rules().weight(*axes) if layout.weight == "DV" else Rules().weight(*axes[::-1])


@pytest.mark.parametrize(
    ("order", "axes"), [("VD", ("embed", "vocab")), ("DV", ("embed", "vocab")), ("DV", ("read", "words"))], ids=str
)
@pytest.mark.parametrize(
    ("mesh", "chunk", "cap"),
    [
        ({}, 1000, None),
        ({}, 7, None),
        ({}, 7, 3.0),
        ({"fsdp": 2, "tensor": 2, "context": 2}, 5, None),
        ({"data": 4, "tensor": 2}, 1000, 3.0),
        ({"fsdp": 8}, 4, 3.0),  # teams of four share the vocabulary
        ({"fsdp": 4, "tensor": 2}, 5, None),  # teams of two, of halves of it
    ],
    ids=str,
)
def test_value_and_gradients(mesh, chunk, cap, order, axes):
    x, table, targets, weights = problem()
    value, (of_x, of_table) = jax.value_and_grad(by_the_book, argnums=(0, 1))(x, table, targets, weights, cap)
    config = MeshConfig(**mesh)
    devices = jax.devices()[: int(np.prod(list(mesh.values()) or [1]))]
    placed = make_mesh(config, devices)
    with jax.set_mesh(placed):
        layout = Layout(order, Rules(), chunk, cap)
        specs = (layout.hidden_spec, stored(layout, axes), layout.rows_spec, layout.rows_spec)
        arrays = (x, table if order == "VD" else table.T, targets, weights)
        args = [jax.device_put(array, NamedSharding(placed, spec)) for array, spec in zip(arrays, specs)]

        @jax.jit
        def loss(*args):  # 3 times, so that the gradient of what comes after is seen to be passed on
            return 3 * weighted_nll(*args, layout)

        got, (got_x, got_weight) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(*args)
        nll = jax.jit(partial(token_nll, layout=layout))(*args[:3])
        alone = loss(*args)
    np.testing.assert_allclose(got, 3 * value, rtol=1e-5)
    np.testing.assert_allclose(alone, 3 * value, rtol=1e-5)
    np.testing.assert_allclose(got_x, 3 * of_x, atol=1e-5)
    np.testing.assert_allclose(got_weight if order == "VD" else got_weight.T, 3 * of_table, atol=1e-5)
    np.testing.assert_allclose(np.sum(nll * weights), value, rtol=1e-5)


def test_all_logits_are_never_held_at_once():
    rows, width, vocab, chunk = 64, 8, 4096, 16
    one = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(one):
        layout = Layout("VD", Rules(), chunk)
        shapes = [((1, rows, width), jnp.float32), ((vocab, width), jnp.float32)]
        shapes += [((1, rows), jnp.int32), ((1, rows), jnp.float32)]
        specs = (layout.hidden_spec, stored(layout, ("embed", "vocab")), layout.rows_spec, layout.rows_spec)
        gradient = jax.jit(jax.grad(lambda *args: weighted_nll(*args, layout), argnums=(0, 1)))
        args = [jax.device_put(np.zeros(*shape), NamedSharding(one, spec)) for shape, spec in zip(shapes, specs)]
        used = gradient.lower(*args).compile().memory_analysis().temp_size_in_bytes
    assert used < 0.8 * rows * vocab * 4
