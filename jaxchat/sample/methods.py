"""How the next token is chosen from the logits: every row by its own settings, inside one compiled step.

B rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxchat.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """What one request asks for.

    temperature: 0 is greedy. top_k: the so many likeliest (0: all). top_p: the likeliest that together reach this
    probability (Holtzman et al. 2020). min_p: those at least this share as likely as the top one (Nguyen et al. 2024).
    repetition_penalty: of tokens seen before, prompt included (Keskar et al. 2019). presence_penalty,
    frequency_penalty: taken from the logits of tokens in the answer so far, once and for each time (OpenAI's).
    logit_bias: added to the logits of these tokens. max_tokens: at most. seed: the same seed and prompt give the same
    text, whatever else is generated beside it, where an engine is `invariant`; elsewhere but for rounding, which
    differs between batches of different sizes, where two tokens are nearly as likely. stop: texts that end the answer
    and are not part of it. ignore_eos: goes on to max_tokens.
    """

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
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
            "presence-penalty": (math.isfinite(self.presence_penalty), "a finite number; 0 is none"),
            "frequency-penalty": (math.isfinite(self.frequency_penalty), "a finite number; 0 is none"),
            "max-tokens": (self.max_tokens >= 1, "1 or more"),
            "seed": (0 <= self.seed < 2**32, "from 0 to 4294967295"),
        }
        for name, (holds, wanted) in bounds.items():
            if not holds:
                raise InputError(f"--{name} is {getattr(self, name.replace('-', '_'))}; it must be {wanted}")
        if not all(token >= 0 and math.isfinite(bias) for token, bias in self.logit_bias):
            raise InputError("--logit-bias names tokens by their ids, each with a finite number to add to its logit")
        if "" in self.stop:
            raise InputError("--stop is empty; give the text that ends an answer")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Methods:
    """The settings of every row, arrays (B,)."""

    temperature_B: jax.Array
    top_k_B: jax.Array
    top_p_B: jax.Array
    min_p_B: jax.Array
    repetition_B: jax.Array
    presence_B: jax.Array
    frequency_B: jax.Array
    seed_B: jax.Array
    ignore_eos_B: jax.Array


def methods(rows: Sequence[Sampling]) -> Methods:
    """One Sampling a row, as arrays of the host."""

    def column(name: str, kind: Any) -> Any:
        return np.array([getattr(sampling, name) for sampling in rows], kind)

    return Methods(
        column("temperature", np.float32),
        column("top_k", np.int32),
        column("top_p", np.float32),
        column("min_p", np.float32),
        column("repetition_penalty", np.float32),
        column("presence_penalty", np.float32),
        column("frequency_penalty", np.float32),
        column("seed", np.uint32),
        column("ignore_eos", bool),
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class History:
    """What of a row's past its settings speak of. asked_BV: tokens that the prompt has. said_BV: how often the answer
    has each. bias_BV: added to their logits."""

    asked_BV: jax.Array
    said_BV: jax.Array
    bias_BV: jax.Array


def adjust(logits_BV: jax.Array, history: History, by: Methods) -> jax.Array:
    """Logits with the biases added, then the repetition penalty, then the presence and frequency penalties."""
    x_BV = logits_BV + history.bias_BV
    times_B1 = by.repetition_B[:, None]
    seen_BV = history.asked_BV | (history.said_BV > 0)
    x_BV = jnp.where(seen_BV, jnp.where(x_BV > 0, x_BV / times_B1, x_BV * times_B1), x_BV)
    return x_BV - by.presence_B[:, None] * (history.said_BV > 0) - by.frequency_B[:, None] * history.said_BV


def allow(logits_BV: jax.Array, allowed_BW: jax.Array) -> jax.Array:
    """Minus infinity for tokens whose bit is not set: token t's is bit t % 32 of word t // 32, int32 (B, W)."""
    t_V = jnp.arange(logits_BV.shape[1])
    bits_BV = jnp.repeat(allowed_BW, 32, axis=1, total_repeat_length=32 * allowed_BW.shape[1])[:, : len(t_V)]
    return jnp.where((bits_BV >> (t_V % 32)[None]) & 1 == 1, logits_BV, -jnp.inf)


def choose(logits_BV: jax.Array, index_B: jax.Array, by: Methods) -> jax.Array:
    """The next token of every row, int32 (B,), from logits that are adjusted already.

    index_B: how many tokens the row had before; with the seed it names the random number, so that it does not depend on
    the other rows.
    """
    greedy_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)

    def sample() -> jax.Array:
        scaled_BV = logits_BV / jnp.where(by.temperature_B > 0, by.temperature_B, 1.0)[:, None]
        drawn_B = draw(truncate(scaled_BV, by), by.seed_B, index_B)
        return jnp.where(by.temperature_B > 0, drawn_B, greedy_B)

    return jax.lax.cond(jnp.any(by.temperature_B > 0), sample, lambda: greedy_B)


