"""Every backend computes what Dot computes, or says why it does not; a row may lie over several devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models import attention, attention_cudnn, attention_dot, attention_sight, attention_splash
from jaxchat.models.attention import Auto, Backend, Cudnn, Dot, Sight, Splash
from jaxchat.sharding import Rules

RULES = Rules()
ONE = MeshConfig()
B, T, K, G, H = 2, 1024, 2, 2, 16
SEEN = [(None, None), (100, None), (None, 2.0), (600, 2.0)]
MESHES = [ONE, MeshConfig(context=4), MeshConfig(data=2, context=2, tensor=2)]


def packed(rows: int, length: int) -> np.ndarray:
    """Segment ids of rows of five conversations, padding behind them; the last row is nothing but padding."""
    rng = np.random.default_rng(0)
    segments_BT = np.zeros((rows, length), np.int32)
    for row in segments_BT[:-1]:
        ends = np.sort(rng.choice(np.arange(2, length - 40), 4, replace=False))
        row[:-30] = 1 + np.searchsorted(ends, np.arange(length - 30), side="right")
    return segments_BT


def attended(
    backend: Backend,
    mesh: MeshConfig = ONE,
    window: int | None = None,
    soft_cap: float | None = None,
    dtype: str = "float32",
    shape: tuple[int, ...] = (B, T, K, G, H),
) -> list[np.ndarray]:
    """What the backend returns for the same random inputs, and the gradients of queries, keys and values."""
    rng = np.random.default_rng(1)
    rows, length, kv_heads, _, head = shape
    shapes = (shape, (rows, kv_heads, length, head), (rows, kv_heads, length, head), shape)
    axes = ("batch", "sequence", "kv_heads", "group", "head"), ("batch", "kv_heads", "keys", "head")
    with jax.set_mesh(make_mesh(mesh, jax.devices()[: 8 if mesh != ONE else 1])):

        def put(x: np.ndarray, *axes: str) -> jax.Array:
            return jax.device_put(jnp.asarray(x), RULES.activation(*axes))

        def loss(q, k, v, toward, segments_BT):
            keys_BT = jax.sharding.reshard(segments_BT, RULES.activation("batch", "keys"))
            sight = Sight.packed(segments_BT, keys_BT, window)
            out = backend(q, k, v, sight, RULES, scale=0.4, soft_cap=soft_cap)
            return jnp.sum((out * toward).astype(jnp.float32)), out

        q, k, v, toward = (
            put(rng.normal(size=shape).astype(dtype), *names)
            for shape, names in zip(shapes, (axes[0], axes[1], axes[1], axes[0]), strict=True)
        )
        segments_BT = put(packed(rows, length), "batch", "sequence")
        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
        (_, out), grads = step(q, k, v, toward, segments_BT)
        return [np.asarray(x, np.float32) for x in (out, *grads)]


def assert_equal(ours: list[np.ndarray], reference: list[np.ndarray], atol: float = 1e-5) -> None:
    for one, other in zip(ours, reference, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.fixture
def parts(monkeypatch) -> None:
    """Scores are held so few at a time that rows are computed in many parts."""
    for module in (attention_sight, attention_dot):
        monkeypatch.setattr(module, "HELD", 32 * T)


@pytest.mark.parametrize("window, soft_cap", SEEN)
def test_long_rows_in_parts_are_rows_at_once(window, soft_cap, request):
    whole = attended(Dot(), ONE, window, soft_cap)
    request.getfixturevalue("parts")
    for mesh in MESHES:
        assert_equal(attended(Dot(), mesh, window, soft_cap), whole)


def test_long_rows_keep_no_scores(parts):
    """Twice the length takes about twice the memory, and not four times."""

    def held(length: int) -> int:
        def array(shape: tuple[int, ...], dtype: str, *axes: str) -> jax.ShapeDtypeStruct:
            sharding = jax.sharding.NamedSharding(mesh, RULES.activation(*axes))
            return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

        q = array((1, length, 1, 1, 8), "float32", "batch", "sequence", "kv_heads", "group", "head")
        k = array((1, 1, length, 8), "float32", "batch", "kv_heads", "keys", "head")
        segments = array((1, length), "int32", "batch", "sequence")

        def loss(q, k, segments):
            sight = Sight.packed(segments, jax.sharding.reshard(segments, RULES.activation("batch", "keys")))
            return jnp.sum(Dot()(q, k, k, sight, RULES, scale=1.0))

        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(q, k, segments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    mesh = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        assert held(16 * T) < 3 * held(8 * T)


@pytest.mark.parametrize("mesh", MESHES, ids=["one", "context", "all"])
@pytest.mark.parametrize("window, soft_cap", SEEN)
def test_splash_is_dot(window, soft_cap, mesh):
    whole = attended(Dot(), ONE, window, soft_cap)
    assert_equal(attended(Splash(interpret=True), mesh, window, soft_cap), whole)


def test_splash_takes_any_blocks_and_heads():
    shape = (1, 384, 1, 3, 24)
    ours = attended(Splash(interpret=True), ONE, 50, None, shape=shape)
    assert_equal(ours, attended(Dot(), ONE, 50, None, shape=shape))


@pytest.fixture
def on_gpus(monkeypatch) -> None:
    """A CPU that says it is a GPU, and computes what cuDNN is asked for by XLA's own products."""
    xla = jax.nn.dot_product_attention

    def cudnn(*args, implementation, **options):
        assert implementation == "cudnn"
        return xla(*args, **options, implementation="xla")

    for module in (attention_splash, attention_cudnn):
        monkeypatch.setattr(module, "platform", lambda: "gpu")
    monkeypatch.setattr(jax.nn, "dot_product_attention", cudnn)


