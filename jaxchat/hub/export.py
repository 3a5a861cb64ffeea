"""Writes a model as a Hugging Face folder or GGUF file, reads it back, and lets it out only if it computes the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jaxchat.chat.conversation import read_conversations
from jaxchat.chat.gguf_vocabulary import reads_alike, vocabulary_metadata
from jaxchat.chat.modelfile import modelfile
from jaxchat.errors import InputError
from jaxchat.files import check_new_file, check_new_folder, check_room, new_file, new_folder, replacing
from jaxchat.hub import gguf_writing, model_card, proof, safetensors, weights
from jaxchat.hub.families import Family, Format, by_config
from jaxchat.hub.generation import generation_config, gguf_sampling, token_ids
from jaxchat.hub.open import Opened, open_model
from jaxchat.hub.safetensors import Safetensors
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model
from jaxchat.progress import Bar

# The largest difference of logits that is still the same model, computed in float32.
BOUND = 1e-4
DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
# Room for everything beside the weights: tokenizer, template, card.
SPARE_BYTES = 64 * 1024**2
# In float32 a weight may still move by the rounding of what a family adds to it (Gemma's 1 + scale).
_MOVED = 1e-6

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Exported:
    """What was written where, and what it was compared by (the content of verification.json)."""

    place: Path
    verification: dict[str, Any]
    source: str


def export(
    source: str,
    out: str | Path,
    *,
    dtype: str | None = None,
    shard_bytes: int = safetensors.SHARD_BYTES,
    data: Path | None = None,
) -> Exported:
    """Writes MODEL `source` to `out`, which must be free: a GGUF file where its name ends in .gguf, with
    NAME.verification.json and, for Ollama, NAME.Modelfile beside it; otherwise a folder with config.json, safetensors,
    tokenizer, chat template, generation_config.json, a model card, and verification.json.

    `dtype`: float32, bfloat16 or float16, and q8_0 in GGUF; None is what the weights are known in: the half precision
    of a Hugging Face folder that holds nothing else, else float32.

    What was written is read back and its logits compared in float32 with those of the model it came from, its weights
    rounded as the file holds them, on conversations of `data` or short exchanges of the package's own.

    Raises:
        InputError: the disk is too small, the file's kind has no form for this model or its tokenizer, or the logits
            differ by more than BOUND; `out` is not there then.
    """
    out = Path(out)
    kind = _GgufFile if out.suffix == ".gguf" else _Folder
    if dtype is not None and dtype not in kind.dtypes:
        raise InputError(f"weights are exported to {kind.what} as {' or '.join(kind.dtypes)}, not {dtype}")
    kind.check(out)
    opened = open_model(source, model=lambda config: Model(config, dtype="float32"), label="reading weights")
    _check_finite(opened)
    params = opened.params
    opened = dataclasses.replace(opened, params=None)  # the copy read back takes this one's place
    own = _own_dtype(opened)
    dtype = dtype or own
    target = kind(out, by_config(opened.config), opened, dtype, shard_bytes, rounds=dtype not in ("float32", own))
    check_room(out, target.bytes + SPARE_BYTES)
    rows = compared_rows(opened, data)
    with jax.set_mesh(opened.mesh):
        unrounded = proof.logits(opened.model, params, rows, "computing logits")

    with target.new() as place:
        with Bar("writing weights", 4 * opened.config.parameters, "bytes") as bar:
            target.write(place, params, lambda count: bar.advance(4 * count))
        before = unrounded
        if target.rounding is not None:
            with jax.set_mesh(opened.mesh):
                moved = weights.round_in_place(params, target.form, opened.config, target.rounding)
                _check_rounding(moved, target.limit, out)
                before = proof.logits(opened.model, params, rows, "computing logits of rounded weights")
        del params
        verification = _verify(opened, target, place, rows, before, unrounded)
        target.finish(place, verification)
    target.beside(verification)
    return Exported(out, verification, opened.description)


@dataclass(frozen=True)
class _Folder:
    """A Hugging Face folder to be written. `rounds`: whether `dtype` holds less than the weights are known to."""

    out: Path
    family: Family
    opened: Opened
    dtype: str
    shard_bytes: int
    rounds: bool

    what = "a Hugging Face folder"
    dtypes = tuple(DTYPES)
    check = staticmethod(check_new_folder)

    @property
    def form(self) -> Format:
        return self.family.huggingface

    @property
    def bytes(self) -> int:
        return self.opened.config.parameters * DTYPES[self.dtype].itemsize

    @property
    def limit(self) -> float:
        return gguf_writing.ROUNDING[self.dtype]

    @property
    def rounding(self) -> weights.Rounding | None:
        dtype = DTYPES[self.dtype]
        return (lambda name, array: array.astype(dtype).astype(np.float32)) if self.rounds else None

    def new(self) -> AbstractContextManager[Path]:
        return new_folder(self.out)

    def write(self, folder: Path, params: Any, advance: Advance) -> None:
        opened, dtype = self.opened, DTYPES[self.dtype]
        tensors = weights.tensors(params, self.family, opened.config, dtype)
        safetensors.write(folder, tensors, dtype, self.shard_bytes, lambda count: advance(count // dtype.itemsize))
        config = self.family.write_config(opened.config) | token_ids(opened)
        _write_json(folder / "config.json", config | {"dtype": self.dtype, "torch_dtype": self.dtype})
        _write_json(folder / "generation_config.json", generation_config(opened))
        opened.tokenizer.save(folder)
        if opened.format is not None and opened.format.template != opened.tokenizer.chat_template:
            with replacing(folder / "chat_template.jinja", "wb") as file:
                file.write(opened.format.template.encode())

    def same_tokenizer(self, again: Opened) -> bool:
        return again.tokenizer.fingerprint == self.opened.tokenizer.fingerprint

    def finish(self, folder: Path, verification: dict[str, Any]) -> None:
        opened = self.opened
        _write_json(folder / "verification.json", verification)
        run = opened.place.path if opened.place.kind == "run" else None
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        with replacing(folder / "README.md") as file:
            file.write(model_card.card(opened, self.out.name, run, verification, size))

    def beside(self, verification: dict[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class _GgufFile:
    """A GGUF file to be written, see `_Folder`."""

    out: Path
    family: Family
    opened: Opened
    dtype: str
    shard_bytes: int
    rounds: bool

    what = "GGUF"
    dtypes = tuple(gguf_writing.KINDS)

    @staticmethod
    def check(out: Path) -> None:
        check_new_file(out)
        check_new_file(_modelfile(out))

    @property
    def form(self) -> Format:
        if self.family.gguf is None:
            raise InputError(f"jaxchat writes no GGUF file of the family {self.family.name}; export a folder instead")
        return self.family.gguf

    @property
    def bytes(self) -> int:
        return int(self.opened.config.parameters * gguf_writing.BYTES[self.dtype])

    @property
    def limit(self) -> float:
        return gguf_writing.ROUNDING[self.dtype]

    @property
    def rounding(self) -> weights.Rounding | None:
        return gguf_writing.round_as(self.dtype) if self.rounds else None

    def new(self) -> AbstractContextManager[Path]:
        return new_file(self.out)

    def write(self, path: Path, params: Any, advance: Advance) -> None:
        tensors = weights.whole(params, self.form, self.opened.config)
        gguf_writing.write(path, tensors, self._metadata(), self.dtype, advance)

    def same_tokenizer(self, again: Opened) -> bool:
        return reads_alike(self.opened.tokenizer, again.tokenizer)

    def finish(self, path: Path, verification: dict[str, Any]) -> None:
        pass

    def beside(self, verification: dict[str, Any]) -> None:
        _write_json(self.out.with_name(f"{self.out.stem}.verification.json"), verification)
        with replacing(_modelfile(self.out)) as file:
            file.write(modelfile(self.out.name, self.opened.format, generation_config(self.opened)))

    def _metadata(self) -> dict[str, Any]:
        opened, config = self.opened, self.opened.config
        chat = opened.format
        stops = () if chat is None else sorted(chat.stop_ids)
        license = model_card.license_of(opened)
        return {
            **_shape_metadata(self.family, self.form, config),
            "general.type": "model",
            "general.name": self.out.stem,
            **({"general.license": license} if license else {}),
            "general.file_type": gguf_writing.KINDS[self.dtype][1],
            "general.quantization_version": 2,
            **gguf_sampling(generation_config(opened)),
            **vocabulary_metadata(opened.tokenizer, config.vocab_size, chat.template if chat else None, stops),
        }


def _modelfile(out: Path) -> Path:
    return out.with_suffix(".Modelfile")


def _shape_metadata(family: Family, form: Format, config: DecoderConfig) -> dict[str, Any]:
    """What the file says of the model's shape. Of the keys that stand for what a GGUF file's tensors say, the
    vocabulary's size has a name there as well."""
    name = family.architectures[0]
    keys = form.write(config)
    del keys["tied"]
    keys.pop("rope_freqs", None)
    keys[f"{name}.vocab_size"] = keys.pop("vocab_size")
    size = keys.get(f"{name}.attention.key_length")
    # Otherwise llama.cpp takes the width over the heads for these.
    implied = {} if size is None else {f"{name}.attention.value_length": size, f"{name}.rope.dimension_count": size}
    return {"general.architecture": name, **implied, **keys}


