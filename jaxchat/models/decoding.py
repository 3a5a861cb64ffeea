"""Parameters laid out for decoding, once, and the handle that computes with them.

On one CPU device, where a token costs what reading the weights costs: every layer's arrays lie apart, since a scan over
stacked layers copies each layer's weights out before it reads them; every weight has its outputs in front, as
`streaming` reads it, or its inputs, as `invariant` does; weights of one input are one weight, since small ones are left
to one core; all lie in one stretch of memory, which Linux then keeps in huge pages, for a tenth more speed. Elsewhere
the training layout stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import getitem
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from jaxchat.models.attention import Dot
from jaxchat.models.decoder import Model, Params
from jaxchat.models.int8 import Int8, Int8Blocks, in_blocks, quantise
from jaxchat.models.layers import outputs_first
from jaxchat.models.streaming import blocks_of_int8
from jaxchat.sharding import Rules

WHOLE = Rules(*(tuple((axis, None) for axis, _ in table) for table in (Rules().weights, Rules().activations)))
Weights = Literal["whole", "int8"]
LINE = 16  # floats of a cache line: arrays that begin on one are used where they lie, uncopied


def for_decoding(
    model: Model, params: Params, weights: Weights = "whole", *, invariant: bool = False
) -> tuple[Model, Params]:
    """A model and its parameters as generation wants them: the same function, to rounding.

    weights: how those of matrix products are kept: "whole", in the dtype that the model computes in, or "int8". In
    float32 on a single CPU device the parameters are copied into the layout "decoding", or with `invariant` into
    "invariant", with which a row's numbers do not depend on what else is computed beside it (see models/invariant.py);
    of models with experts or normed heads but for rounding. To be called under `jax.set_mesh`.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.size > 1 or mesh.devices.flat[0].platform != "cpu" or model.dtype != "float32":
        return model, _stored(model, params, weights)
    if invariant:
        model = replace(model, layout="invariant", rules=WHOLE, attention=Dot(invariant=True))
    else:
        model = replace(model, layout="decoding", rules=WHOLE)
    variables = model.variables()
    sizes = [-(-math.prod(variable.shape) // LINE) * LINE for variable in variables.values()]
    stretch = np.empty(sum(sizes) + LINE, np.float32)
    at = -(stretch.ctypes.data // 4) % LINE
    flat = {}
    for (path, variable), size in zip(variables.items(), sizes, strict=True):
        place = stretch[at : at + math.prod(variable.shape)].reshape(variable.shape)
        _fill(model, place, params, path, variable.get_metadata())
        inputs = _inputs(model, path, variable)
        if weights == "int8" and inputs:
            eight = jax.jit(partial(_eight_bits, model), static_argnums=1)(jax.device_put(place, jax.P()), inputs)
            flat[path] = jax.block_until_ready(eight)  # the place is the next weight's
        else:
            flat[path] = jax.device_put(place, jax.P())
            at += size
    return model, nnx.traversals.unflatten_mapping(flat)


def _eight_bits(model: Model, weight: jax.Array, inputs: tuple[int, ...]) -> Int8 | Int8Blocks:
    eight = quantise(weight, inputs)
    if model.layout != "invariant":
        return eight
    size = math.prod(weight.shape[axis] for axis in inputs)
    return in_blocks(eight, len(inputs), blocks_of_int8(size, weight.size // size))


def _stored(model: Model, params: Params, weights: Weights) -> Params:
    """The same parameters, with those of matrix products kept as `weights` says, where they lie."""
    if weights == "whole" and model.dtype == "float32":
        return params
    flat: dict[tuple[Any, ...], Any] = {}
    for path, variable in model.variables().items():
        weight: Any
        weight, inputs = reduce(getitem, path, params), _inputs(model, path, variable)
        if inputs and weights == "int8":
            weight = jax.jit(quantise, static_argnums=1)(weight, inputs)
        elif inputs:
            weight = weight.astype(model.dtype)
        flat[path] = weight
    return nnx.traversals.unflatten_mapping(flat)


def _inputs(model: Model, path: tuple[Any, ...], variable: nnx.Param[Any]) -> tuple[int, ...]:
    """The axes that a product with this parameter sums over; none where it is in no product."""
    if path == ("embed", "table"):
        return (0,) if model.layout == "invariant" else (1,)
    count = variable.get_metadata().get("inputs", 0)
    if model.layout == "invariant":
        return tuple(range(count))
    if model.layout == "decoding":
        return tuple(range(len(variable.shape) - count, len(variable.shape)))
    stacked = int(path[0] == "layers")
    return tuple(range(stacked, stacked + count))


def _fill(model: Model, place: np.ndarray, params: Params, path: tuple[Any, ...], noted: Mapping[str, Any]) -> None:
    """Writes the weight, or those that were joined to it, as the model's layout has them."""
    at, axis = 0, noted.get("joined", 0)
    for name in noted.get("parts", path[-1:]):
        weight = _find(params, (*path[:-1], name))
        if model.layout == "decoding" and "inputs" in noted:
            weight = outputs_first(weight, noted["inputs"])
        if model.layout == "invariant" and path == ("embed", "table"):
            weight = weight.T
        end = at + weight.shape[axis]
        place[(slice(None),) * axis + (slice(at, end),)] = weight
        at = end


def _find(params: Params, path: Sequence[Any]) -> np.ndarray:
    """The weight at a path of a layout in which a layer's number follows `layers`."""
    if path[0] == "layers":
        _, layer, *rest = path
        return np.asarray(reduce(getitem, rest, params["layers"]))[layer]
    return np.asarray(reduce(getitem, path, params))
