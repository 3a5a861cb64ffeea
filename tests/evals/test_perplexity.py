"""Perplexity is that of every conversation by itself, whatever shares its row and however rows are grouped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding

from jaxchat.chat.conversation import Conversation, Message, read_conversations
from jaxchat.chat.template import ChatFormat
from jaxchat.corpora.importing import import_corpus
from jaxchat.errors import InputError
from jaxchat.evals.perplexity import score
from jaxchat.evals.scores import Scores
from jaxchat.hub.export import export
from jaxchat.hub.open import Opened, Place, open_model
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models import presets
from jaxchat.models.decoder import Model
from jaxchat.testing import ByteTokenizer, small_conversations


def opened_tiny(context: int = 256, mesh: Mesh | None = None) -> Opened:
    config = replace(presets.tiny(), vocab_size=260, context_length=context)
    model, tokenizer, alone = Model(config), ByteTokenizer(), make_mesh(MeshConfig(), jax.devices()[:1])
    mesh = mesh or alone
    with jax.set_mesh(alone):
        params = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    with jax.set_mesh(mesh):
        specs = jax.tree.map(lambda leaf: leaf.sharding.spec, model.abstract())
    params = jax.tree.map(lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), params, specs)
    place = Place("tiny", "run", Path("tiny"))
    return Opened(place, config, model, params, tokenizer, ChatFormat(tokenizer), mesh, None, "tiny")


@pytest.fixture(scope="module")
def tiny() -> Opened:
    return opened_tiny()


def logprobs(opened: Opened, ids: np.ndarray) -> np.ndarray:
    """Log-probability of every token of `ids` but the first given all that stand before it, from whole logits."""
    tokens_BT = np.zeros((1, opened.config.context_length), np.int32)
    tokens_BT[0, : len(ids)] = ids
    with jax.set_mesh(opened.mesh):
        logits_BTV = whole_logits(opened.model, opened.params, tokens_BT)
    logits_TV = np.asarray(logits_BTV[0, : len(ids)], np.float64)
    top_T1 = logits_TV.max(-1, keepdims=True)
    logits_TV -= top_T1 + np.log(np.exp(logits_TV - top_T1).sum(-1, keepdims=True))
    return logits_TV[np.arange(len(ids) - 1), ids[1:]]


@partial(jax.jit, static_argnums=0)
def whole_logits(model: Model, params: Any, tokens_BT: jax.Array) -> jax.Array:
    positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    return model.logits(params, model.hidden(params, tokens_BT, positions_BT, jnp.ones_like(tokens_BT)))


def scored_alone(opened: Opened, conversations: Sequence[Conversation]) -> dict[str, float]:
    """The figures by their definitions, a conversation at a time."""
    tokenizer, format = opened.tokenizer, opened.format
    assert format is not None
    nll = own_nll = 0.0
    tokens = own_tokens = size = own_size = words = 0
    for conversation in conversations:
        example = format.example(conversation)
        own = example.weights[1:] > 0
        lp = logprobs(opened, example.ids)
        nll -= lp.sum()
        own_nll -= lp[own].sum()
        tokens += len(lp)
        own_tokens += own.sum()
        size += len(tokenizer.decode(example.ids[1:].tolist(), skip_special_tokens=True).encode())
        own_size += sum(len(message.content.encode()) for message in conversation.messages if is_assistant(message))
        words += sum(1 + len(message.content.split()) for message in conversation.messages)  # 1: its role's name
    return {
        "tokens": tokens,
        "perplexity": math.exp(nll / tokens),
        "word_perplexity": math.exp(nll / words),
        "bits_per_byte": nll / math.log(2) / size,
        "assistant.tokens": own_tokens,
        "assistant.perplexity": math.exp(own_nll / own_tokens),
        "assistant.bits_per_byte": own_nll / math.log(2) / own_size,
    }


def is_assistant(message: Message) -> bool:
    return message.role == "assistant"


def figures(scores: Scores, *names: str) -> dict[str, Any]:
    found = scores.figures()
    for name in ("by", "interval"):
        del found[name]
    del found["assistant"]["interval"]
    assert sum(found.pop("refusals").values()) == found["refused"]
    found |= {f"assistant.{name}": value for name, value in found.pop("assistant").items()}
    return {name: found[name] for name in names or found}


@pytest.mark.parametrize("batch_tokens", [256, 2048])
def test_as_every_conversation_alone_by_the_definitions(tiny: Opened, batch_tokens: int):
    conversations = small_conversations(12)
    assert max(len(tiny.format.example(c).ids) for c in conversations) < 256
    expected = scored_alone(tiny, conversations)
    found = score(tiny, tiny.format, conversations, batch_tokens=batch_tokens)
    assert figures(found, *expected) == pytest.approx(expected, rel=1e-5)
    assert len(found.talks) == 12 and found.long == 0 and not found.refusals


def test_the_order_and_company_of_conversations_change_nothing(tiny: Opened):
    conversations = small_conversations(12)
    whole = score(tiny, tiny.format, conversations)
    parts = [score(tiny, tiny.format, [conversation]) for conversation in conversations]
    assert whole.all.nll == pytest.approx(sum(part.all.nll for part in parts), rel=1e-5)
    assert whole.assistant.nll == pytest.approx(sum(part.assistant.nll for part in parts), rel=1e-5)
    assert whole.all.words == sum(part.all.words for part in parts)
    backwards = score(tiny, tiny.format, conversations[::-1])
    assert figures(backwards) == pytest.approx(figures(whole), rel=1e-5)


def test_a_mesh_changes_nothing(tiny: Opened):
    conversations = small_conversations(12)
    spread = opened_tiny(mesh=make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)))
    expected = figures(score(tiny, tiny.format, conversations))
    assert figures(score(spread, spread.format, conversations)) == pytest.approx(expected, rel=1e-5)


def test_without_a_turn_of_the_assistant_its_figures_do_not_exist(tiny: Opened):
    found = figures(score(tiny, tiny.format, [Conversation("a", (Message("user", "Hello"),))]))
    assert found["tokens"] > 0 and found["assistant.tokens"] == 0
    assert found["assistant.perplexity"] is None and found["assistant.bits_per_byte"] is None


def test_sources_languages_lengths_and_turns_are_those_of_the_conversations_alone(tiny: Opened):
    talks = [replace(talk, source="ab"[i % 2]) for i, talk in enumerate(small_conversations(9, turns=9))]
    found = score(tiny, tiny.format, talks, languages={talk.id: "en" for talk in talks[1:]})
    by = found.figures()["by"]
    assert set(by["source"]) == {"a", "b"} and set(by["language"]) == {"en", "und"}
    for kind in ("source", "language", "length"):
        assert sum(group["tokens"] for group in by[kind].values()) == found.all.tokens
        assert sum(group["conversations"] for group in by[kind].values()) == len(talks)
    assert sum(group["tokens"] for group in by["turn"].values()) == found.assistant.tokens
    own = score(tiny, tiny.format, [talk for talk in talks if talk.source == "b"])
    assert by["source"]["b"]["perplexity"] == pytest.approx(own.all.figures()["perplexity"], rel=1e-5)
    assert by["source"]["b"]["assistant"]["words"] == own.assistant.words
    first = [replace(talk, messages=talk.messages[:2]) for talk in talks]
    expected = score(tiny, tiny.format, first).assistant.figures()
    assert by["turn"]["1"] == pytest.approx(expected, rel=1e-5)


def test_turns_that_are_not_to_be_trained_on_are_not_counted_as_the_assistants(tiny: Opened):
    ask, answer = Message("user", "Hi"), Message("assistant", "Hello")
    both = Conversation("a", (ask, answer, ask, replace(answer, train=0.0)))
    found = score(tiny, tiny.format, [both])
    assert found.assistant.tokens == len("Hello") + 1 and found.assistant.bytes == len("Hello")


def test_characters_of_several_bytes_are_counted_as_bytes(tiny: Opened):
    reply = "Grüße, 你好 🙂"
    found = score(tiny, tiny.format, [Conversation("a", (Message("user", "你好"), Message("assistant", reply)))])
    assert found.assistant.bytes == len(reply.encode())
    assert found.all.bytes == len(f"user\n你好\nassistant\n{reply}\n".encode())


def test_a_long_conversation_slides_by_and_every_token_is_scored_once():
    context = 32
    opened = opened_tiny(context)
    (conversation,) = small_conversations(1, seed=3, turns=6, words=10)
    example = opened.format.example(conversation)
    n, own = len(example.ids), example.weights > 0
    assert n > 2 * context
    for stride in (None, 1, 31):
        step = stride or context // 2
        lp = np.zeros(n)
        lp[1:context] = logprobs(opened, example.ids[:context])
        scored = context
        while scored < n:
            end = min(scored + step, n)
            lp[scored:end] = logprobs(opened, example.ids[end - context : end])[scored - end :]
            scored = end
        found = score(opened, opened.format, [conversation], stride=stride)
        assert found.long == 1 and found.stride == step
        assert found.all.tokens == n - 1 and found.assistant.tokens == own.sum()
        assert found.all.nll == pytest.approx(-lp.sum(), rel=1e-5)
        assert found.assistant.nll == pytest.approx(-lp[own].sum(), rel=1e-5)


def test_a_stride_that_leaves_a_token_without_context_is_refused(tiny: Opened):
    for stride in (0, 256):
        with pytest.raises(InputError, match="stride"):
            score(tiny, tiny.format, small_conversations(1), stride=stride)


STRICT = (
    "{% for m in messages %}{% if loop.index0 % 2 != (m.role == 'assistant')|int %}"
    "{{ raise_exception('turns must alternate') }}{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_what_the_template_refuses_is_counted_by_reason(tiny: Opened):
    strict = ChatFormat(tiny.tokenizer, STRICT)
    good = small_conversations(5)
    ask = Message("user", "Hi")
    bad = [Conversation(f"bad-{i}", (ask, ask)) for i in range(3)] + [Conversation("none", ())]
    found = score(tiny, strict, [*bad, *good])
    assert found.figures()["refused"] == 4 and len(found.talks) == 5
    (alternate,) = [reason for reason, count in found.refusals.items() if count == 3]
    assert "turns must alternate" in alternate and "bad-" not in alternate
    assert found.all.nll == pytest.approx(score(tiny, tiny.format, good).all.nll, rel=1e-6)
    with pytest.raises(InputError, match=r"none of the 3 conversations can be scored .*turns must alternate"):
        score(tiny, strict, bad[:3])


def test_damaged_weights_are_refused(tiny: Opened):
    broken = replace(tiny, params=jax.tree.map(lambda leaf: leaf * jnp.nan, tiny.params))
    with pytest.raises(InputError, match="not finite"):
        score(broken, tiny.format, small_conversations(2))


@pytest.mark.slow
def test_smollm2_is_as_perplexed_as_in_transformers(smollm2_gguf: Path, tmp_path: Path):
    pytest.importorskip("chitchat_dataset")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    opened = open_model(str(smollm2_gguf), make_mesh(MeshConfig(), jax.devices()[:1]))
    format = opened.format
    assert format is not None
    export(str(smollm2_gguf), tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    import_corpus("chitchat", (), tmp_path / "chitchat")
    conversations = [c for c in read_conversations(tmp_path / "chitchat") if len(c.messages) > 5][:6]
    found = score(opened, format, conversations)

    nll = own_nll = 0.0
    tokens = own_tokens = 0
    for conversation in conversations:
        example = format.example(conversation)
        ids = torch.tensor(example.ids[None].astype(np.int64))
        with torch.no_grad():
            each = torch.nn.functional.cross_entropy(theirs(ids).logits[0, :-1], ids[0, 1:], reduction="none").numpy()
        own = example.weights[1:] > 0
        nll, own_nll = nll + each.sum(), own_nll + each[own].sum()
        tokens, own_tokens = tokens + len(each), own_tokens + own.sum()
    assert (found.all.tokens, found.assistant.tokens) == (tokens, own_tokens)
    ours = figures(found, "perplexity", "assistant.perplexity")
    assert ours["perplexity"] == pytest.approx(math.exp(nll / tokens), rel=1e-3)
    assert ours["assistant.perplexity"] == pytest.approx(math.exp(own_nll / own_tokens), rel=1e-3)