def _verify(
    opened: Opened,
    target: _Folder | _GgufFile,
    place: Path,
    rows: list[list[int]],
    before: list[np.ndarray],
    unrounded: list[np.ndarray],
) -> dict[str, Any]:
    """Opens what was written as anybody would. Raises InputError when it is not the same model."""
    again = open_model(
        str(place), opened.mesh, model=lambda config: Model(config, dtype="float32"), label="reading back"
    )
    templates = [None if each.format is None else each.format.template for each in (again, opened)]
    for what, same in (
        ("config", again.config == opened.config),
        ("tokenizer", target.same_tokenizer(again)),
        ("chat template", templates[0] == templates[1]),
    ):
        if not same:
            raise InputError(f"the {what} written to {target.out} did not come back the same; nothing was exported")
    with jax.set_mesh(again.mesh):
        after = proof.logits(again.model, again.params, rows, "computing logits of what was written")
    agreement = agreed(before, after, target.out)
    by_rounding = proof.compare(unrounded, after)
    perplexities = [proof.perplexity(found, rows) for found in (unrounded, after)]
    return {
        **dataclasses.asdict(agreement),
        "bound": BOUND,
        "dtype": target.dtype,
        "compared_with": opened.description + ("" if target.rounding is None else f", rounded to {target.dtype}"),
        "max_logit_difference_by_rounding": by_rounding.max_logit_difference,
        "same_likeliest_token_after_rounding": by_rounding.same_likeliest_token,
        "perplexity": perplexities[0],
        "perplexity_after_rounding": perplexities[1],
    }


