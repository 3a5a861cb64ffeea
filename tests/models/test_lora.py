"""An adapter begins as nothing, learns alone, computes the same merged, and lies on any mesh as on one device."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.data.batch import Batch
from jaxchat.errors import InputError
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models import lora
from jaxchat.models.config import DecoderConfig, Gated, Kind, LayerNorm, Plain
from jaxchat.models.decoder import Model, Params
from jaxchat.models.lora import DoRA, LoRA
from jaxchat.models.presets import tiny
from jaxchat.models.quantised import Float32, Int8, Nf4, is_quantised
from jaxchat.objectives.language_model import losses
from jaxchat.train.optim import OptimConfig
from jaxchat.train.program import Program, build

LLAMA = replace(tiny(), heads=4, kv_heads=4)
SHAPES: dict[str, DecoderConfig] = {
    "llama": LLAMA,
    "biases and kinds": replace(
        tiny(), layers=3, qkv_bias=True, out_bias=True, mlp=Gated(bias=True), kinds=(Kind(4), Kind())
    ),
    "gpt2": replace(LLAMA, norm=LayerNorm(), mlp=Plain(), qkv_bias=True, out_bias=True, learned_positions=True),
}
ADAPTERS: dict[str, LoRA] = {
    "lora": LoRA(rank=4, alpha=8),
    "q and down, rank-stabilised": LoRA(rank=3, alpha=5, rank_stabilised=True, targets=("q", "down")),
    "dora": DoRA(rank=4, alpha=8),
    "int8": LoRA(rank=4, alpha=8, base=Int8()),
    "nf4 dora": DoRA(rank=4, alpha=8, base=Nf4()),
}
ONE = MeshConfig()
# Adam moves a weight by the sign of its gradient, were it rounding alone; under this eps it stays.
OPTIM = OptimConfig(peak_lr=1e-2, warmup=0.0, eps=1e-5, clip=0)


def rows(count: int = 8, length: int = 24) -> Batch:
    rng = np.random.default_rng(0)
    segments = np.repeat(np.array([[1, 2, 0]]), [9, length - 11, 2], axis=1).repeat(count, 0).astype(np.int32)
    positions = np.concatenate([np.arange(9), np.arange(length - 11), np.arange(2)])[None].repeat(count, 0)
    tokens = rng.integers(0, LLAMA.vocab_size, (2, count, length)).astype(np.int32)
    return Batch(*tokens, (segments > 0).astype(np.float32), segments, positions.astype(np.int32))


def on_mesh(batch: Batch) -> Batch:
    spec = Model(LLAMA).rules.activation("batch", "sequence")
    return jax.tree.map(lambda x: jax.device_put(jnp.asarray(x), spec), batch)


def placed(tree: Any, like: Any) -> Any:
    return jax.tree.map(lambda x, shape: jax.device_put(jnp.asarray(x), shape.sharding.spec), tree, like)


@cache
def weights(config: DecoderConfig) -> Params:
    """The model's own, on the host; no scale is one, no bias zero."""
    with jax.set_mesh(make_mesh(ONE, jax.devices()[:1])):
        shapes = Model(config).abstract()
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: (rng.standard_normal(leaf.shape) * 0.2).astype(np.float32), shapes)


def begin(model: Model, adapter: LoRA) -> tuple[Params, Params]:
    """The frozen weights and an adapter that changes something, on the mesh that is set."""
    base = lora.held(placed(weights(model.config), model.abstract()), model, adapter.base)
    fresh = lora.init(model, adapter, base, jax.random.key(1))
    rng = np.random.default_rng(1)
    moved = jax.tree.map(lambda x: (np.asarray(x) + rng.standard_normal(x.shape) * 0.2).astype(np.float32), fresh)
    return base, placed(moved, fresh)


@partial(jax.jit, static_argnums=0)
def logits(model: Model, params: Params, batch: Batch) -> jax.Array:
    return model.logits(params, model.hidden(params, batch.tokens_BT, batch.positions_BT, batch.segments_BT))


