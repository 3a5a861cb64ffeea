"""What can be wrong between two parts of a run that are each right alone: one sentence each, saying what to set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from jaxchat.errors import InputError
from jaxchat.models.config import DecoderConfig, Mixture
from jaxchat.sharding import MeshAxes, Rules


def check_length(steps: int | None, epochs: float | None) -> None:
    """A run's length is given once, in steps or in epochs."""
    if steps is None and epochs is None:
        raise InputError("the run has no length; set --steps or --epochs")
    if steps is not None and epochs is not None:
        raise InputError(f"the length is given twice, as {steps} steps and as {epochs:g} epochs; set one to None")
    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps}; set --steps to 1 or more")
    if epochs is not None and not (0 < epochs < math.inf):
        raise InputError(f"epochs is {epochs:g}; set --epochs above 0")


def check_batch(batch: int, seq_len: int, accumulate: int, sizes: Mapping[str, int], rules: Rules) -> None:
    """A batch divides over the mesh axes that split rows, and into micro-batches; a row over those that split it."""
    if accumulate < 1:
        raise InputError(f"accumulate is {accumulate}; set --accumulate to 1 or more")
    axes = dict(rules.activations)
    over, parts = _product(axes["batch"], sizes)
    least = parts * accumulate
    if batch % least:
        fitting = math.ceil(batch / least) * least
        cut = f" in accumulate={accumulate} parts" if accumulate > 1 else ""
        where = f" over {over}" if parts > 1 else ""
        raise InputError(f"batch {batch} does not divide{where}{cut}; set --data.batch {fitting}")
    over, parts = _product(axes["sequence"], sizes)
    if seq_len % parts:
        fitting = math.ceil(seq_len / parts) * parts
        raise InputError(f"rows of {seq_len} tokens do not divide over {over}; set --data.seq-len {fitting}")


def check_model(model: DecoderConfig, sizes: Mapping[str, int], rules: Rules) -> None:
    """Every axis of the weights divides over the mesh axes that split it."""
    lengths = {
        "layers": ("layers", model.layers),
        "vocab": ("vocab_size", model.vocab_size),
        "embed": ("width", model.width),
        "heads": ("heads", model.heads),
        "kv_heads": ("kv_heads", model.kv_heads),
        "head": ("head_size", model.head_size),
        "hidden": ("hidden", model.hidden),
        "experts": ("experts", model.mlp.experts if isinstance(model.mlp, Mixture) else 0),
    }
    for axis, mesh_axes in rules.weights:
        over, parts = _product(mesh_axes, sizes)
        name, length = lengths.get(axis, (axis, 0))
        if length % parts:
            fitting = math.gcd(length, parts)
            hint = f"set --mesh.{_names(mesh_axes)[0]} to {fitting}" if len(_names(mesh_axes)) == 1 else "change either"
            raise InputError(f"the model's {name} {length} does not divide over {over}; {hint}")


def check_vocabulary(tokenizer_size: int, model: DecoderConfig, *, from_scratch: bool) -> None:
    """Every token of the tokenizer has a row in the model's embedding."""
    if tokenizer_size > model.vocab_size:
        hint = f"set --model.vocab-size {tokenizer_size}" if from_scratch else "train with the model's own tokenizer"
        raise InputError(
            f"the tokenizer's vocabulary of {tokenizer_size} exceeds the model's of {model.vocab_size}; {hint}"
        )


def check_seq_len(seq_len: int, model: DecoderConfig) -> None:
    """Rows are no longer than the model was made for."""
    if seq_len > model.context_length:
        raise InputError(
            f"rows of {seq_len} tokens are longer than the model's context of {model.context_length}; "
            f"set --data.seq-len {model.context_length}"
        )


def _names(mesh_axes: MeshAxes) -> tuple[str, ...]:
    return (mesh_axes,) if isinstance(mesh_axes, str) else tuple(mesh_axes or ())


def _product(mesh_axes: MeshAxes, sizes: Mapping[str, int]) -> tuple[str, int]:
    """`data=4 x fsdp=2` (axes of more than one device) and 8."""
    split: Iterable[str] = [name for name in _names(mesh_axes) if sizes[name] > 1]
    return " x ".join(f"{name}={sizes[name]}" for name in split), math.prod(sizes[name] for name in split)
