"""The model that is being trained, answering the prompts of a run."""

from __future__ import annotations

from collections.abc import Callable

from jax.sharding import Mesh

from jaxchat.models import lora
from jaxchat.models.decoder import Model, Params
from jaxchat.run.parts import Parts
from jaxchat.train.session import Samples


def answerer(samples: Samples, model: Model, parts: Parts, mesh: Mesh) -> Callable[[Params], list[str]]:
    """A function of the parameters that answers the prompts, greedily. It compiles once and keeps no weights."""
    from jaxchat.chat.conversation import Message
    from jaxchat.sample.engine import Engine
    from jaxchat.sample.generate import generate
    from jaxchat.sample.methods import Sampling

    prompts = [parts.format.prompt([Message("user", prompt)]) for prompt in samples.prompts]
    sampling = Sampling(temperature=0.0, max_tokens=samples.tokens)
    context = max(map(len, prompts)) + samples.tokens

    def answer(params: Params) -> list[str]:
        stops = sorted(parts.format.stop_ids)
        with Engine(
            model, lora.merged(params), parts.tokenizer, mesh, stops, slots=len(prompts), context=context
        ) as engine:
            return [completion.text for completion in generate(engine, prompts, sampling)]

    return answer
