"""How the next token is chosen from the logits: every row by its own settings, inside one compiled step.

B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxchat.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """What one request asks for.

    temperature: 0 is greedy. top_k: the so many likeliest (0: all). top_p: the likeliest that together reach this
    probability (Holtzman et al. 2020). min_p: those at least this share as likely as the top one (Nguyen et al. 2024).
    repetition_penalty: of tokens seen before, prompt included (Keskar et al. 2019). max_tokens: at most. seed: the same
    seed and prompt give the same text, whatever else is generated beside it. stop: texts that end the answer and are
    not part of it. ignore_eos: goes on to max_tokens.
    """

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 256
    seed: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        bounds = {
            "temperature": (self.temperature >= 0, "0 (greedy) or more"),
            "top-k": (self.top_k >= 0, "0 (all) or more"),
            "top-p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min-p": (0 <= self.min_p <= 1, "from 0 to 1"),
            "repetition-penalty": (self.repetition_penalty > 0, "above 0; 1 is none"),
            "max-tokens": (self.max_tokens >= 1, "1 or more"),
            "seed": (0 <= self.seed < 2**32, "from 0 to 4294967295"),
        }
        for name, (holds, wanted) in bounds.items():
            if not holds:
                raise InputError(f"--{name} is {getattr(self, name.replace('-', '_'))}; it must be {wanted}")
        if "" in self.stop:
            raise InputError("--stop is empty; give the text that ends an answer")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Methods:
    """The settings of every row, on the device."""

    temperature_B: jax.Array
    top_k_B: jax.Array
    top_p_B: jax.Array
    min_p_B: jax.Array
    penalty_B: jax.Array
    seed_B: jax.Array
    ignore_eos_B: jax.Array


def methods(rows: Sequence[Sampling]) -> Methods:
    """One Sampling a row, as arrays."""
    return Methods(
        jnp.array([s.temperature for s in rows], jnp.float32),
        jnp.array([s.top_k for s in rows], jnp.int32),
        jnp.array([s.top_p for s in rows], jnp.float32),
        jnp.array([s.min_p for s in rows], jnp.float32),
        jnp.array([s.repetition_penalty for s in rows], jnp.float32),
        jnp.array([s.seed for s in rows], jnp.uint32),
        jnp.array([s.ignore_eos for s in rows], bool),
    )


def choose(logits_BV: jax.Array, seen_BV: jax.Array, index_B: jax.Array, by: Methods) -> tuple[jax.Array, jax.Array]:
    """The next token of every row, int32 (B,), and its natural log-probability under the model itself, before penalty,
    temperature or truncation, float32 (B,).

    seen_BV: tokens that the repetition penalty is for. index_B: how many tokens the row had before; with the seed it
    names the random numbers, so that they do not depend on the other rows.
    """
    logprobs_BV = jax.nn.log_softmax(logits_BV)
    penalised_BV = jnp.where(
        seen_BV,
        jnp.where(logits_BV > 0, logits_BV / by.penalty_B[:, None], logits_BV * by.penalty_B[:, None]),
        logits_BV,
    )
    greedy_B = jnp.argmax(penalised_BV, axis=-1)

    def sample() -> jax.Array:
        scaled_BV = penalised_BV / jnp.where(by.temperature_B > 0, by.temperature_B, 1.0)[:, None]
        kept_BV = truncate(scaled_BV, by)
        noise_BV = jax.vmap(
            lambda seed, index: jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), index), kept_BV.shape[1:])
        )(by.seed_B, index_B)
        return jnp.where(by.temperature_B > 0, jnp.argmax(kept_BV + noise_BV, axis=-1), greedy_B)

    token_B = jax.lax.cond(jnp.any(by.temperature_B > 0), sample, lambda: greedy_B).astype(jnp.int32)
    chosen_BV = jnp.arange(logits_BV.shape[1])[None] == token_B[:, None]
    return token_B, jnp.sum(jnp.where(chosen_BV, logprobs_BV, 0.0), axis=-1)


def truncate(logits_BV: jax.Array, by: Methods) -> jax.Array:
    """Minus infinity for the tokens that top-k, then top-p, then min-p leave out."""

    def ranked() -> jax.Array:
        V = logits_BV.shape[1]
        order_BV = jnp.argsort(logits_BV, axis=-1, descending=True)
        sorted_BV = jnp.take_along_axis(logits_BV, order_BV, axis=-1)
        k_B = jnp.where(by.top_k_B > 0, by.top_k_B, V)
        sorted_BV = jnp.where(jnp.arange(V)[None] < k_B[:, None], sorted_BV, -jnp.inf)
        probs_BV = jax.nn.softmax(sorted_BV, axis=-1)
        before_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV
        sorted_BV = jnp.where(before_BV < by.top_p_B[:, None], sorted_BV, -jnp.inf)
        back_BV = jnp.argsort(order_BV, axis=-1)
        return jnp.take_along_axis(sorted_BV, back_BV, axis=-1)

    # Sorting a vocabulary costs more than a small model's forward pass: only when a row asks for it.
    asked = jnp.any((by.top_k_B > 0) | (by.top_p_B < 1))
    kept_BV = jax.lax.cond(asked, ranked, lambda: logits_BV)
    least_B = jnp.max(kept_BV, axis=-1) + jnp.log(by.min_p_B)
    return jnp.where(kept_BV >= least_B[:, None], kept_BV, -jnp.inf)
