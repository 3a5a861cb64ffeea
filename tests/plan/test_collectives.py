"""What programs send is counted as it can be written down: compiled for eight devices, against closed forms."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.plan.collectives import by_axes, by_kind, by_role, collectives, replica_groups
from jaxchat.plan.hlo import parse

L, B, T, D, F = 5, 16, 8, 32, 64  # layers, rows, tokens, width, hidden units
F32 = 4


def counted(mesh, body, specs, shapes, out, slices=1, gradient=False):
    """The collectives of a scan of `body(carry, *layer)` over L layers; those of its gradient too."""
    placed = make_mesh(mesh)

    @partial(jax.shard_map, in_specs=specs, out_specs=out, check_vma=False, mesh=placed)
    def through(x, *layers):
        return jax.lax.scan(lambda x, layer: (body(x, *layer), None), x, layers)[0]

    function = jax.grad(lambda *args: jnp.sum(through(*args)), argnums=1) if gradient else through
    with jax.set_mesh(placed):
        args = [
            jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(placed, spec))
            for shape, spec in zip(shapes, specs)
        ]
        text = jax.jit(function).lower(*args).compile().as_text()
    return collectives(parse(text), placed, slices)


def kinds(found):
    return {kind: (one["bytes"], one["count"]) for kind, one in by_kind(found).items()}


def test_fsdp_gathers_each_layer_and_scatters_its_gradient():
    def layer(x, w):
        return x @ jax.lax.all_gather(w, "fsdp", tiled=True)

    rows, weight = P("fsdp", None), P(None, "fsdp", None)
    specs, shapes = (rows, weight), ((B, D), (L, D, D))
    forward = counted(MeshConfig(fsdp=8), layer, specs, shapes, rows)
    assert kinds(forward) == {"all-gather": (L * D * D * F32, L)}
    both = kinds(counted(MeshConfig(fsdp=8), layer, specs, shapes, rows, gradient=True))
    assert both["all-gather"][0] in (L * D * D * F32, 2 * L * D * D * F32)  # kept, or gathered again
    assert both["reduce-scatter"] == (L * D * D // 8 * F32, L)  # its result is the shard
    assert {one.axes for one in forward} == {("fsdp",)}


def test_tensor_sums_activations():
    def layer(x, up, down):
        return jax.lax.psum(jnp.tanh(x @ up) @ down, "tensor")

    specs = (P(), P(None, None, "tensor"), P(None, "tensor", None))
    found = counted(MeshConfig(tensor=8), layer, specs, ((B, D), (L, D, F), (L, F, D)), P())
    assert kinds(found) == {"all-reduce": (L * B * D * F32, L)}
    assert sum(one.sent for one in found) == pytest.approx(2 * 7 / 8 * L * B * D * F32)


def test_fsdp_and_tensor_each_over_its_axis():
    def layer(x, up, down):
        up, down = (jax.lax.all_gather(w, "fsdp", axis=axis, tiled=True) for w, axis in ((up, 0), (down, 1)))
        return jax.lax.psum(jnp.tanh(x @ up) @ down, "tensor")

    rows = P("fsdp", None)
    specs = (rows, P(None, "fsdp", "tensor"), P(None, "tensor", "fsdp"))
    found = counted(MeshConfig(fsdp=4, tensor=2), layer, specs, ((B, D), (L, D, F), (L, F, D)), rows)
    places = {one["axes"]: one["bytes"] for one in by_axes(found)}
    assert places == {"fsdp": {"all-gather": 2 * L * D * F // 2 * F32}, "tensor": {"all-reduce": L * B // 4 * D * F32}}


def test_experts_exchange_tokens_there_and_back():
    def layer(x, w):
        there = jax.lax.all_to_all(x, "expert", 0, 1, tiled=True)
        return jax.lax.all_to_all(jnp.einsum("etd,edf->etf", there, w), "expert", 1, 0, tiled=True)

    tokens = P(None, "expert", None)
    specs, shapes = (tokens, P(None, "expert", None, None)), ((8, B, D), (L, 8, D, D))
    found = counted(MeshConfig(expert=8), layer, specs, shapes, tokens)
    assert kinds(found) == {"all-to-all": (2 * L * B * D * F32, 2 * L)}


def test_context_gathers_keys_and_values():
    def layer(x, w):
        keys, values = (jax.lax.all_gather(x @ each, "context", axis=1, tiled=True) for each in w)
        return x + jnp.einsum("bts,bsd->btd", jnp.einsum("btd,bsd->bts", x, keys), values)

    rows = P(None, "context", None)
    found = counted(MeshConfig(context=8), layer, (rows, P()), ((B, T, D), (L, 2, D, D)), rows)
    assert kinds(found)["all-gather"][0] == 2 * L * B * T * D * F32
    assert {one.axes for one in found} == {("context",)}


def test_two_slices_sum_only_the_parts_of_a_gradient_between_them():
    def layer(x, w):
        grad = jax.lax.psum_scatter(x.T @ (x @ w), "fsdp", tiled=True)  # within a slice
        return x + jax.lax.all_gather(jax.lax.psum(grad, "data"), "fsdp", tiled=True)[: len(x)]  # then between them

    rows = P(("data", "fsdp"), None)
    mesh = MeshConfig(fsdp=4, slices=2)
    found = counted(mesh, layer, (rows, P()), ((B * D // 2, D), (L, D, D)), rows, slices=2)
    between = [one for one in found if one.sliced]
    assert kinds(between) == {"all-reduce": (L * D * D // 4 * F32, L)}
    within = kinds([one for one in found if not one.sliced])
    assert within == {"all-gather": (L * D * D * F32, L), "reduce-scatter": (L * D * D // 4 * F32, L)}
    assert {one["network"] for one in by_axes(found)} == {"ICI", "DCN"}


TPU = """HloModule jit_step, is_scheduled=true