# Nothing below sorts: sorting a vocabulary costs more than a small model's forward pass. What a method keeps are the
# tokens above some threshold, and a draw is where a running sum passes a number; both are searched for bit by bit, each
# bit one sum over the vocabulary.


def truncate(logits_BV: jax.Array, by: Methods) -> jax.Array:
    """Minus infinity for the tokens that top-k, then top-p, then min-p leave out. Of equally likely tokens at the
    border all are kept."""
    V = logits_BV.shape[1]

    def best_k() -> jax.Array:
        k_B, order_BV = jnp.where(by.top_k_B > 0, jnp.minimum(by.top_k_B, V), V), _order(logits_BV)
        last_B = _search(lambda least_B: jnp.sum(order_BV >= least_B[:, None], axis=-1) >= k_B, by.seed_B, 32)
        return jnp.where(order_BV >= last_B[:, None], logits_BV, -jnp.inf)

    def best_p() -> jax.Array:
        probs_BV, order_BV = jax.nn.softmax(kept_BV, axis=-1), _order(kept_BV)

        def enough(least_B: jax.Array) -> jax.Array:
            return jnp.sum(jnp.where(order_BV >= least_B[:, None], probs_BV, 0.0), axis=-1) >= by.top_p_B

        last_B = _search(enough, by.seed_B, 32)
        return jnp.where((order_BV >= last_B[:, None]) | (by.top_p_B == 1)[:, None], kept_BV, -jnp.inf)

    kept_BV = jax.lax.cond(jnp.any(by.top_k_B > 0), best_k, lambda: logits_BV)
    kept_BV = jax.lax.cond(jnp.any(by.top_p_B < 1), best_p, lambda: kept_BV)
    least_B = jnp.max(kept_BV, axis=-1) + jnp.log(by.min_p_B)
    return jnp.where(kept_BV >= least_B[:, None], kept_BV, -jnp.inf)


def draw(logits_BV: jax.Array, seed_B: jax.Array, index_B: jax.Array) -> jax.Array:
    """One token of every row by its probability, int32 (B,): where the running sum of probabilities passes a uniform
    random number, which seed and index decide."""
    weights_BV = jnp.exp(logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True))
    uniform_B = jax.vmap(lambda seed, index: jax.random.uniform(jax.random.fold_in(jax.random.key(seed), index)))(
        seed_B, index_B
    )
    number_B = uniform_B * jnp.sum(weights_BV, axis=-1)
    t_V = jnp.arange(logits_BV.shape[1], dtype=jnp.uint32)

    def not_passed(count_B: jax.Array) -> jax.Array:
        before_BV = t_V[None] < count_B[:, None]
        return jnp.sum(jnp.where(before_BV, weights_BV, 0.0), axis=-1) <= number_B

    return _search(not_passed, seed_B, len(t_V).bit_length()).astype(jnp.int32)


def _order(x_BV: jax.Array) -> jax.Array:
    """uint32 in the order of the floats."""
    bits_BV = jax.lax.bitcast_convert_type(x_BV, jnp.uint32)
    return jnp.where(bits_BV >> 31 == 1, ~bits_BV, bits_BV | jnp.uint32(1 << 31))


def _search(holds: Callable[[jax.Array], jax.Array], like_B: jax.Array, bits: int) -> jax.Array:
    """The largest uint32 of so many bits for which `holds`, row by row; of a condition that holds for 0, and for no
    number above one for which it does not."""

    def bit(i: jax.Array, found_B: jax.Array) -> jax.Array:
        more_B = found_B | (jnp.uint32(1) << (bits - 1 - i).astype(jnp.uint32))
        return jnp.where(holds(more_B), more_B, found_B)

    return jax.lax.fori_loop(0, bits, bit, jnp.zeros_like(like_B, dtype=jnp.uint32))
