"""A model's answers to prompts, made ahead by the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from jaxchat.chat.conversation import Message, Role
from jaxchat.chat.masking import ChatFormatError
from jaxchat.chat.template import ChatFormat, load_template
from jaxchat.errors import InputError
from jaxchat.evals.arena.making import Answerer, Asked, Opening, Reply
from jaxchat.hub.open import Opened
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling


def generating(
    name: str,
    open_: Callable[[], Opened],
    template: str | None,
    engine_of: Callable[[Opened, ChatFormat], Engine],
    sampling: Sampling,
) -> Opening:
    """The model that `open_` opens, by its own template or another, answering on the engine that `engine_of` makes.
    A prompt that the template refuses, or that leaves no room for an answer, is left out. InputError for a model that
    cannot chat."""

    @contextmanager
    def opening() -> Iterator[Answerer]:
        opened = open_()
        format = ChatFormat(opened.tokenizer, load_template(template)) if template else opened.format
        if format is None:
            raise InputError(f"{name} has no chat template, so it cannot answer; name one with --template")
        with engine_of(opened, format) as engine:
            yield lambda prompts: _answers(engine, format, prompts, sampling)

    return opening


def _answers(engine: Engine, format: ChatFormat, prompts: Sequence[Asked], sampling: Sampling) -> list[Reply]:
    replies: dict[int, Reply] = {}
    ids: dict[int, list[int]] = {}
    for i, asked in enumerate(prompts):
        try:
            ids[i] = format.prompt([_message(one["role"], one["content"]) for one in asked.messages])
        except ChatFormatError as error:
            replies[i] = Reply(left_out=f"its template refuses the prompt: {error}")
            continue
        if len(ids[i]) + sampling.max_tokens > engine.context:
            replies[i] = Reply(left_out=f"{len(ids.pop(i)):,} tokens leave no room for an answer")
    done = generate(engine, list(ids.values()), sampling) if ids else []
    replies |= {i: Reply(one.text.strip()) for i, one in zip(ids, done, strict=True)}
    return [replies[i] for i in range(len(prompts))]


def _message(role: str, content: str) -> Message:
    known: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
    if role not in known:
        raise ChatFormatError(f"there is no role {role!r}")
    return Message(known[role], content)