@pytest.fixture
def mesh() -> Any:
    with jax.set_mesh(make_mesh(ONE, jax.devices()[:1])):
        yield


@pytest.mark.usefixtures("mesh")
@pytest.mark.parametrize(
    ("shape", "kind"), [*(("llama", kind) for kind in ADAPTERS), ("biases and kinds", "nf4 dora"), ("gpt2", "lora")]
)
def test_a_fresh_adapter_changes_nothing_and_a_merged_one_computes_the_same(shape: str, kind: str) -> None:
    model, adapter, batch = Model(SHAPES[shape]), ADAPTERS[kind], rows(2)
    base, moved = begin(model, adapter)
    plain = logits(model, lora.merged(base), batch)
    fresh = lora.attached(base, lora.init(model, adapter, base, jax.random.key(1)), adapter)
    np.testing.assert_allclose(logits(model, fresh, batch), plain, atol=2e-5)
    both = lora.attached(base, moved, adapter)
    apart = logits(model, both, batch)
    assert jnp.abs(apart - plain).max() > 0.1
    np.testing.assert_allclose(logits(model, lora.merged(both), batch), apart, atol=2e-5)


@pytest.mark.usefixtures("mesh")
@pytest.mark.parametrize("kind", ["lora", "int8", "dora"])
def test_its_gradients_are_those_of_the_merged_weights(kind: str) -> None:
    """By the chain rule, from the gradients of the weights that it is merged into. DoRA's are taken with every
    column's length held still, as its authors propose."""
    model, adapter, batch = Model(LLAMA), ADAPTERS[kind], on_mesh(rows(2))
    base, moved = begin(model, adapter)
    still = jax.tree.map(jnp.asarray, moved)

    def merged(base: Params, moved: Params) -> Params:
        def join(base: Any, moved: Any, still: Any) -> Any:
            if "a" not in moved:
                return {key: join(base[key], moved[key], still[key]) if key in moved else base[key] for key in base}
            both, held = (lora.Adapted(base, x["a"], x["b"], None, adapter.scale).whole() for x in (moved, still))
            if "magnitude" not in moved:
                return both
            axes = tuple(range(1, moved["a"].ndim - 1))
            length = jnp.sqrt(jnp.sum(jnp.square(held), axes, keepdims=True))
            return both / length * jnp.expand_dims(moved["magnitude"], axes)

        return join(lora.merged(base), moved, still)

    def gradient(model: Model, join: Callable[[Params, Params], Params]) -> Params:
        return jax.jit(jax.grad(lambda moved, base, rows: losses(model, join(base, moved), rows).total))(
            moved, base, batch
        )

    expected = gradient(model, merged)
    for remat in ("none", "dots", "full"):
        found = gradient(replace(model, remat=remat), partial(lora.attached, config=adapter))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-4), found, expected)


def trained(mesh: MeshConfig, adapter: LoRA, accumulate: int = 1, steps: int = 3) -> tuple[list[float], Params]:
    """Losses of a few updates and the adapter after them."""
    devices = jax.devices()[: mesh.data * mesh.fsdp * mesh.tensor * mesh.context]
    with jax.set_mesh(make_mesh(mesh, devices)):
        program, model = program_of(adapter, accumulate), Model(LLAMA)
        base, moved = begin(model, adapter)
        state, losses = program.start(moved), []
        batch = on_mesh(rows())
        for _ in range(steps):
            state, metrics = program.step(state, batch, base)
            losses.append(metrics.loss.item())  # fake devices: block on every step
        return losses, jax.device_get(state.params)


def program_of(adapter: LoRA, accumulate: int = 1) -> Program:
    return build(Model(LLAMA), OPTIM, jax.sharding.get_mesh(), (8, 24), 10, accumulate, adapter=adapter)


