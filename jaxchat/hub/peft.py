"""Adapters in the format of Hugging Face's PEFT: adapter_config.json and adapter_model.safetensors.

PEFT adapts a module of a Hugging Face model: A (rank, in), B (out, rank) and, for DoRA, a magnitude for every output.
Where a module holds several of our projections (a fused q, k and v), their adapters become one of their ranks' sum, B
block by block; an adapter of somebody's own over such a module is for us one for each projection, with the same A.

r rank, i inputs, o outputs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxchat.errors import InputError
from jaxchat.files import replacing
from jaxchat.hub import safetensors
from jaxchat.hub.families import Format, by_config, sizes
from jaxchat.hub.safetensors import Safetensors
from jaxchat.models import lora
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model, Params
from jaxchat.models.lora import DoRA, LoRA

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
# What an adapter_config.json may ask for beside LoRA and DoRA, and what each means where it asks for nothing.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "lora_bias": (False,),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, []),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None,),
    "use_qalora": (False,),
    "use_bdlora": (None, False),
    "kasa_config": (None,),
    "arrow_config": (None,),
    "monteclora_config": (None,),
    "velora_config": (None,),
}


@dataclass(frozen=True)
class _Slot:
    """One of our projections in a layer's module: its path, its layer, how many outputs it has and which of the
    module's they are. turned: the module's weight has its inputs in front."""

    path: str
    layer: int
    into: tuple[int, ...]
    out: tuple[int, ...]
    first: int
    turned: bool

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + math.prod(self.out))


def _modules(model: Model, form: Format) -> Iterator[tuple[str, list[_Slot]]]:
    """The modules of a Hugging Face model that are products of the blocks, and what of ours is in each."""
    shapes = {".".join(path): weight for path, weight in lora.projections(model).items()}
    length = sizes(model.config)
    for tensor in form.tensors(model.config):
        if tensor.parts[0].path not in shapes:
            continue
        for name, at in tensor.instances(length):
            slots: list[_Slot] = []
            for part in tensor.parts:
                _, *shape = shapes[part.path].shape
                inputs = shapes[part.path].get_metadata()["inputs"]
                into, out = tuple(shape[:inputs]), tuple(shape[inputs:])
                turned = part.theirs.replace("(", "").split()[0] == part.ours.split()[1]
                slots.append(_Slot(part.path, at["L"], into, out, slots[-1].rows.stop if slots else 0, turned))
            yield name.removesuffix(".weight"), slots


def write(folder: Path, model: Model, adapter: Params, config: LoRA, merged: Params, source: str) -> None:
    """Writes the adapter of a model, whose `merged` weights say how long the columns are that it leaves alone;
    `source`: what its base is opened by."""
    form = by_config(model.config).huggingface
    flat = {".".join(path): np.asarray(leaf) for path, leaf in nnx.traversals.flatten_mapping(adapter).items()}
    tensors: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    turned = False
    for module, slots in _modules(model, form):
        adapted = [slot for slot in slots if f"{slot.path}.a" in flat]
        if not adapted:
            continue
        rank = config.rank * len(adapted)
        b_or = np.zeros((slots[-1].rows.stop, rank), np.float32)
        for i, slot in enumerate(adapted):
            columns = slice(i * config.rank, (i + 1) * config.rank)
            b_or[slot.rows, columns] = flat[f"{slot.path}.b"][slot.layer].reshape(config.rank, -1).T
        a = [flat[f"{slot.path}.a"][slot.layer].reshape(-1, config.rank).T for slot in adapted]
        tensors[f"{_PREFIX}{module}{_A}"] = np.concatenate(a)
        tensors[f"{_PREFIX}{module}{_B}"] = b_or
        if isinstance(config, DoRA):
            tensors[f"{_PREFIX}{module}{_MAGNITUDE}"] = np.concatenate(
                [_magnitude(slot, flat, merged) for slot in slots]
            )
        ranks[".".join(module.split(".")[-2:])] = rank
        turned = slots[0].turned
    fused = {name: rank for name, rank in ranks.items() if rank != config.rank}
    scaled = {
        name: config.scale * (math.sqrt(rank) if config.rank_stabilised else rank) for name, rank in fused.items()
    }
    said = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": source,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "use_rslora": config.rank_stabilised,
        "use_dora": isinstance(config, DoRA),
        "target_modules": sorted(ranks),
        "rank_pattern": fused,
        "alpha_pattern": scaled,
        "fan_in_fan_out": turned,
        "bias": "none",
    }
    with replacing(folder / CONFIG) as file:
        json.dump(said, file, indent=2)
        file.write("\n")
    makers = [(name, array.shape, array.copy) for name, array in tensors.items()]
    safetensors.write(folder, makers, np.dtype(np.float32), shard_bytes=2**62, single=WEIGHTS)


def _magnitude(slot: _Slot, flat: Mapping[str, np.ndarray], merged: Params) -> np.ndarray:
    found = flat.get(f"{slot.path}.magnitude")
    if found is not None:
        return found[slot.layer].reshape(-1)
    weight = np.asarray(lora.at(merged, tuple(slot.path.split(".")))[slot.layer]).reshape(math.prod(slot.into), -1)
    return np.linalg.norm(weight, axis=0)


@dataclass(frozen=True)
class _Said:
    """What an adapter_config.json says, checked."""

    rank: int
    alpha: float
    rank_stabilised: bool
    dora: bool
    alphas: Mapping[str, float]

    def scale(self, module: str, rank: int) -> float:
        """What the product of a module's A and B, of this rank, is multiplied by."""
        alpha = next((value for key, value in self.alphas.items() if re.match(rf"(.*\.)?({key})$", module)), self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def base_of(folder: Path, said: Mapping[str, Any]) -> str:
    """What an adapter's base is opened by."""
    name = said.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise InputError(
            f"{folder / CONFIG}: base_model_name_or_path is {name!r}; name the model below the adapter there"
        )
    return name


def merge(folder: Path, said: Mapping[str, Any], config: DecoderConfig, params: Params) -> Params:
    """`params`, the base's weights on the mesh that is set, with the adapter of `folder` merged in; they are used up.

    Raises:
        InputError: the adapter is none of LoRA or DoRA, or does not fit the base.
    """
    where, kind = folder / CONFIG, _read_config(folder, said)
    model = Model(config)
    source = Safetensors(folder, WEIGHTS)
    left = {name.removeprefix(_PREFIX): shape for name, shape in source.shapes().items()}

    def read(name: str) -> np.ndarray:
        shape = left.pop(name)
        return source.read(_PREFIX + name, tuple(slice(0, n) for n in shape)).astype(np.float32)

    found: dict[str, list[tuple[_Slot, dict[str, np.ndarray]]]] = {}
    for module, slots in _modules(model, by_config(config).huggingface):
        if module + _A not in left:
            continue
        if module + _B not in left or (kind.dora and module + _MAGNITUDE not in left):
            raise InputError(f"{folder}: the adapter of {module} is not whole; fetch it again")
        a_ri, b_or = read(module + _A), read(module + _B)
        rank, outputs = len(a_ri), slots[-1].rows.stop
        if (a_ri.shape[1], b_or.shape) != (math.prod(slots[0].into), (outputs, rank)):
            raise InputError(
                f"{folder}: the adapter of {module} has the shapes {a_ri.shape} and {b_or.shape}; the base's module "
                f"reads {math.prod(slots[0].into)} numbers and makes {outputs}"
            )
        b_or *= kind.scale(module, rank)
        magnitude_o = read(module + _MAGNITUDE) if kind.dora else None
        for slot in slots:
            pair = {"a": a_ri.T.reshape(*slot.into, rank), "b": b_or[slot.rows].T.reshape(rank, *slot.out)}
            if magnitude_o is not None:
                pair["magnitude"] = magnitude_o.reshape(-1)[slot.rows].reshape(slot.out)
            found.setdefault(slot.path, []).append((slot, pair))
    if left:
        raise InputError(
            f"{folder}: {next(iter(left))} is none of the adapters that jaxchat reads, those of the blocks' projections"
        )
    if not found:
        raise InputError(f"{where}: there is no adapter of the base's projections beside it")
    for path, pairs in found.items():
        *inner, last = path.split(".")
        holder = lora.at(params, tuple(inner))
        holder[last] = _merge_one(holder[last], pairs, model, tuple(path.split(".")))
    return params


def _merge_one(
    weight: jax.Array, pairs: list[tuple[_Slot, dict[str, np.ndarray]]], model: Model, path: tuple[str, ...]
) -> jax.Array:
    """One projection's weights of all layers, stacked, with the adapters of those that have one."""
    layers, (slot, first) = len(weight), pairs[0]
    rank = max(len(pair["b"]) for _, pair in pairs)
    a = np.zeros((layers, *slot.into, rank), np.float32)
    b = np.zeros((layers, rank, *slot.out), np.float32)
    magnitude = None
    if "magnitude" in first:
        magnitude = np.array(jax.jit(lora.lengths, static_argnums=1)(weight, len(slot.into)))
    for slot, pair in pairs:
        a[slot.layer, ..., : len(pair["b"])] = pair["a"]
        b[slot.layer, : len(pair["b"])] = pair["b"]
        if magnitude is not None:
            magnitude[slot.layer] = pair["magnitude"]
    axes, inputs = lora.projections(model)[path].get_metadata()["axes"], len(slot.into)
    spec = model.rules.weight
    return lora.merged(
        lora.Adapted(
            weight,
            jax.device_put(a, spec("layers", *axes[:inputs], "rank")),
            jax.device_put(b, spec("layers", "rank", *axes[inputs:])),
            None if magnitude is None else jax.device_put(magnitude, spec("layers", *axes[inputs:])),
            1.0,
        ),
        keep=False,
    )


def _read_config(folder: Path, said: Mapping[str, Any]) -> _Said:
    where = folder / CONFIG
    for key, allowed in _PLAIN.items():
        if key in said and said[key] not in allowed:
            raise InputError(
                f"{where}: {key} is {said[key]!r}, which jaxchat does not compute; it reads plain LoRA and DoRA"
            )
    try:
        return _Said(
            int(said["r"]),
            float(said["lora_alpha"]),
            bool(said.get("use_rslora")),
            bool(said.get("use_dora")),
            {key: float(value) for key, value in (said.get("alpha_pattern") or {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where} is not a whole adapter's config ({type(error).__name__}: {error})") from None
