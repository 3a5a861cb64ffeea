"""The loss on held-out rows while training goes on: packed like the rows trained on, and weighted like them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import jax

from jaxchat.data.batch import Batch
from jaxchat.models.decoder import Model, Params
from jaxchat.objectives.language_model import losses


def make_evaluator(model: Model, batches: Callable[[], Iterable[Batch]]) -> Callable[[Params], dict[str, float]]:
    """A function of the parameters that goes through `batches()`, which are on the device.

    It gives `loss` (mean negative log-likelihood a target, natural, by weight), `perplexity` (its exponential) and
    `tokens` (the targets, by weight).
    """
    summed = jax.jit(lambda params, batch: losses(model, params, batch))

    def evaluate(params: Params) -> dict[str, float]:
        total = weight = 0.0
        for batch in batches():
            found = jax.device_get(summed(params, batch))
            total += float(found.total)
            weight += float(found.weight)
        loss = total / weight if weight else math.nan
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "tokens": weight}

    return evaluate
