"""A model's own answers where conversations have the assistant's: to measure how it talks, and for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxchat.chat.conversation import Conversation
from jaxchat.chat.masking import ChatFormatError
from jaxchat.chat.template import ChatFormat
from jaxchat.evals.quality import Answer, quality
from jaxchat.hub.open import Opened
from jaxchat.progress import Bar
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import SLOTS, generate
from jaxchat.sample.methods import Sampling


def answers(
    opened: Opened, format: ChatFormat, conversations: Sequence[Conversation], most: int, tokens: int, label: str
) -> dict[str, Any]:
    """The figures of evals/quality.py for the last answer of each of the first `most` conversations that have one and
    leave room for it, greedily and of at most `tokens` tokens; `each` of them as well: id, asked, reference, text."""
    asked: list[tuple[Conversation, int]] = []
    prompts: list[list[int]] = []
    for conversation in conversations:
        if len(asked) == most:
            break
        last = max((i for i, message in enumerate(conversation.messages) if message.role == "assistant"), default=0)
        if last == 0 or not conversation.messages[last].content:
            continue
        try:
            prompt = format.prompt(conversation.messages[:last], tools=conversation.tools)
        except ChatFormatError:
            continue  # what the template refuses is counted where the conversation is scored
        if len(prompt) + tokens <= opened.config.context_length:
            asked.append((conversation, last))
            prompts.append(prompt)
    if not prompts:
        return {**quality([]), "each": []}
    slots, context = min(len(prompts), SLOTS), max(map(len, prompts)) + tokens
    stops = tuple(format.stop_ids)
    with (
        Engine(
            opened.model, opened.params, opened.tokenizer, opened.mesh, stops, slots=slots, context=context
        ) as engine,
        Bar(f"{label}: answering", len(prompts), "answers") as bar,
    ):
        done = generate(engine, prompts, Sampling(temperature=0, max_tokens=tokens), on_end=lambda i: bar.advance())
    found = []
    for (conversation, last), completion in zip(asked, done, strict=True):
        said = [message.content or "" for message in conversation.messages[:last] if message.role == "user"]
        reference = conversation.messages[last].content or ""
        tokens_said, reason = len(completion.token_ids), completion.finish_reason
        found.append(Answer(completion.text, said[-1] if said else "", reference, tokens_said, reason))
    each = [
        {"id": conversation.id, "asked": one.asked, "reference": one.reference, "text": one.text}
        for (conversation, _), one in zip(asked, found)
    ]
    return {**quality(found), "each": each}
