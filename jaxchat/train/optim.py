"""The optimizer and its learning rate over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import optax
import optax.contrib
from jax.sharding import NamedSharding

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
class Muon:
    """Muon (Jordan et al. 2024) for the blocks' matrices: momentum, orthogonalised. Learns faster than AdamW from
    scratch; a model that AdamW pretrained is better tuned with AdamW.

    peak_lr: of these matrices, following the same schedule. iterations: of Newton-Schulz.
    """

    peak_lr: float = 0.02
    momentum: float = 0.95
    iterations: int = 5


@dataclass(frozen=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019), for all parameters or for those that `matrices` leaves to it.

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
    matrices: Muon | None = None


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
    """Clipping, AdamW or Muon, and the schedule over `steps` updates."""
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    rate = learning_rate(config, steps)
    adamw = optax.adamw(
        rate, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay, mask=decayed
    )
    chosen = optax.chain(clip, _with_muon(config, config.matrices, rate) if config.matrices else adamw)
    return optax.GradientTransformation(chosen.init, jax.named_scope("optimizer")(chosen.update))  # so named in a trace


def _with_muon(config: OptimConfig, muon: Muon, rate: optax.Schedule) -> optax.GradientTransformation:
    return _partitioned(
        optax.contrib.muon(
            lambda step: rate(step) * (muon.peak_lr / config.peak_lr),
            ns_steps=muon.iterations,
            beta=muon.momentum,
            eps=config.eps,
            # Optax multiplies it by the learning rate, which for Muon is many times AdamW's.
            weight_decay=config.weight_decay * config.peak_lr / muon.peak_lr,
            adam_b1=config.b1,
            adam_b2=config.b2,
            adam_learning_rate=rate,
            muon_weight_dimension_numbers=_matrices,
        )
    )


def _matrices(params: Params) -> Params:
    """Which axes of a block's weight are inputs and outputs, those of layers and experts being neither; None: left to
    AdamW."""
    from optax.contrib import MuonDimensionNumbers as Axes

    inputs = {"o": (1, 2)}

    def axes(path: tuple, weight: jax.Array) -> Axes | None:
        if path[0].key != "layers" or path[-1].key == "scale":
            return None
        if path[-2].key == "experts":
            return Axes((2,), (3,))
        reduced = inputs.get(path[-1].key, (1,))
        return Axes(reduced, tuple(range(1 + len(reduced), weight.ndim)))

    return jax.tree.map_with_path(axes, params)


def _partitioned(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Leaves the placing of intermediate arrays to the compiler: Optax's Newton-Schulz names no shardings."""

    def place(x: jax.Array) -> NamedSharding:
        # The mesh at hand, and not the array's own: a step count that nothing has placed yet knows of none.
        return NamedSharding(jax.sharding.get_abstract_mesh(), jax.typeof(x).sharding.spec)

    def update(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        shardings = jax.tree.map(place, (grads, state))
        return jax.sharding.auto_axes(inner.update, out_sharding=shardings)(grads, state, params)

    return optax.GradientTransformation(inner.init, update)


def decayed(params: Params) -> Params:
    """Which parameters weight decay shrinks: all but the norms' scales and an adapter's magnitudes."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key not in ("scale", "magnitude"), params)
