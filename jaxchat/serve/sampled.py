"""From what a client asks to what the engine is asked."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from jaxchat.errors import InputError
from jaxchat.sample.methods import Sampling
from jaxchat.sample.request import Request
from jaxchat.serve.errors import unusable
from jaxchat.serve.grammar import Matcher
from jaxchat.serve.served import Served
from jaxchat.serve.wire import ChatRequest, CompletionRequest


@dataclass(frozen=True)
class Limits:
    """What one request may take. max_tokens: of an answer, also where none is asked for. seconds: from its arrival.
    body: bytes. per_minute: requests of one client, where its key says nothing else; None is no limit."""

    max_tokens: int = 1024
    seconds: float | None = 600.0
    body: int = 2 * 1024**2
    per_minute: int | None = None


def engine_requests(
    asked: ChatRequest | CompletionRequest,
    prompts: Sequence[Sequence[int]],
    model: Served,
    limits: Limits,
    *,
    top_logprobs: int = 0,
    constraint: Matcher | None = None,
    client: str = "",
    max_tokens: int | None = None,
) -> list[Request]:
    """`n` requests a prompt, each with a seed of its own. Raises ApiError for what the model cannot do."""
    for prompt in prompts:
        if len(prompt) >= model.context:
            raise unusable(
                f"the prompt has {len(prompt):,} tokens and the model reads {model.context:,} with the answer; "
                "shorten it",
                "messages" if isinstance(asked, ChatRequest) else "prompt",
                "context_length_exceeded",
            )
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    count = asked.n or 1
    made = []
    for row, prompt in enumerate(prompts):
        for i in range(count):
            sampling = _sampling(asked, model, limits, seed + row * count + i, max_tokens)
            own = constraint if constraint is None else constraint.another()
            made.append(Request(tuple(prompt), sampling, top_logprobs, own, client, limits.seconds))
    return made


def _sampling(
    asked: ChatRequest | CompletionRequest, model: Served, limits: Limits, seed: int, max_tokens: int | None
) -> Sampling:
    def value(name: str, otherwise: float) -> float:
        given = getattr(asked, name)
        return model.defaults.get(name, otherwise) if given is None else given

    bias = tuple((int(token), value) for token, value in (asked.logit_bias or {}).items())
    if any(token >= model.vocab_size for token, _ in bias):
        raise unusable(f"logit_bias: the model has tokens 0 to {model.vocab_size - 1:,}", "logit_bias")
    try:
        return Sampling(
            temperature=value("temperature", 1.0),
            top_k=int(value("top_k", 0)),
            top_p=value("top_p", 1.0),
            min_p=value("min_p", 0.0),
            repetition_penalty=value("repetition_penalty", 1.0),
            presence_penalty=asked.presence_penalty or 0.0,
            frequency_penalty=asked.frequency_penalty or 0.0,
            logit_bias=bias,
            max_tokens=min(asked.limit or max_tokens or limits.max_tokens, limits.max_tokens),
            seed=seed % 2**32,
            stop=asked.stops,
            ignore_eos=bool(asked.ignore_eos),
        )
    except InputError as error:
        raise unusable(str(error)) from None
