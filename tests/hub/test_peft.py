"""Adapters in PEFT's format: of every family, written for `peft` and read from it."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.hub import peft
from jaxchat.models import lora
from jaxchat.models.decoder import Model, Params
from jaxchat.models.lora import DoRA, LoRA
from tests.hub.family_cases import CASES, batch, conversations, ours, transformers_model


def random_adapter(model: Model, adapter: LoRA, params: Params) -> Params:
    fresh = lora.init(model, adapter, params, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), fresh)


def assert_same_logits(theirs: Any, model: Model, params: Params) -> None:
    import torch

    rows = batch()
    found = model.logits(params, model.hidden(params, rows.tokens_BT, rows.positions_BT, rows.segments_BT))
    for row, where in conversations(rows):
        with torch.no_grad():
            expected = theirs(torch.from_numpy(rows.tokens_BT[row, where].astype(np.int64))[None]).logits[0].numpy()
        assert np.abs(np.asarray(found)[row, where] - expected).max() < 1e-4


def copied(params: Params) -> Params:
    return jax.tree.map(jnp.copy, params)


ADAPTERS = {
    **dict.fromkeys(CASES, LoRA(rank=3, alpha=5)),
    "phi3": LoRA(rank=3, alpha=5, rank_stabilised=True),
    "gpt2": DoRA(rank=3, alpha=5, targets=("q", "v", "down")),
    "qwen2": DoRA(rank=3, alpha=5),
}


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("name", CASES)
def test_an_adapter_written_for_peft_computes_the_same_there_and_comes_back(name: str, tmp_path: Path) -> None:
    from peft import PeftModel

    _, model, params = ours(name)
    adapter = ADAPTERS[name]
    moved = random_adapter(model, adapter, params)
    merged = lora.merged(lora.attached(params, moved, adapter))
    peft.write(tmp_path, model, moved, adapter, merged, "somewhere")
    theirs = PeftModel.from_pretrained(copy.deepcopy(transformers_model(name)), tmp_path).eval()
    assert_same_logits(theirs, model, lora.attached(params, moved, adapter))
    said = json.loads((tmp_path / peft.CONFIG).read_text())
    again = peft.merge(tmp_path, said, model.config, copied(params))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), again, merged)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt2", {"target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True}),
        ("phi3", {"target_modules": "all-linear", "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"qkv_proj": 9}}),
        ("llama", {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 2], "use_dora": True}),
        ("qwen3", {"target_modules": ["o_proj"], "use_rslora": True}),
    ],
)
def test_an_adapter_that_peft_made_is_read(name: str, said: dict[str, Any], tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    _, model, params = ours(name)
    theirs = get_peft_model(copy.deepcopy(transformers_model(name)), LoraConfig(r=4, lora_alpha=6, **said)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    theirs.save_pretrained(tmp_path)
    found = peft.merge(tmp_path, json.loads((tmp_path / peft.CONFIG).read_text()), model.config, copied(params))
    assert_same_logits(theirs, model, found)
