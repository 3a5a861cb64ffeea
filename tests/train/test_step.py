"""One update is the same update however its rows are cut up: over devices, over micro-batches."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxchat.data.batch import Batch
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.config import Mixture
from jaxchat.models.decoder import Model, Params
from jaxchat.models.presets import tiny
from jaxchat.objectives.routing import Routing
from jaxchat.train.optim import OptimConfig, make_optimizer
from jaxchat.train.state import abstract, start
from jaxchat.train.step import StepMetrics, make_step

MODEL = Model(replace(tiny(), kv_heads=4, heads=4))
# A parameter whose gradient is rounding alone (a key's slowest-turning pair, which shifts all scores alike) would move
# by the sign of that rounding under Adam's usual eps; under this one it stays.
ADAMW = make_optimizer(OptimConfig(peak_lr=1e-3, warmup=0.0, eps=1e-5), 10)
SGD = optax.sgd(1.0)
ONE = MeshConfig()


def _rows(rows: int, length: int, seed: int = 0) -> Batch:
    """Packed rows of conversations of very different lengths, padding and untrained tokens among them."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, MODEL.config.vocab_size, (rows, length + 1)).astype(np.int32)
    weights = np.zeros((rows, length), np.float32)
    segments, positions = np.zeros((rows, length), np.int32), np.zeros((rows, length), np.int32)
    for row in range(rows):
        begin, segment = 0, 1
        while begin < length - 1:
            end = min(length, begin + int(rng.choice([2, 3, 5, 30, 60])))
            if row % 4 == 3 and begin > 4:
                break  # a row that is nearly all padding
            segments[row, begin:end], positions[row, begin:end] = segment, np.arange(end - begin)
            weights[row, begin : end - 1] = rng.choice([0.0, 0.5, 1.0], end - 1 - begin)
            begin, segment = end, segment + 1
    return Batch(tokens[:, :-1], tokens[:, 1:], weights, segments, positions)


@cache
def _init() -> Params:
    with jax.set_mesh(make_mesh(ONE)):
        return jax.device_get(jax.jit(MODEL.init)(jax.random.key(0)))


def _placed() -> Params:
    """The same first parameters on the mesh that is set."""
    return jax.tree.map(lambda x, shape: jax.device_put(x, shape.sharding.spec), _init(), MODEL.abstract())


def _place_rows(rows: Batch) -> Batch:
    spec = MODEL.rules.activation("batch", "sequence")
    return jax.tree.map(lambda x: jax.device_put(jnp.asarray(x), spec), rows)


@cache
def _train(
    config: MeshConfig, accumulate: int, steps: int, optimizer: optax.GradientTransformation = ADAMW
) -> tuple[list[float], Params]:
    """Losses of `steps` updates and the parameters after them."""
    with jax.set_mesh(make_mesh(config)):
        state = start(_placed(), optimizer)
        step = make_step(MODEL, optimizer, accumulate)
        losses = []
        for k in range(steps):
            state, metrics = step(state, _place_rows(_rows(8, 64, seed=k)))
            losses.append(metrics.loss.item())  # fake devices: block on every step
        return losses, jax.device_get(state.params)


def _largest_difference(a: Any, b: Any) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.max(np.abs(x - y))), a, b)))


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_gives_the_same_update(accumulate: int, optimizer: optax.GradientTransformation):
    whole_losses, whole = _train(ONE, 1, 1, optimizer)
    losses, params = _train(ONE, accumulate, 1, optimizer)
    assert _largest_difference(whole, _init()) > 1e-4
    assert losses == pytest.approx(whole_losses, rel=1e-6)
    assert _largest_difference(whole, params) < 1e-6


@pytest.mark.parametrize(
    "mesh, accumulate",
    [
        (MeshConfig(data=2, fsdp=2), 1),
        (MeshConfig(data=2, tensor=2), 1),
        (MeshConfig(data=4), 1),
        (MeshConfig(fsdp=4), 1),
        (MeshConfig(tensor=4), 1),
        (MeshConfig(fsdp=2, tensor=2), 1),
        (MeshConfig(data=2, fsdp=2), 2),
        (MeshConfig(context=4), 1),
        (MeshConfig(fsdp=2, context=2), 2),
    ],
    ids=lambda x: "x".join(f"{k}{v}" for k, v in vars(x).items() if v > 1) if isinstance(x, MeshConfig) else str(x),
)
def test_ten_steps_have_the_same_losses_on_any_mesh(mesh: MeshConfig, accumulate: int):
    whole, _ = _train(ONE, 1, 10)
    losses, _ = _train(mesh, accumulate, 10)
    assert len(set(whole)) == 10
    np.testing.assert_allclose(losses, whole, rtol=1e-5)


