"""The optimizer and its learning rate over time."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import optax

from jaxchat.errors import InputError
from jaxchat.models.decoder import Params


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the peak down to `final` times the peak at the last step."""

    final: float = 0.1


@dataclass(frozen=True)
class Linear:
    """A straight line from the peak down to `final` times the peak at the last step."""

    final: float = 0.0


@dataclass(frozen=True)
class WSD:
    """Warm-up, stable, decay (Hu et al. 2024, MiniCPM): the peak, then a line down over the last share `decay`."""

    decay: float = 0.2
    final: float = 0.0


@dataclass(frozen=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019).

    peak_lr: after warm-up. warmup: share of the steps spent rising to it. weight_decay: of matrices, never of norms.
    clip: largest global gradient norm; 0 leaves gradients as they are.
    """

    peak_lr: float = 2e-4
    schedule: Cosine | Linear | WSD = field(default_factory=Cosine)
    warmup: float = 0.05
    weight_decay: float = 0.1
    clip: float = 1.0
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """The learning rate of every step, counted from 0; the first step of a warm-up already learns."""
    if not 0 <= config.warmup < 1:
        raise InputError(f"optim.warmup is {config.warmup}; it is a share of the steps, from 0 to below 1")
    warmup = round(config.warmup * steps)
    peak, rest = config.peak_lr, max(steps - warmup, 1)
    match config.schedule:
        case Cosine(final):
            decay = optax.cosine_decay_schedule(peak, rest, alpha=final)
        case Linear(final):
            decay = optax.linear_schedule(peak, peak * final, rest)
        case WSD(share, final):
            falling = max(round(share * steps), 1)
            decay = optax.join_schedules(
                [optax.constant_schedule(peak), optax.linear_schedule(peak, peak * final, falling)],
                [max(rest - falling, 0)],
            )
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup) if warmup else optax.constant_schedule(peak)
    return optax.join_schedules([rise, decay], [warmup])


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Clipping, AdamW and the schedule over `steps` updates."""
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    adamw = optax.adamw(
        learning_rate(config, steps),
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decayed,
    )
    return optax.chain(clip, adamw)


def decayed(params: Params) -> Params:
    """Which parameters weight decay shrinks: all but the norms' scales, vectors under their leading layer axis."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key != "scale", params)
