from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.decoder import Model
from jaxchat.models.presets import tiny
from jaxchat.train.optim import WSD, Cosine, Linear, OptimConfig, decayed, learning_rate, make_optimizer

STEPS = 100


def _rates(config: OptimConfig, steps: int = STEPS) -> np.ndarray:
    return np.asarray(learning_rate(config, steps)(np.arange(steps)))


@pytest.mark.parametrize("schedule", [Cosine(0.1), Linear(0.0), WSD(0.2, 0.0)], ids=lambda s: type(s).__name__)
def test_a_schedule_warms_up_to_its_peak_and_never_rises_again(schedule: Cosine | Linear | WSD):
    rates = _rates(OptimConfig(peak_lr=1.0, schedule=schedule, warmup=0.1))
    assert rates[0] > 0
    assert (np.diff(rates[:11]) > 0).all()
    assert rates[10] == pytest.approx(1.0)
    assert (np.diff(rates[10:]) <= 1e-7).all()
    assert schedule.final <= rates[-1] < schedule.final + 0.06


def test_wsd_stays_at_its_peak_until_it_decays():
    rates = _rates(OptimConfig(peak_lr=1.0, schedule=WSD(0.2), warmup=0.1))
    assert (rates[10:81] == 1.0).all()
    assert (np.diff(rates[80:]) < 0).all()


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("schedule", [Cosine(), Linear(), WSD()], ids=lambda s: type(s).__name__)
def test_the_shortest_runs_learn_too(schedule: Cosine | Linear | WSD, steps: int):
    rates = _rates(OptimConfig(schedule=schedule), steps)
    assert np.isfinite(rates).all()
    assert rates[0] > 0


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warm_up_is_a_share(warmup: float):
    with pytest.raises(InputError, match=r"optim.warmup is"):
        learning_rate(OptimConfig(warmup=warmup), STEPS)


def test_all_but_the_norms_decay():
    with jax.set_mesh(make_mesh(MeshConfig())):
        params = Model(tiny()).abstract()
    for path, decays in jax.tree.leaves_with_path(decayed(params)):
        assert decays == ("norm" not in str(path))


def test_clipping_bounds_the_gradient_and_zero_leaves_it():
    params = {"embed": {"table": jnp.zeros((3,))}}
    grads = {"embed": {"table": jnp.array([3.0, 4.0, 0.0])}}

    def first_moment(clip: float) -> np.ndarray:
        config = OptimConfig(clip=clip)
        optimizer = make_optimizer(config, STEPS)
        _, state = optimizer.update(grads, optimizer.init(params), params)
        (mu,) = [leaf for path, leaf in jax.tree.leaves_with_path(state) if "mu" in str(path)]
        return np.asarray(mu) / (1 - config.b1)

    np.testing.assert_allclose(first_moment(1.0), [0.6, 0.8, 0.0], rtol=1e-6)
    np.testing.assert_allclose(first_moment(0.0), [3.0, 4.0, 0.0], rtol=1e-6)
