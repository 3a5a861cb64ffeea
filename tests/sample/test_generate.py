"""What is generated depends on the prompt and its settings alone: not on its company, its length or how it is read."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.decoder import Model
from jaxchat.models.presets import tiny
from jaxchat.sample.generate import Generator
from jaxchat.sample.methods import Sampling
from jaxchat.testing import ByteTokenizer

MODEL = Model(replace(tiny(), vocab_size=ByteTokenizer.vocab_size, context_length=128))
ONE = make_mesh(devices=jax.devices()[:1])
GREEDY = Sampling(temperature=0, max_tokens=12)
PROMPTS = [list(text.encode()) for text in ("Hello there", "a", "What is it that you see, and where? " * 2)]


@pytest.fixture(scope="module")
def params():
    with jax.set_mesh(ONE):
        return jax.tree.map(lambda x: 3 * x, jax.jit(MODEL.init)(jax.random.key(3)))  # far from uniform


@pytest.fixture(scope="module")
def generator(params) -> Generator:
    return Generator(MODEL, params, ByteTokenizer(), ONE)


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


def test_decoding_is_prefilling_one_token_more_at_a_time(generator, params):
    for prompt, completion in zip(PROMPTS, generator.generate(PROMPTS, GREEDY), strict=True):
        tokens, logprobs = one_by_one(params, prompt, 12)
        assert list(completion.token_ids) == tokens
        np.testing.assert_allclose(completion.logprobs, logprobs, atol=1e-4)
        assert completion.finish_reason == "length"


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0, top_p=0.9, seed=5, max_tokens=12)])
def test_a_prompt_in_company_is_answered_as_alone(generator, sampling):
    together = generator.generate(PROMPTS, sampling)
    alone = [generator.generate([prompt], sampling)[0] for prompt in PROMPTS]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_each_prompt_may_have_its_own_settings(generator):
    each = [GREEDY, Sampling(temperature=1.5, seed=7, max_tokens=20), replace(GREEDY, max_tokens=3)]
    mixed = generator.generate(PROMPTS, each)
    assert [len(one.token_ids) for one in mixed] == [12, 20, 3]
    for prompt, sampling, one in zip(PROMPTS, each, mixed, strict=True):
        assert generator.generate([prompt], sampling)[0].token_ids == one.token_ids


def test_seeds_repeat_and_differ(generator):
    def draw(seed):
        return generator.generate([PROMPTS[0]], Sampling(temperature=1.5, seed=seed, max_tokens=12))[0].token_ids

    assert draw(1) == draw(1) != draw(2)


def test_a_prompt_that_goes_on_from_the_last_is_read_from_there(generator):
    first = generator.generate([PROMPTS[0]], GREEDY)[0]
    longer = PROMPTS[0] + list(first.token_ids) + list(b" And then?")
    again = generator.generate([longer], GREEDY)[0]
    other = [*longer[:4], 65, *longer[5:]]
    changed = generator.generate([other], GREEDY)[0]
    generator.generate([PROMPTS[1], PROMPTS[2]], GREEDY)  # forgets
    assert generator.generate([longer], GREEDY)[0].token_ids == again.token_ids
    generator.generate([PROMPTS[1], PROMPTS[2]], GREEDY)
    assert generator.generate([other], GREEDY)[0].token_ids == changed.token_ids


def test_an_end_token_ends_unless_it_is_ignored(params):
    free = Generator(MODEL, params, ByteTokenizer(), ONE).generate([PROMPTS[0]], GREEDY)[0]
    end = free.token_ids[4]
    first = free.token_ids.index(end)
    stopping = Generator(MODEL, params, ByteTokenizer(), ONE, stop_ids=[end])
    ended = stopping.generate([PROMPTS[0]], GREEDY)[0]
    assert ended.token_ids == free.token_ids[: first + 1]
    assert ended.finish_reason == "stop"
    assert ended.text == ByteTokenizer().decode(free.token_ids[:first])
    assert stopping.generate([PROMPTS[0]], replace(GREEDY, ignore_eos=True))[0] == free


def test_what_is_heard_is_what_is_returned(generator):
    heard = [""] * len(PROMPTS)

    def hear(i: int, more: str) -> None:
        heard[i] += more

    completions = generator.generate(PROMPTS, GREEDY, hear)
    assert heard == [one.text for one in completions]


def test_a_prompt_too_long_or_empty_is_refused(generator):
    with pytest.raises(InputError, match="has 128 tokens and the model reads 128"):
        generator.generate([[65] * 128], GREEDY)
    with pytest.raises(InputError, match="empty"):
        generator.generate([[]], GREEDY)


def test_an_answer_ends_where_the_context_does(generator):
    completion = generator.generate([[65] * 125], GREEDY)[0]
    assert len(completion.token_ids) == 3
    assert completion.finish_reason == "length"


@pytest.mark.parametrize(
    "mesh", [MeshConfig(fsdp=2, tensor=2), MeshConfig(data=4), MeshConfig(fsdp=2, context=2)], ids=str
)
def test_sharded_generation_is_whole_generation(generator, params, mesh):
    with jax.set_mesh(make_mesh(mesh, jax.devices()[:4])) as _:
        placed = jax.tree.map(
            lambda x, like: jax.device_put(np.asarray(x), like.sharding.spec), params, MODEL.abstract()
        )
    split = Generator(MODEL, placed, ByteTokenizer(), make_mesh(mesh, jax.devices()[:4]))
    sampling = Sampling(temperature=0.8, top_k=20, seed=3, max_tokens=8)
    for sampled in (replace(GREEDY, max_tokens=8), sampling):
        whole = generator.generate(PROMPTS, sampled)
        assert [one.token_ids for one in split.generate(PROMPTS, sampled)] == [one.token_ids for one in whole]
