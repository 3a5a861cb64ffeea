"""A checkpoint is whole or absent, opens on any mesh, and what is damaged is found and passed over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxchat.errors import InputError
from jaxchat.hub.checkpoints import Checkpoints
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models import presets
from jaxchat.models.decoder import Model


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    step: jax.Array
    params: Any
    opt_state: Any


MODEL = Model(presets.tiny())
ADAM = optax.adamw(1e-3)


def abstract() -> State:
    """Shapes and shardings as training has them, on the current mesh."""

    def start(key: jax.Array) -> State:
        params = MODEL.init(key)
        return State(jnp.int32(0), params, ADAM.init(params))

    return jax.eval_shape(start, jax.random.key(0))


def fresh(seed: int = 0) -> State:
    """A state of random numbers, laid out so."""
    rng, mesh = np.random.default_rng(seed), jax.sharding.get_mesh()

    def leaf(shape: jax.ShapeDtypeStruct) -> jax.Array:
        values = (rng.standard_normal(shape.shape) * 9).astype(shape.dtype)
        spec = shape.sharding.spec if isinstance(shape.sharding, NamedSharding) else PartitionSpec()
        return jax.device_put(values, NamedSharding(mesh, spec))

    return jax.tree.map(leaf, abstract())


def equal(a: Any, b: Any) -> bool:
    same = jax.tree.map(lambda x, y: bool(np.array_equal(np.asarray(x), np.asarray(y))), a, b)
    return all(jax.tree.leaves(same))


@pytest.fixture(autouse=True)
def one_device():
    with jax.set_mesh(make_mesh(MeshConfig(), jax.devices()[:1])):
        yield


def saved(folder: Path, steps: list[int], **options: Any) -> Checkpoints:
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, fresh(step), wait=True)
    return checkpoints


def test_restores_what_was_saved_though_its_buffers_were_donated(tmp_path: Path) -> None:
    state = jax.block_until_ready(fresh(3))
    expected = jax.tree.map(lambda x: np.array(x, copy=True), state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state)
    overwritten = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state)
    jax.block_until_ready(overwritten)
    checkpoints.wait()
    assert checkpoints.latest() == 3
    assert equal(checkpoints.restore(3, abstract()), expected)
    checkpoints.close()


@pytest.mark.parametrize("shape", [{"fsdp": 2, "tensor": 2}, {"data": 8}, {"fsdp": 8}])
def test_any_mesh_in_any_mesh_out(tmp_path: Path, shape: dict[str, int]) -> None:
    expected = jax.tree.map(np.asarray, fresh(1))
    with jax.set_mesh(make_mesh(MeshConfig(**shape))):
        state = fresh(1)
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, state, wait=True)
        there = checkpoints.restore(1, abstract())
        assert there.params["layers"]["mlp"]["up"].sharding == state.params["layers"]["mlp"]["up"].sharding
        assert equal(there, state)
    # To one device, and to another mesh altogether.
    for other in ({}, {"fsdp": 4, "data": 2}):
        with jax.set_mesh(make_mesh(MeshConfig(**other), jax.devices()[: 8 if other else 1])):
            back = Checkpoints(tmp_path, read_only=True).restore(1, abstract())
            jax.block_until_ready(back)
            assert not equal(back.params, jax.tree.map(jnp.zeros_like, back.params))
            assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(back)} == {8 if other else 1}
            assert equal(back, state)
    checkpoints.close()
    assert equal(expected.step, state.step)


def test_parameters_alone(tmp_path: Path) -> None:
    saved(tmp_path, [5]).close()
    shutil.rmtree(tmp_path / "5" / "rest")
    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.latest(params_only=True) == 5
    assert equal(reader.restore_params(5, MODEL.abstract()), fresh(5).params)


def test_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, loss in [(1, 3.0), (2, 1.0), (3, 2.0), (4, float("nan")), (5, 2.5)]:
        checkpoints.save(step, fresh(step), {"loss": loss})
    checkpoints.save(6, fresh(6))
    checkpoints.close()
    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.steps() == [2, 5, 6]
    assert reader.best() == 2
    assert reader.latest() == 6


def test_the_best_of_an_earlier_process_is_kept_too(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, keep=1)
    first.save(1, fresh(1), {"loss": 1.0})
    first.close()
    second = Checkpoints(tmp_path, keep=1)
    for step in (2, 3):
        second.save(step, fresh(step), {"loss": 2.0})
    second.close()
    assert second.steps() == [1, 3]


def test_a_step_that_is_there_is_left_alone(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, [1])
    before = (tmp_path / "1" / "files.json").stat().st_mtime_ns
    checkpoints.save(1, fresh(9), wait=True)
    assert (tmp_path / "1" / "files.json").stat().st_mtime_ns == before
    checkpoints.close()


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nowhere", read_only=True).latest() is None
    assert Checkpoints(tmp_path).best() is None


def _largest(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def _cut(step: Path) -> None:
    file = _largest(step / "params")
    os.truncate(file, file.stat().st_size // 2)


def _flip(step: Path) -> None:
    file = _largest(step / "rest")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def _remove(step: Path) -> None:
    (step / "params" / "_METADATA").unlink()


def _empty(step: Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def _garble(step: Path) -> None:
    (step / "files.json").write_text("{")


DAMAGE = [_cut, _flip, _remove, _empty, _garble]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_falls_back_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: Any
) -> None:
    saved(tmp_path, [10, 20]).close()
    damage(tmp_path / "20")
    reader = Checkpoints(tmp_path, read_only=True)
    assert reader.latest() == 10
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "20 is damaged" in said and "back to step 10" in said
    assert reader.steps() == [10, 20], "a reader changes nothing"
    with pytest.raises(InputError, match=r"damaged"):
        reader.restore(20, abstract())

    writer = Checkpoints(tmp_path)
    assert writer.latest() == 10
    assert writer.steps() == [10] and (tmp_path / "20.damaged").is_dir()
    assert equal(writer.restore(10, abstract()), fresh(10))
    writer.save(20, fresh(21), wait=True)
    assert writer.latest() == 20
    assert equal(writer.restore(20, abstract()), fresh(21))
    writer.close()


def test_all_damaged_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, [1]).close()
    _cut(tmp_path / "1")
    with pytest.raises(InputError, match=r"none of the checkpoints"):
        Checkpoints(tmp_path).latest()


def test_another_models_checkpoint_is_refused_and_not_called_damaged(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, [1])
    wider = Model(presets.smollm2_135m()).abstract()
    with pytest.raises(InputError, match=r"params\.embed.table in the shape"):
        checkpoints.restore_params(1, wider)
    plain = State(jnp.int32(0), fresh().params, ())
    with pytest.raises(InputError, match=r"holds opt_state\.0\.count besides"):
        checkpoints.restore(1, jax.eval_shape(lambda: plain))
    with pytest.raises(InputError, match=r"no whole checkpoint of step 7; it has the steps 1"):
        checkpoints.restore(7, abstract())
    assert checkpoints.latest() == 1
    checkpoints.close()


KILLED = """
    import sys, jax, jax.numpy as jnp
    from dataclasses import dataclass
    from typing import Any
    from jaxchat.hub.checkpoints import Checkpoints
    @jax.tree_util.register_dataclass
    @dataclass(frozen=True)
    class State:
        step: Any
        params: Any
    checkpoints = Checkpoints(sys.argv[1], keep=3)
    first = (checkpoints.latest() or 0) + 1
    for step in range(first, 10_000):
        checkpoints.save(step, State(jnp.int32(step), {"w": jnp.full((3_000_000,), float(step))}))
        print(step, flush=True)
