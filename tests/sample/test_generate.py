"""What is generated depends on the prompt and its settings alone: not on its company, its length or how it is read."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling
from jaxchat.testing import ByteTokenizer
from tests.sample.conftest import MODEL, ONE

GREEDY = Sampling(temperature=0, max_tokens=12)
PROMPTS = [list(text.encode()) for text in ("Hello there", "a", "What is it that you see, and where? " * 2)]


def one_by_one(params, prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """Greedy tokens and their log-probabilities from whole forward passes."""

    @jax.jit
    def forward(tokens_T):
        t = jnp.arange(128)[None]
        return jax.nn.log_softmax(MODEL.logits(params, MODEL.hidden(params, tokens_T[None], t, jnp.ones_like(t))))[0]

    tokens, logprobs = list(prompt), []
    with jax.set_mesh(ONE):
        for _ in range(count):
            row_V = np.asarray(forward(np.array(tokens + [0] * (128 - len(tokens))))[len(tokens) - 1])
            tokens.append(int(row_V.argmax()))
            logprobs.append(float(row_V.max()))
    return tokens[len(prompt) :], logprobs


def test_decoding_is_prefilling_one_token_more_at_a_time(engine, params):
    for prompt, completion in zip(PROMPTS, generate(engine, PROMPTS, GREEDY), strict=True):
        tokens, logprobs = one_by_one(params, prompt, 12)
        assert list(completion.token_ids) == tokens
        np.testing.assert_allclose(completion.logprobs, logprobs, atol=1e-4)
        assert completion.finish_reason == "length"


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0, top_p=0.9, seed=5, max_tokens=12)])
def test_a_prompt_in_company_is_answered_as_alone(engine, sampling):
    together = generate(engine, PROMPTS, sampling)
    alone = [generate(engine, [prompt], sampling)[0] for prompt in PROMPTS]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_each_prompt_may_have_its_own_settings(engine):
    each = [GREEDY, Sampling(temperature=1.5, seed=7, max_tokens=20), replace(GREEDY, max_tokens=3)]
    mixed = generate(engine, PROMPTS, each)
    assert [len(one.token_ids) for one in mixed] == [12, 20, 3]
    for prompt, sampling, one in zip(PROMPTS, each, mixed, strict=True):
        assert generate(engine, [prompt], sampling)[0].token_ids == one.token_ids


def test_seeds_repeat_and_differ(engine):
    def draw(seed):
        return generate(engine, [PROMPTS[0]], Sampling(temperature=1.5, seed=seed, max_tokens=12))[0].token_ids

    assert draw(1) == draw(1) != draw(2)


def reused(engine, prompt: list[int]) -> tuple[int, tuple[int, ...]]:
    """How many tokens of a prompt needed no reading, and the answer."""
    before = engine.stats().reused_tokens
    answer = generate(engine, [prompt], GREEDY)[0].token_ids
    return engine.stats().reused_tokens - before, answer


def test_what_was_read_is_not_read_again_and_changes_nothing(params):
    with Engine(MODEL, params, ByteTokenizer(), ONE, slots=1) as engine:
        first = generate(engine, [PROMPTS[0]], GREEDY)[0]
        longer = PROMPTS[0] + list(first.token_ids) + list(b" And then?")
        other = [*longer[:20], 65, *longer[21:]]
        count, again = reused(engine, longer)
        assert count == len(PROMPTS[0]) + len(first.token_ids) - 1
        count, changed = reused(engine, other)
        assert count == 20
    for prompt, answer in ((longer, again), (other, changed)):
        with Engine(MODEL, params, ByteTokenizer(), ONE, slots=1) as fresh:
            assert reused(fresh, prompt) == (0, answer)


def test_an_end_token_ends_unless_it_is_ignored(engine, params):
    free = generate(engine, [PROMPTS[0]], GREEDY)[0]
    end = free.token_ids[4]
    first = free.token_ids.index(end)
    with Engine(MODEL, params, ByteTokenizer(), ONE, stop_ids=[end]) as stopping:
        ended = generate(stopping, [PROMPTS[0]], GREEDY)[0]
        assert ended.token_ids == free.token_ids[: first + 1]
        assert ended.finish_reason == "stop"
        assert ended.text == ByteTokenizer().decode(free.token_ids[:first])
        ignoring = generate(stopping, [PROMPTS[0]], replace(GREEDY, ignore_eos=True))[0]
    assert (ignoring.token_ids, ignoring.text) == (free.token_ids, free.text)


def test_what_is_heard_is_what_is_returned(engine):
    heard = [""] * len(PROMPTS)

    def hear(i: int, more: str) -> None:
        heard[i] += more

    completions = generate(engine, PROMPTS, GREEDY, hear)
    assert heard == [one.text for one in completions]


def test_a_prompt_too_long_or_empty_is_refused(engine):
    with pytest.raises(InputError, match="has 512 tokens and the model reads 512"):
        generate(engine, [[65] * 512], GREEDY)
    with pytest.raises(InputError, match="empty"):
        generate(engine, [[]], GREEDY)


def test_an_answer_ends_where_the_context_does(engine):
    completion = generate(engine, [[65] * 509], GREEDY)[0]
    assert len(completion.token_ids) == 3
    assert completion.finish_reason == "length"


@pytest.mark.parametrize(
    "mesh", [MeshConfig(fsdp=2, tensor=2), MeshConfig(data=4), MeshConfig(fsdp=2, context=2)], ids=str
)
def test_sharded_generation_is_whole_generation(engine, params, mesh, monkeypatch):
    """Rows of unlike lengths, which are written apart, among them."""
    with jax.set_mesh(make_mesh(mesh, jax.devices()[:4])) as _:
        placed = jax.tree.map(
            lambda x, like: jax.device_put(np.asarray(x), like.sharding.spec), params, MODEL.abstract()
        )
    prompts = [*PROMPTS, list(b"And this one is long. ") * 9]
    sampling = Sampling(temperature=0.8, top_k=20, seed=3, max_tokens=8)
    with Engine(MODEL, placed, ByteTokenizer(), make_mesh(mesh, jax.devices()[:4])) as split:
        monkeypatch.setattr(split._runner.times, "cost", lambda shape: shape.rows * shape.span)
        for sampled in (replace(GREEDY, max_tokens=8), sampling):
            whole = generate(engine, prompts, sampled)
            assert [one.token_ids for one in generate(split, prompts, sampled)] == [one.token_ids for one in whole]
