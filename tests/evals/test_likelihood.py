"""The likelihood of a continuation is that of its tokens after the context alone, whatever shares a row with it."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from jaxchat.errors import InputError
from jaxchat.evals import likelihood
from jaxchat.evals.likelihood import likelihoods
from jaxchat.hub.open import Opened
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.decoder import Model


def whole_logits(opened: Opened, ids: list[int]) -> np.ndarray:
    tokens_BT = jnp.array([ids + [0] * (opened.config.context_length - len(ids))])
    with jax.set_mesh(opened.mesh):
        return np.asarray(_logits(opened.model, opened.params, tokens_BT)[0, : len(ids)], np.float64)


@partial(jax.jit, static_argnums=0)
def _logits(model: Model, params: Any, tokens_BT: jax.Array) -> jax.Array:
    positions_BT = jnp.arange(tokens_BT.shape[1])[None]
    return model.logits(params, model.hidden(params, tokens_BT, positions_BT, jnp.ones_like(tokens_BT)))


def alone(opened: Opened, before: list[int], continuation: list[int]) -> tuple[float, bool]:
    """By the definition, from whole logits."""
    inputs = [*before, *continuation][-(opened.config.context_length + 1) : -1]
    logits_TV = whole_logits(opened, inputs)
    logits_TV = logits_TV[len(inputs) - len(continuation) : len(inputs)]
    logprobs_TV = logits_TV - np.log(np.exp(logits_TV).sum(-1, keepdims=True))
    chosen = logprobs_TV[np.arange(len(continuation)), continuation].sum()
    return float(chosen), logits_TV.argmax(-1).tolist() == list(continuation)


@pytest.fixture(scope="module")
def requests(tiny_model: Opened) -> list[tuple[list[int], list[int]]]:
    rng = random.Random(0)
    context = tiny_model.config.context_length

    def some(n: int) -> list[int]:
        return [rng.randrange(256) for _ in range(n)]

    found = [(some(rng.randint(1, 40)), some(rng.randint(1, 9))) for _ in range(12)]
    shared = some(20)
    found += [(shared, [letter]) for letter in (65, 66, 67)]  # a multiple choice between letters
    found += [(shared[:-1], [shared[-1], 65])]  # reads the same tokens and scores two of them
    found += [(some(2 * context), some(3)), (some(3), some(context)), (some(context - 3), some(4))]
    greedy = shared
    for _ in range(3):  # and one that greedy decoding says
        greedy = [*greedy, int(whole_logits(tiny_model, greedy)[-1].argmax())]
    return [*found, (shared, greedy[len(shared) :])]


@pytest.mark.parametrize("batch_tokens", [None, 1])
def test_as_every_request_alone(tiny_model: Opened, requests: Any, batch_tokens: int | None):
    told = {}
    found = likelihoods(tiny_model, requests, batch_tokens=batch_tokens, on_done=told.__setitem__)
    expected = [alone(tiny_model, *request) for request in requests]
    assert [one.logprob for one in found] == pytest.approx([logprob for logprob, _ in expected], rel=1e-5, abs=1e-5)
    assert [one.greedy for one in found] == [greedy for _, greedy in expected]
    assert found[-1].greedy and not all(one.greedy for one in found)
    assert [one.tokens for one in found] == [len(continuation) for _, continuation in requests]
    assert [told[i] for i in range(len(requests))] == found


def test_what_differs_in_the_last_token_alone_is_read_once(tiny_model: Opened, monkeypatch: pytest.MonkeyPatch):
    given = []
    monkeypatch.setattr(
        likelihood,
        "batches",
        lambda pieces, *rest, real=likelihood.batches: given.extend(pieces) or real(pieces, *rest),
    )
    likelihoods(tiny_model, [([1, 2, 3], [letter]) for letter in range(60, 65)])
    assert [piece.ids.tolist() for piece in given] == [[1, 2, 3]]


def test_a_mesh_changes_nothing(tiny_model: Opened, requests: Any):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        specs = jax.tree.map(lambda leaf: leaf.sharding.spec, tiny_model.model.abstract())
    params = jax.tree.map(
        lambda leaf, spec: jax.device_put(np.asarray(leaf), NamedSharding(mesh, spec)), tiny_model.params, specs
    )
    found = likelihoods(replace(tiny_model, mesh=mesh, params=params), requests)
    expected = likelihoods(tiny_model, requests)
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in expected], rel=1e-5)
    assert [one[1:] for one in found] == [one[1:] for one in expected]


def test_a_continuation_beyond_the_context_is_refused(tiny_model: Opened):
    with pytest.raises(InputError, match="longer than what the model reads"):
        likelihoods(tiny_model, [([1], [2] * (tiny_model.config.context_length + 1))])
