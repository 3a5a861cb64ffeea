"""Rows of uneven groups, each times its group's weight: none dropped, none mixed up, in either form of the product."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.models import grouped as module
from jaxchat.models.grouped import grouped

SIZES = [
    pytest.param([5, 0, 17, 1, 9], 32, id="uneven"),
    pytest.param([0, 0, 0, 0, 40], 40, id="all in the last"),
    pytest.param([600, 3, 0, 41, 1], 700, id="blocks of many rows and rows in no group"),
    pytest.param([0, 1, 0, 0, 0], 2, id="one row"),
    pytest.param([0, 0, 0, 0, 0], 4, id="none"),
]


@pytest.mark.parametrize("kind", ["cpu", "tpu"])
@pytest.mark.parametrize("sizes, rows", SIZES)
def test_every_row_meets_its_groups_weight_alone(sizes, rows, kind, monkeypatch):
    monkeypatch.setattr(module, "platform", lambda: kind)  # the TPU's product, which XLA writes out on a CPU
    rng = np.random.default_rng(0)
    x_MI, w_EIO, toward_MO = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((rows, 6), (5, 6, 7), (rows, 7))
    )
    group_M = np.repeat(np.arange(6), [*sizes, rows - sum(sizes)])
    inside_M1 = (group_M < 5)[:, None]

    def by_row(x_MI, w_EIO):
        each_MIO = w_EIO[np.minimum(group_M, 4)]
        return jnp.where(inside_M1, jnp.einsum("MI,MIO->MO", x_MI, each_MIO), 0)

    def both(product):
        y_MO, back = jax.vjp(product, x_MI, w_EIO)
        return y_MO, *back(toward_MO)

    found = both(lambda x_MI, w_EIO: grouped(x_MI, w_EIO, jnp.array(sizes, jnp.int32)))
    for ours, expected in zip(found, both(by_row), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-4)
