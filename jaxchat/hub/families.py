"""What a family of models is to the hub, and which there are: one file a family, added to FAMILIES below.

A family says how its config.json describes our DecoderConfig, what the other keys must be for our decoder to be that
model, and how its tensors lie in ours; all of it is used in both directions.
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from jaxchat.errors import InputError
from jaxchat.hub.layout import Sizes, Tensor
from jaxchat.models.config import DecoderConfig, Mixture

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
class Keys:
    """A file's metadata while it is read. shape: the fields of DecoderConfig that are known already."""

    json: Json
    where: str
    shape: Mapping[str, Any]

    def number(self, key: str, default: float | None = None) -> float:
        """What a key says; without a default a missing key is refused."""
        return self._get(key, default, "float")

    def whole(self, key: str, default: int | None = None) -> int:
        """The same, of whole numbers."""
        return self._get(key, default, "int")

    def flag(self, key: str, default: bool = False) -> bool:
        """The same, of true and false."""
        return self._get(key, default, "bool")

    def refused(self, key: str, hint: str) -> InputError:
        """The error to raise for what a key asks for."""
        value = _short(self.json.get(key))
        return InputError(f"{self.where}: {key} is {value}, which jaxchat's decoder does not compute; {hint}")

    def of(self, key: str, inner: Json) -> Keys:
        """The keys of an object that stands under `key`."""
        return Keys(inner, f"{self.where}: {key}", self.shape)

    def _get(self, key: str, default: Any, kind: str) -> Any:
        value = self.json.get(key)
        value = default if value is None else value
        if value is None:
            raise InputError(f"{self.where}: {key} is missing; the file is not a whole model's")
        return _typed(value, kind, f"{self.where}: {key}")


@dataclass(frozen=True)
class Format:
    """How a family is written in one kind of file: the keys of its metadata and the names of its tensors.

    family: its name, which the config remembers. fields: the plain ones. parts: the config's other fields, from the
    keys. keys: the other way, beside `fields`; it raises InputError for what it has no words for. fixed: keys that must
    have one of these values where they are there, since our decoder computes nothing else. tensors: the file's, for a
    config. ignored: patterns of names that a file may hold and no model needs. copies: names that a file may hold
    beside the model's, and the tensor that each must be equal to. implied: tensors that say what the config says; they
    are written, and not read. optional: what some files leave out at the beginning of every name. others: the tensors
    of files that hold the same under other names; they are read, and not written.
    """

    family: str
    fields: tuple[Field, ...]
    parts: Callable[[Keys], dict[str, Any]]
    keys: Callable[[DecoderConfig], dict[str, Any]]
    fixed: Mapping[str, tuple[Any, ...]]
    tensors: Callable[[DecoderConfig], tuple[Tensor, ...]]
    ignored: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    implied: Callable[[DecoderConfig], Mapping[str, np.ndarray]] = lambda config: {}
    optional: str = ""
    others: tuple[Callable[[DecoderConfig], tuple[Tensor, ...]], ...] = ()

    def read(self, metadata: Json, where: str) -> DecoderConfig:
        """The config that `metadata` describes.

        Raises:
            InputError: a key is missing or no number, or asks for what our decoder does not compute.
        """
        for key, allowed in self.fixed.items():
            if key in metadata and metadata[key] not in allowed:
                raise InputError(
                    f"{where}: {key} is {_short(metadata[key])}, which jaxchat's decoder does not compute yet; "
                    f"it reads models with {key} {' or '.join(_short(value) for value in allowed)}"
                )
        values: dict[str, Any] = {}
        for entry in self.fields:
            value = metadata.get(entry.theirs)
            if value is None and entry.default is not None:
                value = entry.default(metadata)
            if value is None:
                raise InputError(f"{where}: {entry.theirs} is missing; the file is not a whole model's")
            values[entry.ours] = _typed(value, _TYPES[entry.ours], f"{where}: {entry.theirs}")
        return DecoderConfig(**values, **self.parts(Keys(metadata, where, values)), family=self.family)

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        """The keys that describe `config`: read back, they give it again.

        Raises:
            InputError: the family's models, in this kind of file, are not like that.
        """
        keys = self.keys(config) | {entry.theirs: getattr(config, entry.ours) for entry in self.fields}
        if self.read(keys, self.family) != config:
            raise InputError(f"the family {self.family} does not describe {config} in this kind of file")
        return keys

    def named(self, found: Iterable[str]) -> str:
        """What to put before the names in a file with the tensors `found`, so that they are those of `tensors`."""
        return "" if any(name.startswith(self.optional) for name in found) else self.optional

    def ignores(self, name: str) -> bool:
        """Whether a tensor of this name is none that a model is made of."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.ignored)


@dataclass(frozen=True)
class Family:
    """A family of models.

    model_types, architectures: what a config.json and a GGUF file call it, the one that we write first. classes: of
    transformers, that compute it.
    """

    name: str
    model_types: tuple[str, ...]
    classes: tuple[str, ...]
    huggingface: Format
    architectures: tuple[str, ...] = ()
    gguf: Format | None = None

    def write_config(self, config: DecoderConfig) -> dict[str, Any]:
        """A config.json that transformers and `huggingface.read` read; without the ids of special tokens."""
        named = {"architectures": list(self.classes), "model_type": self.model_types[0]}
        return named | self.huggingface.write(config)

    def fits(self, config: DecoderConfig) -> bool:
        """Whether a config.json of the family can describe this config."""
        try:
            self.huggingface.write(config)
        except InputError:
            return False
        return True


# Looked up in this order; a family's file defines FAMILY.
FAMILIES = (
    *("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "smollm3", "gemma2", "gemma3", "phi3", "gpt2"),
)


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
    """The family to write `config` as: the one that it came from, or else the first whose models include it."""
    for family in sorted(families(), key=lambda family: family.name != config.family):
        if family.fits(config):
            return family
    raise InputError(f"no family that Hugging Face knows computes {config}; it cannot be exported")


def sizes(config: DecoderConfig) -> Sizes:
    """The length of every axis that layouts name.

    L layers, D width, N heads, K key-value heads, H head size = C 2 halves x J, E experts, F hidden, V vocabulary,
    P positions.
    """
    return {
        "L": config.layers,
        "D": config.width,
        "N": config.heads,
        "K": config.kv_heads,
        "H": config.head_size,
        "C": 2,
        "J": config.head_size // 2,
        "E": config.mlp.experts if isinstance(config.mlp, Mixture) else 0,
        "F": config.hidden,
        "V": config.vocab_size,
        "P": config.context_length,
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
