"""A run as a plan sees it: its programs on any mesh, in any setting."""

from __future__ import annotations

import math
from dataclasses import replace

import jax
from jax.sharding import Mesh

from jaxchat.data.batch import Batch
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model, Params
from jaxchat.objectives.language_model import losses
from jaxchat.plan.memory import kept
from jaxchat.plan.work import Phase, Setting, Work
from jaxchat.run.config import Pretrained, Train
from jaxchat.run.program import program
from jaxchat.train.program import Program


def planned(config: Train, *, serve: bool = False) -> Work:
    """The run as a plan sees it: its programs on any mesh, in any setting. serve: prefill and decode as well.

    Needs no data and, where the config says the model's shape, no weights.
    """
    model = config.model
    if isinstance(model, Pretrained):
        from jaxchat.hub.open import open_config

        model = model.config or open_config(model.source)
    shape: DecoderConfig = model

    def build(setting: Setting, mesh: Mesh) -> list[Phase]:
        data = replace(config.data, batch=setting.batch)
        run = replace(config, data=data, mesh=setting.mesh, accumulate=setting.accumulate, remat=setting.remat)
        made = program(run, shape, mesh, config.steps or 1000)
        phases = [_training(run, made)]
        return [*phases, *_serving(made.model, mesh, run.data.seq_len)] if serve else phases

    setting = Setting(config.mesh, config.data.batch, config.accumulate, config.remat)
    return Work(setting, shape, config.data.seq_len, config.steps, build)


def _training(config: Train, made: Program) -> Phase:
    model, rows = made.model, (config.data.batch, config.data.seq_len)
    flops = model.config.flops_per_token((rows[1] + 1) / 2) * math.prod(rows)
    unembedding = 6 * model.config.vocab_size * model.config.width * math.prod(rows)
    micro = jax.tree.map(lambda x: x.update(shape=(rows[0] // config.accumulate, rows[1])), made.batch)

    def loss(params: Params, batch: Batch, frozen: Params | None) -> jax.Array:
        return losses(model, made.attach(frozen, params), batch).total

    return Phase(
        "train",
        lambda: made.step.lower(made.state, made.batch, made.frozen),
        {
            "parameters": made.state.params,
            "frozen": made.frozen,
            "optimizer": made.state.opt_state,
            "batch": made.batch,
        },
        lambda: kept(loss, made.state.params, micro, made.frozen),
        flops,
        flops + (flops - unembedding) / 3 if config.remat == "full" else flops,
        math.prod(rows),
        made.flags,
    )


def _serving(model: Model, mesh: Mesh, slots: int) -> list[Phase]:
    """Prefill and decode of as many conversations as are generated at once, each of up to `slots` tokens."""
    from jaxchat.sample.abstract import programs

    phases = []
    for name, one in programs(model, mesh, slots).items():
        tokens = one.rows * one.tokens
        flops = model.config.flops_per_token(slots / 2) / 3 * tokens
        phases.append(Phase(name, one.lower, one.takes, tuple, flops, flops, tokens))
    return phases