def test_metrics_count_tokens_and_trained_tokens():
    with jax.set_mesh(make_mesh(ONE)):
        rows = _rows(8, 64)
        state = start(_placed(), ADAMW)
        _, metrics = make_step(MODEL, ADAMW)(state, _place_rows(rows))
    assert metrics.tokens.item() == (rows.segments_BT > 0).sum()
    assert metrics.weight.item() == rows.weights_BT.sum()


def test_the_abstract_state_is_the_state_with_its_shardings():
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        state = jax.jit(lambda key: start(MODEL.init(key), ADAMW))(jax.random.key(0))
        expected = abstract(MODEL.abstract(), ADAMW)
        assert jax.tree.structure(state) == jax.tree.structure(expected)
        for array, shape in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
            assert (array.shape, array.dtype) == (shape.shape, shape.dtype)
            if shape.sharding is not None:  # counters have none
                assert array.sharding.spec == shape.sharding.spec


MIXED = Model(replace(MODEL.config, mlp=Mixture(experts=4, chosen=2)))


@cache
def _train_mixed(
    config: MeshConfig, accumulate: int, steps: int, routing: Routing
) -> tuple[list[StepMetrics], Params, Params]:
    """Metrics of `steps` updates of a mixture of experts, and the parameters before and after them."""
    with jax.set_mesh(make_mesh(config)):
        first = jax.device_get(jax.jit(MIXED.init)(jax.random.key(0)))
        # Tokens that are somewhat alike, so that routers prefer some experts for all of them.
        first["embed"]["table"] = first["embed"]["table"] + np.float32(0.2)
        placed = jax.tree.map(lambda x, shape: jax.device_put(x, shape.sharding.spec), first, MIXED.abstract())
        optimizer = SGD if steps == 1 else make_optimizer(OptimConfig(peak_lr=3e-3, warmup=0.0), steps)
        state, step, found = start(placed, optimizer), make_step(MIXED, optimizer, accumulate, routing), []
        for k in range(steps):
            state, metrics = step(state, _place_rows(_rows(8, 64, seed=k)))
            found.append(jax.device_get(metrics))
        return found, first, jax.device_get(state.params)


@pytest.mark.parametrize(
    "mesh, accumulate", [(ONE, 4), (MeshConfig(expert=4), 1), (MeshConfig(expert=2), 2)], ids=["rows", "mesh", "both"]
)
def test_the_balance_of_experts_is_the_whole_batchs_however_it_is_cut_up(mesh: MeshConfig, accumulate: int):
    routing = Routing(balance=1.0, z=0.1)
    (whole,), first, expected = _train_mixed(ONE, 1, 1, routing)
    (cut,), _, params = _train_mixed(mesh, accumulate, 1, routing)
    for name in ("loss", "balance_loss", "router_z_loss"):
        assert getattr(cut, name) == pytest.approx(getattr(whole, name), rel=1e-5)
    assert _largest_difference(expected, params) < 2e-6
    _, _, without = _train_mixed(ONE, 1, 1, Routing(balance=0.0, z=0.1))
    assert _largest_difference(expected["layers"]["mlp"], without["layers"]["mlp"]) > 1e-3
    assert _largest_difference(expected, first) > 1e-3


def test_training_brings_experts_into_balance():
    balanced, left = (_train_mixed(ONE, 1, 40, Routing(balance, 0.0))[0] for balance in (1.0, 0.0))
    began = balanced[0].balance_loss
    ended, ended_left = (np.mean([metrics.balance_loss for metrics in run[-5:]]) for run in (balanced, left))
    print(f"balance loss {began:.3f}, after 40 steps {ended:.3f}, where it weighs nothing {ended_left:.3f}")
    assert began > 1.1
    assert ended - 1 < 0.5 * (began - 1)
    assert ended < ended_left


def test_a_model_without_experts_has_no_losses_of_routers():
    with jax.set_mesh(make_mesh(ONE)):
        _, metrics = make_step(MODEL, ADAMW)(start(_placed(), ADAMW), _place_rows(_rows(8, 64)))
    assert metrics.balance_loss is None and metrics.router_z_loss is None
