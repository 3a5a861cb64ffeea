"""SmolLM2's published weights: the model that transformers computes with them, logits, gradients and greedy text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from jaxchat.data.batch import Batch, place
from jaxchat.hub import proof, weights
from jaxchat.hub.families import by_config
from jaxchat.hub.open import Opened, open_model
from jaxchat.models.decoder import Model
from jaxchat.objectives.language_model import losses
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling

LENGTHS = (170, 105)  # of the texts in a packed row of 300
PROMPT = "The most important thing to know about the weather in the mountains is"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def opened(smollm2_gguf: Path) -> Opened:
    return open_model(str(smollm2_gguf))


@pytest.fixture(scope="module")
def torch_model(opened: Opened) -> Callable[[Any], Any]:
    """transformers' model with our weights in it, all of them and no others, computing in a torch dtype."""
    import torch
    import transformers

    family, config = by_config(opened.config), opened.config
    state = {
        name: torch.from_numpy(np.array(make()))
        for name, _, make in weights.tensors(opened.params, family, config, np.dtype(np.float32))
    }
    theirs = transformers.AutoConfig.for_model(**family.write_config(config))

    def make_model(dtype: Any) -> Any:
        model = transformers.AutoModelForCausalLM.from_config(theirs, dtype=torch.float32, attn_implementation="eager")
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert unexpected == [] and missing == ["lm_head.weight"]
        model.tie_weights()
        return model.to(dtype).eval()

    return make_model


@pytest.fixture(scope="module")
def float32(torch_model: Callable[[Any], Any]) -> Any:
    import torch

    return torch_model(torch.float32)


@pytest.fixture(scope="module")
def row(opened: Opened) -> Batch:
    """Two texts and padding."""
    found = proof.sequences(opened.tokenizer, opened.format, opened.config.vocab_size, 8192)
    told = np.concatenate(found)[: sum(LENGTHS)]
    pad = 300 - sum(LENGTHS)
    segments = np.repeat([1, 2, 0], [*LENGTHS, pad]).astype(np.int32)[None]
    positions = np.concatenate([np.arange(length) for length in (*LENGTHS, pad)]).astype(np.int32)[None]
    weighted = ((segments > 0) & (positions > 0)).astype(np.float32)
    tokens = np.pad(told, (0, pad)).astype(np.int32)[None]
    return Batch.of_rows({"tokens": tokens, "weights": weighted, "segments": segments, "positions": positions})


def texts(row: Batch) -> list[tuple[slice, Any]]:
    """Where each lies, and its tokens for torch."""
    import torch

    ends = np.cumsum(LENGTHS)
    places = [slice(end - length, end) for end, length in zip(ends, LENGTHS)]
    return [(place, torch.from_numpy(row.tokens_BT[0, place].astype(np.int64))[None]) for place in places]


def logits(opened: Opened, model: Model, row: Batch) -> np.ndarray:
    @jax.jit
    def compute(params: Any) -> jax.Array:
        return model.logits(params, model.hidden(params, row.tokens_BT, row.positions_BT, row.segments_BT))

    with jax.set_mesh(opened.mesh):
        return np.asarray(compute(opened.params))[0]


@pytest.fixture(scope="module")
def exact(torch_model: Callable[[Any], Any], row: Batch) -> list[np.ndarray]:
    """transformers' logits of each text, computed in float64."""
    import torch

    with torch.no_grad():
        model = torch_model(torch.float64)
        return [model(tokens).logits[0].numpy() for _, tokens in texts(row)]


def test_logits_are_transformers_where_products_do_not_round(
    opened: Opened, exact: list[np.ndarray], row: Batch
) -> None:
    """Products, the residual stream and what lies between in float64: what is left is what both round to float32."""
    with jax.enable_x64(True):
        found = logits(opened, replace(opened.model, dtype="float64"), row)
    off = max(np.abs(found[where] - each).max() for (where, _), each in zip(texts(row), exact, strict=True))
    print(f"off the exact ones {off:.2e}")
    assert off < 1e-4


