"""Answers while raters wait, by models in this process."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import cast

from jaxchat.chat.conversation import Message
from jaxchat.errors import InputError
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling
from jaxchat.serve.served import Served


def answering(models: Mapping[str, Served], max_tokens: int) -> Callable[[str, str], str]:
    """`answer(model, text)`, by the sampling that the model came with, from any thread: the engine writes what is asked
    at one time together. InputError for a model that cannot chat, and by `answer` for a text that is too long."""
    for name, model in models.items():
        if model.chat is None:
            raise InputError(f"{name} has no chat template, so it cannot answer what raters type")

    def answer(name: str, text: str) -> str:
        model = models[name]
        prompt = model.prompt([Message("user", text)])
        if len(prompt) + max_tokens > model.context:
            raise InputError("the question is too long; ask a shorter one")
        sampling = Sampling(**{**model.defaults, "max_tokens": max_tokens, "seed": secrets.randbits(32)})
        (done,) = generate(cast(Engine, model.engine), [prompt], sampling)
        return done.text.strip()

    return answer