%start (p: bf16[1,8,16]) -> (bf16[1,8,16], bf16[1,64,16]) {
  %p = bf16[1,8,16]{2,1,0:T(8,128)(2,1)S(1)} parameter(0)
  %all-gather.1 = bf16[1,64,16]{2,1,0:T(8,128)(2,1)} all-gather(%p), channel_id=5, replica_groups=mesh['a'=8,'b'=1] \
{'a'}, dimensions={1}, use_global_device_ids=true, frontend_attributes={chain_id="9"}
  ROOT %custom-call.1 = (bf16[1,8,16]{2,1,0:S(1)}, bf16[1,64,16]{2,1,0:S(1)}) custom-call(%all-gather.1), \
custom_call_target="AsyncCollectiveStart"
}

%middle (p.1: bf16[1,8,16]) -> bf16[1,64,16] {
  %p.1 = bf16[1,8,16]{2,1,0} parameter(0)
  ROOT %all-gather.2 = bf16[1,64,16]{2,1,0} all-gather(%p.1), channel_id=5, replica_groups=mesh['a'=8,'b'=1] {'a'}, \
dimensions={1}, frontend_attributes={chain_id="9"}
}

%body (c: (s32[], bf16[1,8,16])) -> (s32[], bf16[1,8,16]) {
  %c = (s32[]{:T(128)}, bf16[1,8,16]{2,1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  %x = bf16[1,8,16]{2,1,0} get-tuple-element(%c), index=1
  %begin = (bf16[1,8,16]{2,1,0}, bf16[1,64,16]{2,1,0}) fusion(%x), kind=kCustom, calls=%start
  %go-on = bf16[1,64,16]{2,1,0} fusion(%x), kind=kCustom, calls=%middle
  %sum.1 = f32[4]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  %sum.2 = f32[4]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  ROOT %out = (s32[]{:T(128)}, bf16[1,8,16]{2,1,0}) tuple(%i, %x)
}

%condition (c.1: (s32[], bf16[1,8,16])) -> pred[] {
  %c.1 = (s32[]{:T(128)}, bf16[1,8,16]{2,1,0}) parameter(0)
  %bound = s32[]{:T(128)} constant(28)
  %i.1 = s32[]{:T(128)} get-tuple-element(%c.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %bound), direction=LT
}

ENTRY %main (a: bf16[1,8,16]) -> (s32[], bf16[1,8,16]) {
  %a = bf16[1,8,16]{2,1,0} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %begun = (s32[]{:T(128)}, /*index=1*/bf16[1,8,16]{2,1,0}) tuple(%zero, %a)
  ROOT %loop = (s32[]{:T(128)}, bf16[1,8,16]{2,1,0}) while(%begun), condition=%condition, body=%body
}
"""


def test_what_a_tpu_spreads_over_fusions_counts_once_and_its_loops_by_their_condition():
    found = collectives(parse(TPU), make_mesh(MeshConfig(fsdp=8)))
    assert kinds(found) == {"all-gather": (28 * 64 * 16 * 2, 28), "all-reduce": (2 * 28 * 4 * F32, 56)}
    assert {one.kind: one.beside for one in found} == {"all-gather": True, "all-reduce": False}


GPU = """HloModule jit_step, is_scheduled=true

ENTRY %main (a: f32[64]) -> f32[8] {
  %a = f32[64]{0} parameter(0)
  %rs = ((f32[64]{0}), f32[8]{0}) reduce-scatter-start(%a), channel_id=2, replica_groups=[1,8]<=[8], to_apply=%add
  %ag = (f32[64]{0}, f32[512]{0}) all-gather-start(%a), channel_id=3, replica_groups=[1,8]<=[8], dimensions={0}
  %ar = f32[64]{0} all-reduce-start(%a), channel_id=4, replica_groups=[1,8]<=[8], to_apply=%add
  %cp = (f32[64]{0}, f32[64]{0}, u32[], u32[]) collective-permute-start(%a), source_target_pairs={{0,1},{1,0}}
  ROOT %done = f32[8]{0} reduce-scatter-done(%rs)
}
"""


def test_of_an_asynchronous_pair_the_result_counts_once():
    found = collectives(parse(GPU), make_mesh(MeshConfig(fsdp=8)))
    assert {one.kind: (one.result_bytes, one.count, one.beside) for one in found} == {
        "reduce-scatter": (8 * F32, 1, True),
        "all-gather": (512 * F32, 1, True),
        "all-reduce": (64 * F32, 1, True),
        "collective-permute": (64 * F32, 1, True),
    }


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,1},{2,3}}, x", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[4], x", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}, x", ((0, 1), (2, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(1)2}, x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(2)2}, x", ((0, 1), (2, 3))),
        ("replica_groups={}, x", ((0, 1, 2, 3),)),
        ("", ((0, 1, 2, 3),)),
    ],
)
def test_groups_in_every_form_that_xla_writes(text, groups):
    assert replica_groups(text, 4) == groups


def test_a_whole_step_gathers_every_weight_once_a_pass():
    from dataclasses import replace

    from jaxchat.models.decoder import Model
    from jaxchat.models.presets import tiny
    from jaxchat.train.optim import OptimConfig
    from jaxchat.train.program import build

    config = replace(tiny(), layers=3, tied=False)
    mesh = make_mesh(MeshConfig(fsdp=8))
    with jax.set_mesh(mesh):
        made = build(Model(config, remat="full"), OptimConfig(), mesh, (8, 256), 10)
        found = collectives(parse(made.step.lower(made.state, made.batch).compile().as_text()), mesh)
    matrices = config.parameters - 2 * config.vocab_size * config.width
    gathered = by_kind(found)["all-gather"]["bytes"]
    tokens = 8 * 256 * np.dtype(np.int32).itemsize
    assert gathered == pytest.approx(2 * matrices * F32 + config.vocab_size * config.width * F32 + tokens, rel=0.02)


RING = """HloModule m

%more (p: (f32[4], u32[])) -> pred[] {
  %p = (f32[4], u32[]) parameter(0)
  %count = u32[] get-tuple-element(%p), index=1
  %bound = u32[] constant(8)
  ROOT %less = pred[] compare(%count, %bound), direction=LT
}

%wide.windowed_dot_general_body_rs.1.sunk (q: (f32[4], u32[])) -> (f32[4], u32[]) {
  %q = (f32[4], u32[]) parameter(0)
  %x = f32[4] get-tuple-element(%q), index=0
  %i = u32[] get-tuple-element(%q), index=1
  %one = u32[] constant(1)
  %passed = f32[4] collective-permute(%x), channel_id=1, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
  %next = u32[] add(%i, %one)
  ROOT %both = (f32[4], u32[]) tuple(%passed, %next)
}

ENTRY %main (s: (f32[4], u32[]), t: f32[4]) -> (f32[4], u32[]) {
  %s = (f32[4], u32[]) parameter(0)
  %t = f32[4] parameter(1)
  %apart = f32[4] collective-permute(%t), channel_id=2, source_target_pairs={{0,1},{1,0}}
  ROOT %w = (f32[4], u32[]) while(%s), condition=%more, body=%wide.windowed_dot_general_body_rs.1.sunk
}
"""


def test_what_a_product_passes_on_around_a_ring_is_summed():
    found = collectives(parse(RING), make_mesh(MeshConfig(fsdp=8)))
    assert {one.kind for one in found} == {"collective-permute"}
    assert by_role(found) == {"gathered": 0, "summed": 8 * 4 * F32, "exchanged": 4 * F32}