def agreed(expected: list[np.ndarray], found: list[np.ndarray], out: Path) -> proof.Agreement:
    """How alike the logits of what was written to `out` are. Raises InputError where they differ by more than BOUND."""
    agreement = proof.compare(expected, found)
    if not agreement.max_logit_difference <= BOUND:
        raise InputError(
            f"the weights written to {out} do not compute the same: logits differ by "
            f"{agreement.max_logit_difference:.3g}, above {BOUND:g}; nothing was exported"
        )
    return agreement


def _check_finite(opened: Opened) -> None:
    """A file may be whole and hold what a failing disk left of it."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(opened.params):
        if not bool(_finite(leaf)):
            raise InputError(
                f"{opened.place.name}: {jax.tree_util.keystr(path, simple=True, separator='.')} holds values that are "
                "not finite numbers; the file is damaged, fetch it again"
            )


@jax.jit
def _finite(leaf: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(leaf))


def _check_rounding(moved: dict[str, float], limit: float, out: Path) -> None:
    """A weight that moves further than its rounding was put in another's place."""
    for name, share in moved.items():
        if not share <= limit + _MOVED:
            raise InputError(
                f"rounding moves {name} by {share:.3g} of its largest value, further than it can ({limit:.3g}); "
                f"{out} was not written"
            )


def _own_dtype(opened: Opened) -> str:
    halves = {"BF16": "bfloat16", "F16": "float16"}
    found = Safetensors(opened.place.path).dtypes if opened.place.kind == "huggingface" else set()
    return halves.get(next(iter(found)), "float32") if len(found) == 1 else "float32"


def compared_rows(opened: Opened, data: Path | None) -> list[list[int]]:
    config = opened.config
    if data is None:
        rows = proof.sequences(opened.tokenizer, opened.format, config.vocab_size, config.context_length)
    elif opened.format is None:
        raise InputError(f"{opened.place.name} has no chat template to read the conversations of {data} with")
    else:
        found = (opened.format.example(conversation).ids.tolist() for conversation in read_conversations(data))
        rows = [ids[: min(proof.LENGTH, config.context_length)] for ids, _ in zip(found, range(8)) if ids]
    if not rows:
        raise InputError(f"there is nothing to compare the logits of {opened.place.name} on; name a folder with --data")
    return rows


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with replacing(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")
