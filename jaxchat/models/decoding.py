"""Parameters laid out for decoding, once, and the handle that computes with them.

On one CPU device, where a token costs what reading the weights costs: every layer's arrays lie apart, since a scan over
stacked layers copies each layer's weights out before it reads them; every weight has its outputs in front, as
`streaming` reads it; weights of one input are one weight, since small ones are left to one core; all lie in one stretch
of memory, which Linux then keeps in huge pages, for a tenth more speed. Elsewhere the training layout stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import getitem
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxchat.models.decoder import Model, Params
from jaxchat.models.layers import outputs_first
from jaxchat.sharding import Rules

WHOLE = Rules(*(tuple((axis, None) for axis, _ in table) for table in (Rules().weights, Rules().activations)))
LINE = 16  # floats of a cache line: arrays that begin on one are used where they lie, uncopied


def for_decoding(model: Model, params: Params) -> tuple[Model, Params]:
    """A model and its parameters as generation wants them: the same function, to rounding.

    In float32 on a single CPU device the parameters are copied into the layout "decoding"; otherwise both come back as
    they are. To be called under `jax.set_mesh`.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.size > 1 or mesh.devices.flat[0].platform != "cpu" or model.dtype != "float32":
        return model, params
    model = replace(model, layout="decoding", rules=WHOLE)
    variables = model.variables()
    sizes = [-(-math.prod(variable.shape) // LINE) * LINE for variable in variables.values()]
    stretch = np.empty(sum(sizes) + LINE, np.float32)
    at = -(stretch.ctypes.data // 4) % LINE
    flat = {}
    for (path, variable), size in zip(variables.items(), sizes, strict=True):
        place = stretch[at : at + math.prod(variable.shape)].reshape(variable.shape)
        _fill(place, params, path, variable.get_metadata())
        flat[path] = jax.device_put(place, jax.P())
        at += size
    return model, nnx.traversals.unflatten_mapping(flat)


def _fill(place: np.ndarray, params: Params, path: tuple[Any, ...], noted: Mapping[str, Any]) -> None:
    """Writes the weight, or those that were joined to it, with their outputs in front."""
    at = 0
    for name in noted.get("parts", path[-1:]):
        weight = _find(params, (*path[:-1], name))
        if "inputs" in noted:
            weight = outputs_first(weight, noted["inputs"])
        place[at : at + len(weight)] = weight
        at += len(weight)


def _find(params: Params, path: Sequence[Any]) -> np.ndarray:
    """The weight at a path of the layout "decoding", in which a layer's number follows `layers`."""
    if path[0] == "layers":
        _, layer, *rest = path
        return np.asarray(reduce(getitem, rest, params["layers"]))[layer]
    return np.asarray(reduce(getitem, path, params))
