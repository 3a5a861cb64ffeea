"""Writes a model as a Hugging Face folder, reads it back, and lets it out only if it computes the same."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from jaxchat.chat.conversation import read_conversations
from jaxchat.errors import InputError
from jaxchat.files import check_new_folder, new_folder, replacing
from jaxchat.hub import model_card, proof, safetensors, weights
from jaxchat.hub.families import by_config
from jaxchat.hub.open import Opened, open_model
from jaxchat.hub.safetensors import Safetensors
from jaxchat.models.decoder import Model

# The largest difference of logits that is still the same model, computed in float32.
BOUND = 1e-4
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
# Room for everything beside the weights: tokenizer, template, card.
SPARE_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Exported:
    """What was written where, and what it was compared by (the content of verification.json)."""

    folder: Path
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
    """Writes MODEL `source` to the new folder `out`: config.json, safetensors, tokenizer, chat template,
    generation_config.json, a model card, and verification.json.

    `dtype`: float32 or bfloat16; None is what the weights are known in: bfloat16 for a Hugging Face folder that holds
    nothing else, else float32.

    What was written is read back and its logits compared in float32 with those of the model it came from (its weights
    rounded to `dtype` first), on conversations of `data` or short exchanges of the package's own.

    Raises:
        InputError: the disk is too small, or the logits differ by more than BOUND; `out` is not there then.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"weights are exported as {' or '.join(DTYPES)}, not {dtype}")
    check_new_folder(out)
    opened = open_model(source, model=lambda config: Model(config, dtype="float32"))
    family, params = by_config(opened.config), opened.params
    dtype = dtype or _own_dtype(opened)
    opened = dataclasses.replace(opened, params=None)  # the copy read back takes this one's place
    _check_room(Path(out), opened.config.parameters * DTYPES[dtype].itemsize)
    rows = _rows(opened, data)
    with jax.set_mesh(opened.mesh):
        before = proof.logits(opened.model, params, rows, dtype)
        unrounded = before if dtype == "float32" else proof.logits(opened.model, params, rows)

    with new_folder(out) as folder:
        tensors = weights.tensors(params, family, opened.config, DTYPES[dtype])
        files = safetensors.write(folder, tensors, DTYPES[dtype], shard_bytes)
        del tensors, params
        _write_json(folder / "config.json", family.write_config(opened.config) | _token_ids(opened) | _dtype(dtype))
        _write_json(folder / "generation_config.json", _generation(opened))
        opened.tokenizer.save(folder)
        if opened.format is not None and opened.format.template != opened.tokenizer.chat_template:
            with replacing(folder / "chat_template.jinja", "wb") as file:
                file.write(opened.format.template.encode())

        verification = _verify(opened, folder, rows, before, unrounded, dtype, str(out))
        _write_json(folder / "verification.json", verification)
        run = opened.place.path if opened.place.kind == "run" else None
        card = model_card.card(opened, Path(out).name, run, verification, sum(file.stat().st_size for file in files))
        with replacing(folder / "README.md") as file:
            file.write(card)
    return Exported(Path(out), verification, opened.description)


def _verify(
    opened: Opened,
    folder: Path,
    rows: list[list[int]],
    before: list[np.ndarray],
    unrounded: list[np.ndarray],
    dtype: str,
    out: str,
) -> dict[str, Any]:
    """Opens the folder as anybody would. Raises InputError when it is not the same model."""
    again = open_model(str(folder), opened.mesh, model=lambda config: Model(config, dtype="float32"))
    if again.config != opened.config or again.tokenizer.fingerprint != opened.tokenizer.fingerprint:
        what = "config" if again.config != opened.config else "tokenizer"
        raise InputError(f"the {what} written to {out} did not come back the same; nothing was exported")
    if (again.format and again.format.template) != (opened.format and opened.format.template):
        raise InputError(f"the chat template written to {out} did not come back the same; nothing was exported")
    with jax.set_mesh(again.mesh):
        after = proof.logits(again.model, again.params, rows)
    agreement = proof.compare(before, after)
    if not agreement.max_logit_difference <= BOUND:
        raise InputError(
            f"the weights written to {out} do not compute the same: logits differ by "
            f"{agreement.max_logit_difference:.3g}, above {BOUND:g}; nothing was exported"
        )
    rounding = proof.compare(unrounded, after)
    return {
        **dataclasses.asdict(agreement),
        "bound": BOUND,
        "dtype": dtype,
        "compared_with": opened.description + ("" if dtype == "float32" else f", rounded to {dtype}"),
        "max_logit_difference_by_rounding": rounding.max_logit_difference,
        "same_likeliest_token_after_rounding": rounding.same_likeliest_token,
    }


def _own_dtype(opened: Opened) -> str:
    halves = opened.place.kind == "huggingface" and Safetensors(opened.place.path).dtypes == {"BF16"}
    return "bfloat16" if halves else "float32"


def _rows(opened: Opened, data: Path | None) -> list[list[int]]:
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


def _token_ids(opened: Opened) -> dict[str, Any]:
    tokenizer = opened.tokenizer
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}


def _generation(opened: Opened) -> dict[str, Any]:
    """What transformers' generate() does unasked: stop where a turn ends, and sample."""
    stops = set() if opened.format is None else set(opened.format.stop_ids)
    eos = opened.tokenizer.eos_id
    first = [] if eos is None else [eos]
    return {
        **_token_ids(opened),
        "eos_token_id": first + sorted(stops - set(first)) or None,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
    }


def _dtype(name: str) -> dict[str, str]:
    return {"dtype": name, "torch_dtype": name}  # the second for transformers before 5


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with replacing(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def _check_room(out: Path, need: int) -> None:
    place = out.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < need + SPARE_BYTES:
        raise InputError(
            f"{out} needs {_gigabytes(need + SPARE_BYTES)} and {os.fspath(place)} has {_gigabytes(free)} free; "
            "free some or name another place"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 10**9:.1f} GB"