"""


def test_a_kill_while_saving_leaves_the_one_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    newest = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(3):
            begun = int(process.stdout.readline())
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        begun = int(rest[-1]) if rest else begun
        reader = Checkpoints(tmp_path, read_only=True)
        step = reader.latest()
        assert step is not None and newest < begun - 2 <= step <= begun
        shape = jax.ShapeDtypeStruct((3_000_000,), jnp.float32)
        assert equal(reader.restore_params(step, {"w": shape})["w"], np.full(3_000_000, step, np.float32))
        newest = step


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = saved(tmp_path, [1])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"no space left to save the checkpoint of step 2.*step 1 is intact"):
        checkpoints.save(2, fresh(2))
    assert checkpoints.steps() == [1] and checkpoints.latest() == 1
    checkpoints.close()


def test_a_disk_that_fills_up_while_saving_keeps_the_one_before(
    tmp_path: Path, small_disk: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = small_disk("20m")
    state = State(jnp.int32(1), {"w": jnp.ones((3_000_000,))}, ())
    checkpoints = Checkpoints(folder)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)  # it fills up only later
    checkpoints.save(1, state, wait=True)
    with pytest.raises(InputError, match=r"no space left.*step 2.*step 1 is intact"):
        checkpoints.save(2, state)
        checkpoints.wait()
    assert [path.name for path in folder.iterdir()] == ["1"]
    assert checkpoints.latest() == 1
    assert equal(checkpoints.restore(1, jax.eval_shape(lambda: state)), state)
    assert "Traceback" not in capfd.readouterr().err
    checkpoints.close()


def test_where_sharding_is_given_no_mesh_is_needed(tmp_path: Path) -> None:
    saved(tmp_path, [1]).close()
    mesh = make_mesh(MeshConfig(fsdp=2), jax.devices()[:2])
    sharding = NamedSharding(mesh, PartitionSpec())
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), fresh().params)
    assert equal(Checkpoints(tmp_path, read_only=True).restore_params(1, like), fresh(1).params)
