"""Two models side by side: how far each of their tensors and their logits lie apart."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxchat.chat.gguf_vocabulary import reads_alike
from jaxchat.errors import InputError
from jaxchat.hub import proof
from jaxchat.hub.export import BOUND, compared_rows
from jaxchat.hub.open import Opened, open_model
from jaxchat.models.decoder import Model


@dataclass(frozen=True)
class TensorDifference:
    """Of one parameter, all layers' together: the largest difference, that as a share of the first model's largest
    value, and how many of its numbers are equal bit for bit."""

    name: str
    max_difference: float
    relative: float
    equal: int
    size: int


@dataclass(frozen=True)
class Comparison:
    """The models' tensors, the largest difference first, their logits, and what else is not the same in them."""

    models: tuple[str, str]
    tensors: tuple[TensorDifference, ...]
    logits: proof.Agreement
    perplexities: tuple[float, float]
    bound: float
    other: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the logits lie within the bound."""
        return self.logits.max_logit_difference <= self.bound

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "same": self.same}


def verify(first: str, second: str, *, bound: float = BOUND, data: Path | None = None) -> Comparison:
    """Compares two MODELs in float32, on conversations of `data` or short exchanges of the package's own, which the
    first one's tokenizer reads.

    Raises:
        InputError: one of them cannot be opened, or they have not the same tensors.
    """
    ours, theirs = (_open(name) for name in (first, second))
    theirs_by_name = _flat(theirs.params)
    tensors = []
    for name, leaf in _flat(ours.params).items():
        if name not in theirs_by_name:
            raise InputError(f"{second} has no {name}, which {first} has; they are not of one shape")
        if leaf.shape != theirs_by_name[name].shape:
            shapes = f"{leaf.shape} in {first} and {theirs_by_name[name].shape} in {second}"
            raise InputError(f"{name} has the shape {shapes}; they are not of one shape")
        tensors.append(_difference(name, leaf, theirs_by_name.pop(name)))
    if theirs_by_name:
        raise InputError(f"{first} has no {next(iter(theirs_by_name))}, which {second} has; they are not of one shape")
    rows = compared_rows(ours, data)
    found = []
    for opened in (ours, theirs):
        with jax.set_mesh(opened.mesh):
            found.append(proof.logits(opened.model, opened.params, rows, f"computing logits of {opened.place.short}"))
    return Comparison(
        (first, second),
        tuple(sorted(tensors, key=lambda each: -math.inf if math.isnan(each.relative) else -each.relative)),
        proof.compare(*found),
        (proof.perplexity(found[0], rows), proof.perplexity(found[1], rows)),
        bound,
        tuple(_other(ours, theirs)),
    )


def table(comparison: Comparison, most: int = 30) -> list[str]:
    """For people: the tensors that differ, then logits, perplexity, and what else is not the same."""
    moved = [each for each in comparison.tensors if each.equal < each.size]
    width = max([len(each.name) for each in moved[:most]] + [6])
    lines = (
        [f"{'tensor':{width}}  {'largest difference':>18}  {'relative':>9}  {'equal bit for bit':>17}"] if moved else []
    )
    lines += [
        f"{each.name:{width}}  {each.max_difference:18.3g}  {each.relative:9.2g}  {each.equal / each.size:17.1%}"
        for each in moved[:most]
    ]
    if len(moved) > most:
        lines.append(f"and {len(moved) - most} tensors that differ by less")
    equal = len(comparison.tensors) - len(moved)
    lines.append(f"{equal} of {len(comparison.tensors)} tensors are equal bit for bit")
    logits, (before, after) = comparison.logits, comparison.perplexities
    lines.append(
        f"logits: largest difference {logits.max_logit_difference:.3g} over {logits.tokens_compared:,} tokens, the "
        f"same likeliest token at {logits.same_likeliest_token:,}"
    )
    lines.append(f"perplexity: {before:.4f} and {after:.4f}, {(after / before - 1):+.3%}")
    return [*lines, *comparison.other]


def _open(name: str) -> Opened:
    return open_model(name, model=lambda config: Model(config, dtype="float32"), label=f"reading {name}")


def _flat(params: Any) -> dict[str, jax.Array]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _difference(name: str, ours: jax.Array, theirs: jax.Array) -> TensorDifference:
    apart, largest, equal = (float(value) for value in _measure(ours, theirs))
    return TensorDifference(
        name, apart, apart / largest if largest else math.inf if apart else 0.0, int(equal), ours.size
    )


@jax.jit
def _measure(ours: jax.Array, theirs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    # Counted a row at a time: a float32 holds no count of millions exactly.
    same = jnp.sum(ours == theirs, axis=-1, dtype=jnp.int32)
    return jnp.max(jnp.abs(ours - theirs)), jnp.max(jnp.abs(ours)), jnp.sum(same)


def _other(ours: Opened, theirs: Opened) -> list[str]:
    found = []
    for field in dataclasses.fields(ours.config):
        values = [getattr(opened.config, field.name) for opened in (ours, theirs)]
        if values[0] != values[1]:
            found.append(f"{field.name}: {values[0]} and {values[1]}")
    templates = [None if opened.format is None else opened.format.template for opened in (ours, theirs)]
    if templates[0] != templates[1]:
        found.append("the chat templates are not the same")
    if not reads_alike(ours.tokenizer, theirs.tokenizer):
        found.append("the tokenizers read text differently")
    return found
