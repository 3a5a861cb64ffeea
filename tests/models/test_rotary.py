"""How far positions turn, beside transformers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.models.config import Rotary
from jaxchat.models.rotary import rotation


@pytest.mark.parametrize("turned", [64, 96, 128])
def test_far_positions_turn_as_transformers(turned: int) -> None:
    """A last bit of a frequency is thousandths of a radian there."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaConfig, LlamaRotaryEmbedding

    rope = {"rope_type": "default", "rope_theta": 1e5}
    config = LlamaConfig(hidden_size=4 * turned, num_attention_heads=4, rope_parameters=rope)
    positions_BT = np.array([[0, 1, 777, 8191, 99_999]])
    cos, _ = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.from_numpy(positions_BT))
    found = rotation(jnp.asarray(positions_BT), turned, Rotary(1e5))
    np.testing.assert_allclose(found.cos_BTH, cos.numpy(), atol=1e-4)
