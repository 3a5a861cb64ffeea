"""What a family of models is to the hub, and which there are: one file a family, added to FAMILIES below.

A family says three things, each once, and each is read in both directions: which keys of a config.json are fields of
our DecoderConfig, what the other keys must be for our decoder to be that model, and how its tensors lie in ours.
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from jaxchat.errors import InputError
from jaxchat.hub.layout import Sizes, Tensor
from jaxchat.models.config import DecoderConfig

Json = Mapping[str, Any]

_TYPES = {entry.name: str(entry.type) for entry in fields(DecoderConfig)}


@dataclass(frozen=True)
class Field:
    """One field of DecoderConfig (`ours`) and the key that holds it. `default`: what a missing key means, from the
    other keys; without one a missing key is refused."""

    ours: str
    theirs: str
    default: Callable[[Json], Any] | None = None


@dataclass(frozen=True)
class Format:
    """How a family is written in one kind of file: the keys of its metadata and the names of its tensors.

    fixed: keys that must have one of these values where they are there, since our decoder computes nothing else.
    tensors: the file's tensors for a config. before: what other versions wrote, turned into the keys used here.
    ignored: patterns of names that a file may hold and no model needs. copies: names that a file may hold beside the
    model's, and the tensor that each must be equal to.
    """

    fields: tuple[Field, ...]
    fixed: Mapping[str, tuple[Any, ...]]
    tensors: Callable[[DecoderConfig], tuple[Tensor, ...]]
    before: Callable[[Json, str], Json] = lambda metadata, where: metadata
    ignored: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)

    def read(self, metadata: Json, where: str) -> DecoderConfig:
        """The config that `metadata` describes.

        Raises:
            InputError: a key is missing or no number, or asks for what our decoder does not compute.
        """
        metadata = self.before(metadata, where)
        for key, allowed in self.fixed.items():
            if key in metadata and metadata[key] not in allowed:
                raise InputError(
                    f"{where}: {key} is {_short(metadata[key])}, which jaxchat's decoder does not compute yet; "
                    f"it reads models with {key} {' or '.join(_short(value) for value in allowed)}"
                )
        values = {}
        for entry in self.fields:
            value = metadata.get(entry.theirs)
            if value is None and entry.default is not None:
                value = entry.default(metadata)
            if value is None:
                raise InputError(f"{where}: {entry.theirs} is missing; the file is not a whole model's")
            values[entry.ours] = _typed(value, _TYPES[entry.ours], f"{where}: {entry.theirs}")
        return DecoderConfig(**values)

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        """The keys of `fields` that describe `config`: read back, they give it again."""
        return {entry.theirs: getattr(config, entry.ours) for entry in self.fields}

    def ignores(self, name: str) -> bool:
        """Whether a tensor of this name is none that a model is made of."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.ignored)


@dataclass(frozen=True)
class Family:
    """A family of models.

    model_types, architectures: what a config.json and a GGUF file call it. constants: the keys beside its fields that
    a config.json of ours has. fits: whether the family's models include this config.
    """

    name: str
    model_types: tuple[str, ...]
    huggingface: Format
    constants: Callable[[DecoderConfig], dict[str, Any]]
    fits: Callable[[DecoderConfig], bool]
    architectures: tuple[str, ...] = ()
    gguf: Format | None = None

    def write_config(self, config: DecoderConfig) -> dict[str, Any]:
        """A config.json that transformers and `huggingface.read` read; without the ids of special tokens."""
        return self.constants(config) | self.huggingface.write(config)


# Looked up in this order; a family's file defines FAMILY.
FAMILIES = ("llama",)


def families() -> list[Family]:
    """All families."""
    return [importlib.import_module(f"jaxchat.hub.{name}").FAMILY for name in FAMILIES]


def by_model_type(config_json: Json, where: str) -> Family:
    """The family that a config.json names."""
    name = config_json.get("model_type")
    known = {kind: family for family in families() for kind in family.model_types}
    if name not in known:
        raise InputError(
            f"{where}: model_type is {_short(name)}; jaxchat reads models of the types {', '.join(sorted(known))}"
        )
    return known[name]


def by_architecture(name: Any, where: str) -> Format:
    """How the family that a GGUF file names is written there."""
    known = {kind: family.gguf for family in families() if family.gguf for kind in family.architectures}
    if name not in known:
        raise InputError(
            f"{where}: general.architecture is {_short(name)}; jaxchat reads {', '.join(sorted(known))} from GGUF"
        )
    return known[name]


def by_config(config: DecoderConfig) -> Family:
    """The family to write `config` as."""
    for family in families():
        if family.fits(config):
            return family
    raise InputError(f"no family that Hugging Face knows computes {config}; it cannot be exported")


def sizes(config: DecoderConfig) -> Sizes:
    """The length of every axis that layouts name.

    L layers, D width, N heads, K key-value heads, H head size = C 2 halves x J, F hidden, V vocabulary.
    """
    return {
        "L": config.layers,
        "D": config.width,
        "N": config.heads,
        "K": config.kv_heads,
        "H": config.head_size,
        "C": 2,
        "J": config.head_size // 2,
        "F": config.hidden,
        "V": config.vocab_size,
    }


def decimal(value: Any) -> float:
    """The number somebody wrote, from its rounding to float32: 9.999999747378752e-06 -> 1e-05."""
    return float(str(np.float32(value)))


def _typed(value: Any, kind: str, what: str) -> Any:
    fits = isinstance(value, bool) if kind == "bool" else isinstance(value, int) and not isinstance(value, bool)
    if not (fits or (kind == "float" and isinstance(value, float))):
        raise InputError(f"{what} is {_short(value)}, not {'true or false' if kind == 'bool' else 'one number'}")
    return float(value) if kind == "float" else value


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else "null" if value is None else str(value)
    return text if len(text) < 80 else text[:77] + "..."