def test_logits_are_transformers_as_nearly_as_float32_can_say(
    opened: Opened, float32: Any, exact: list[np.ndarray], row: Batch
) -> None:
    """A product of XLA's on a CPU rounds half as much again as one of torch's; nothing else may add as much."""
    import torch

    found = logits(opened, opened.model, row)
    for (where, tokens), each in zip(texts(row), exact, strict=True):
        with torch.no_grad():
            theirs = float32(tokens).logits[0].numpy()
        apart = np.abs(found[where] - theirs).max()
        off, theirs_off = (float(np.sqrt(np.mean((one - each) ** 2))) for one in (found[where], theirs))
        print(
            f"apart {apart:.2e} where logits reach {np.abs(each).max():.1f}; off the exact ones, root of mean square,"
        )
        print(f"{off:.2e}, torch {theirs_off:.2e}")
        assert apart < 2e-4 and off < 2 * theirs_off


def test_gradients_are_transformers(opened: Opened, float32: Any, row: Batch) -> None:
    import torch

    model, config = opened.model, opened.config
    with jax.set_mesh(opened.mesh):
        placed = place(row, NamedSharding(opened.mesh, model.rules.activation("batch", "sequence")))

        def mean(params: Any, rows: Batch) -> jax.Array:
            both = losses(model, params, rows)
            return both.total / both.weight

        grads = jax.jit(jax.grad(mean))(opened.params, placed)
    total: Any = 0.0
    for _, tokens in texts(row):
        total = total + torch.nn.functional.cross_entropy(
            float32(tokens).logits[0, :-1], tokens[0, 1:], reduction="sum"
        )
    (total / float(row.weights_BT.sum())).backward()
    expected = {name: weight.grad.numpy() for name, weight in float32.named_parameters()}
    found = {name: make() for name, _, make in weights.whole(grads, by_config(config).huggingface, config)}
    assert found.keys() == expected.keys()
    worst = max(np.linalg.norm(found[name] - expected[name]) / np.linalg.norm(expected[name]) for name in expected)
    print(f"largest relative difference of a gradient {worst:.2e}")
    assert worst < 1e-3


def test_greedy_text_is_transformers(opened: Opened, float32: Any) -> None:
    import torch

    prompt = opened.tokenizer.encode(PROMPT)
    with Engine(opened.model, opened.params, opened.tokenizer, opened.mesh, slots=1) as engine:
        (completion,) = generate(engine, [prompt], Sampling(temperature=0, max_tokens=64, ignore_eos=True))
    mask = torch.ones(1, len(prompt), dtype=torch.long)
    asked = {"do_sample": False, "max_new_tokens": 64, "eos_token_id": None, "pad_token_id": 0}
    theirs = float32.generate(torch.tensor([prompt]), attention_mask=mask, **asked)
    assert list(completion.token_ids) == theirs[0, len(prompt) :].tolist()


def test_rows_left_in_the_files_order_would_be_another_model(opened: Opened, row: Batch) -> None:
    """They are read without complaint too, and are wrong."""
    rows = NamedSharding(opened.mesh, opened.model.rules.activation("batch", "sequence"))

    @jax.jit
    def loss(params: Any, row: Batch) -> jax.Array:
        both = losses(opened.model, params, row)
        return both.total / both.weight

    attn = {**opened.params["layers"]["attn"]}
    for name in "qk":
        heads = attn[name]
        attn[name] = jnp.reshape(jnp.swapaxes(heads.reshape(*heads.shape[:-1], 2, -1), -1, -2), heads.shape)
    wrong = {**opened.params, "layers": {**opened.params["layers"], "attn": attn}}
    with jax.set_mesh(opened.mesh):
        placed = place(row, rows)
        assert float(loss(opened.params, placed)) + 0.3 < float(loss(wrong, placed))