@pytest.mark.parametrize("kind", ["lora", "nf4 dora"])
@pytest.mark.parametrize(
    ("mesh", "accumulate"),
    [(MeshConfig(fsdp=2, tensor=2), 1), (MeshConfig(fsdp=2, tensor=2), 2), (MeshConfig(data=2, context=2), 1)],
    ids=["fsdp2 tensor2", "accumulated", "data2 context2"],
)
def test_training_on_any_mesh_is_training_on_one_device(kind: str, mesh: MeshConfig, accumulate: int) -> None:
    whole, params = trained(ONE, ADAPTERS[kind])
    losses, split = trained(mesh, ADAPTERS[kind], accumulate)
    assert len(set(whole)) == 3
    np.testing.assert_allclose(losses, whole, rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), split, params)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_program_knows_what_is_trained_and_where_it_lies(kind: str) -> None:
    adapter = ADAPTERS[kind]
    with jax.set_mesh(make_mesh(MeshConfig(fsdp=2, tensor=2), jax.devices()[:4])):
        program = program_of(adapter)
        base, moved = begin(Model(LLAMA), adapter)
        for made, expected in ((program.start(moved), program.state), (base, program.frozen)):
            assert jax.tree.structure(made) == jax.tree.structure(expected)
            for array, shape in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
                assert (array.shape, array.dtype) == (shape.shape, shape.dtype)
                if shape.sharding is not None:  # counters have none
                    assert array.sharding.spec == shape.sharding.spec
        q = program.state.params["layers"]["attn"]["q"]
        assert (q["a"].sharding.spec, q["b"].sharding.spec) == (
            jax.P(None, "fsdp", None),
            jax.P(None, None, "tensor", None),
        )


def test_no_gradient_of_the_frozen_weights_is_made() -> None:
    """Of the frozen weights, blocks' and embedding alike, no array of their shape comes out of any operation."""
    config = replace(LLAMA, vocab_size=251, hidden=72)
    model, adapter = Model(config), LoRA(rank=2)
    mesh = make_mesh(ONE, jax.devices()[:1])
    with jax.set_mesh(mesh):
        program = build(model, OPTIM, mesh, (2, 24), 10, adapter=adapter)
        jaxpr = str(jax.make_jaxpr(program.step)(program.state, program.batch, program.frozen))
        whole = build(model, OPTIM, mesh, (2, 24), 10)
        reference = str(jax.make_jaxpr(whole.step)(whole.state, whole.batch))

    def products(jaxpr: str, shape: str) -> int:
        lines = re.sub(r"@(\w+|\([^)]*\))", "", jaxpr).splitlines()  # without where arrays lie
        return sum(f":f32[{shape}] = dot_general[" in line for line in lines)

    for shape in ("32,72", "72,32", "251,32"):
        assert products(jaxpr, shape) == 0
        assert products(reference, shape) > 0


@pytest.mark.usefixtures("mesh")
def test_few_bits_hold_little_and_lose_little() -> None:
    model = Model(replace(LLAMA, width=64, hidden=128, head_size=16))
    whole = weights(model.config)
    for bits, limit in ((Int8(), 0.01), (Nf4(), 0.1)):
        held = lora.held(placed(whole, model.abstract()), model, bits)
        back = lora.merged(held)
        for path in lora.projections(model):
            few, near, exact = (lora.at(tree, path) for tree in (held, back, whole))
            assert is_quantised(few)
            assert few.qvalue.nbytes + few.scale.nbytes < 0.35 * exact.nbytes
            error = np.linalg.norm(np.asarray(near) - exact) / np.linalg.norm(exact)
            assert 0 < error < limit
        assert jnp.array_equal(back["embed"]["table"], whole["embed"]["table"])
    assert lora.held(whole, model, Float32()) is whole


@pytest.mark.usefixtures("mesh")
def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="rank is 0"):
        LoRA(rank=0)
    with pytest.raises(InputError, match="targets is empty"):
        LoRA(targets=())
    with pytest.raises(InputError, match="names 'w1'; the model's projections are down, gate, k, o, q, up, v"):
        lora.targets(Model(LLAMA), LoRA(targets=("q", "w1")))
    with pytest.raises(InputError, match="names 'gate'"):
        lora.targets(Model(SHAPES["gpt2"]), LoRA(targets=("gate",)))
