"""A run whose state waits in the host's memory, in part, between its uses: a larger model on the same devices, at the
price of moving it there and back in every step (Ren et al. 2021, ZeRO-Offload)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax

from jaxchat.data.batch import Batch
from jaxchat.host_memory import in_host, put, sent
from jaxchat.models.decoder import Params
from jaxchat.train.program import Program
from jaxchat.train.state import TrainState

# What can wait there: the optimizer's moments, which one moment of a step needs; the blocks' weights and gradients, of
# which a step needs one layer at a time.
Part = Literal["optimizer", "parameters"]


def offloaded(made: Program, parts: Sequence[Part]) -> Program:
    """The same run with these parts of its state in the host's memory."""

    def step(state: TrainState, batch: Batch, *rest: Any) -> tuple[TrainState, Any]:
        after, metrics = made.step(state, batch, *rest)
        return _moved(put, after, parts), metrics

    @partial(jax.jit, donate_argnums=0)
    def with_moments(params: Params) -> TrainState:
        return _moved(put, made.start(params), [part for part in parts if part != "parameters"])

    def start(params: Params) -> TrainState:
        return _moved(sent, with_moments(params), [part for part in parts if part == "parameters"])

    state = _moved(in_host, made.state, parts)
    return replace(made, step=jax.jit(step, donate_argnums=0), state=state, start=start)


def _moved(move: Callable[[Any], Any], state: TrainState, parts: Sequence[Part]) -> TrainState:
    params, opt_state = state.params, state.opt_state
    if "parameters" in parts:
        params = params | {"layers": move(params["layers"])}
    if "optimizer" in parts:
        opt_state = move(opt_state)
    return replace(state, params=params, opt_state=opt_state)
