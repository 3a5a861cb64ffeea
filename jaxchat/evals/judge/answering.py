"""A model's answers to questions of several turns, each row kept as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from jaxchat.chat.conversation import Message
from jaxchat.chat.template import ChatFormat
from jaxchat.evals.judge.kept import Kept, key
from jaxchat.evals.judge.questions import Question
from jaxchat.hub.adapter import fingerprint
from jaxchat.hub.open import Opened
from jaxchat.progress import Bar
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import SLOTS, generate
from jaxchat.sample.methods import Sampling

TOGETHER = 2 * SLOTS  # answers that are lost at most when the process is killed

Answers = dict[str, list[str]]
"""By question, an answer to each turn."""


def answer(
    name: str, opened: Opened, format: ChatFormat, questions: Sequence[Question], tokens: int, kept: Kept
) -> Answers:
    """What the model says to every turn, in at most `tokens` tokens, as freely as the question's category asks; a
    prompt that leaves no room in the context is answered with nothing. What is kept is not asked again, unless the
    model's weights, its template or the question are others."""
    weights = fingerprint(opened.params)
    histories = {question.id: list[Message]() for question in questions}
    longest = max(len(question.turns) for question in questions)
    context = opened.config.context_length
    engine: Engine | None = None
    with Bar(f"{name}: answering", sum(len(question.turns) for question in questions), "answers") as bar:
        try:
            for turn in range(longest):
                asked = []
                for question in questions:
                    if turn >= len(question.turns):
                        continue
                    history = histories[question.id]
                    history.append(Message("user", question.turns[turn]))
                    prompt = format.prompt(history)
                    room = min(tokens, context - len(prompt))
                    sampling = Sampling(temperature=question.temperature, max_tokens=max(room, 1), seed=turn)
                    told = asdict(sampling) | {"max_tokens": tokens}
                    unique = key(weights, format.fingerprint, told, [[m.role, m.content] for m in history])
                    row = {"model": name, "question": question.id, "turn": turn + 1}
                    if unique not in kept and room < 1:
                        kept.add(unique, {**row, "text": "", "finish_reason": "no room"})
                    asked.append((unique, row, prompt, sampling, history))
                new = [one for one in asked if one[0] not in kept]
                bar.advance(len(asked) - len(new))
                for first in range(0, len(new), TOGETHER):
                    some = new[first : first + TOGETHER]
                    engine = engine or Engine(
                        opened.model, opened.params, opened.tokenizer, opened.mesh, sorted(format.stop_ids), slots=SLOTS
                    )
                    done = generate(engine, [one[2] for one in some], [one[3] for one in some])
                    for (unique, row, *_), said in zip(some, done, strict=True):
                        kept.add(unique, {**row, "text": said.text, "finish_reason": said.finish_reason})
                        bar.advance()
                for unique, _, _, _, history in asked:
                    history.append(Message("assistant", kept[unique]["text"]))
        finally:
            if engine:
                engine.close()
    return {
        id: [message.content or "" for message in history if message.role == "assistant"]
        for id, history in histories.items()
    }