@pytest.mark.parametrize("mesh", MESHES, ids=["one", "context", "all"])
@pytest.mark.parametrize("window", [None, 100])
def test_cudnn_is_asked_for_what_dot_computes(window, mesh, on_gpus):
    whole = attended(Dot(), ONE, window, dtype="bfloat16")
    assert_equal(attended(Cudnn(), mesh, window, dtype="bfloat16"), whole, atol=0.1)


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"dtype": "float32"}, "in 16 bits, not in float32; set --compute bfloat16"),
        ({"soft_cap": 50.0}, "cannot cap scores, and the model caps them at 50"),
        ({"shape": (2, 64, 1, 1, 20)}, "heads of up to 128 in multiples of 8, and the model's have 20"),
        ({"shape": (2, 63, 1, 1, 16)}, "an even length, not of 63"),
    ],
)
def test_cudnn_refuses_what_it_cannot_compute(changed, sentence, on_gpus):
    with pytest.raises(InputError, match=sentence):
        attended(Cudnn(), **{"dtype": "bfloat16"} | changed)


def test_splash_refuses_rows_that_are_no_blocks():
    with pytest.raises(InputError, match=r"rows of 200 do not divide into them; set --data.seq-len 256"):
        attended(Splash(interpret=True), shape=(2, 200, 1, 1, 16))
    with pytest.raises(InputError, match=r"do not divide into them over context=4; set --data.seq-len 512"):
        attended(Splash(interpret=True), MeshConfig(context=4), shape=(2, 256, 1, 1, 16))


@pytest.mark.parametrize("backend", [Splash(), Cudnn()])
def test_kernels_of_other_devices_are_refused(backend):
    with pytest.raises(InputError, match=r"attention runs on .PUs and these devices are of the kind 'cpu'"):
        attended(backend, shape=(2, 128, 1, 1, 16))


@pytest.mark.parametrize("backend", [Auto(), Splash(), Cudnn()])
def test_every_backend_looks_through_a_cache(backend):
    rng = np.random.default_rng(0)
    q, k = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 1, 2, 3, 8), (2, 2, 20, 8)))
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
        sight = Sight.cached(np.array([[3], [19]]), 20, 4)
        ours, reference = (one(q, k, k, sight, RULES, scale=1.0) for one in (backend, Dot()))
    np.testing.assert_array_equal(ours, reference)


@pytest.mark.parametrize(
    "platform, dtype, soft_cap, expected",
    [
        ("cpu", "bfloat16", None, Dot),
        ("tpu", "float32", 50.0, Splash),
        ("gpu", "bfloat16", None, Cudnn),
        ("gpu", "float32", None, Dot),
        ("gpu", "bfloat16", 50.0, Dot),
    ],
)
def test_auto_takes_what_the_devices_have(platform, dtype, soft_cap, expected, monkeypatch):
    for module in (attention_splash, attention_cudnn):
        monkeypatch.setattr(module, "platform", lambda: platform)
    q, k = jnp.zeros((1, 128, 2, 2, 64), dtype), jnp.zeros((1, 2, 128, 64), dtype)
    ids = np.ones((1, 128), np.int32)
    with jax.set_mesh(make_mesh(devices=jax.devices()[:1])):
        assert type(attention.Auto().choice(q, k, Sight.packed(ids, ids), RULES, soft_cap)) is expected
