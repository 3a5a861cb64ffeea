"""How a model is asked for text when nobody says: the sampling and the stops that travel with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxchat.chat.gguf_metadata import read_gguf_metadata
from jaxchat.hub.families import decimal

if TYPE_CHECKING:
    from jaxchat.hub.open import Opened

# transformers' name of each, and GGUF's.
SAMPLING = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
_DEFAULT = {"do_sample": True, "temperature": 0.7, "top_p": 0.9}
# What a generation_config.json says of the library that wrote it, or is said anew here.
_NOT_CARRIED = ("transformers_version", "_from_model_config", "bos_token_id", "eos_token_id", "pad_token_id")


def token_ids(opened: Opened) -> dict[str, Any]:
    """The special tokens' ids under the names of config.json."""
    tokenizer = opened.tokenizer
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}


def generation_config(opened: Opened) -> dict[str, Any]:
    """The content of generation_config.json: what the model came with, else moderate sampling; and every stop."""
    carried = _carried(opened)
    stops: set[int] = set() if opened.format is None else set(opened.format.stop_ids)
    before = carried.get("eos_token_id")
    stops |= {i for i in (before if isinstance(before, list) else [before]) if isinstance(i, int)}
    eos = opened.tokenizer.eos_id
    first = [] if eos is None else [eos]
    kept = {key: value for key, value in carried.items() if key not in _NOT_CARRIED}
    return {
        **token_ids(opened),
        "eos_token_id": first + sorted(stops - set(first)) or None,
        **(kept or _DEFAULT),
    }


def gguf_sampling(config: dict[str, Any]) -> dict[str, Any]:
    """The keys of a GGUF file that ask for the sampling of a generation_config.json."""
    if not config.get("do_sample"):
        return {}
    found = {theirs: config[ours] for ours, theirs in SAMPLING.items() if isinstance(config.get(ours), int | float)}
    return {key: value if key.endswith("top_k") else float(value) for key, value in found.items()}


def _carried(opened: Opened) -> dict[str, Any]:
    from jaxchat.hub.open import read_json

    place = opened.place
    if place.kind == "huggingface" and (place.path / "generation_config.json").is_file():
        return read_json(place.path / "generation_config.json")
    if place.kind == "gguf":
        metadata = read_gguf_metadata(place.path)
        found = {ours: metadata[theirs] for ours, theirs in SAMPLING.items() if theirs in metadata}
        found = {key: decimal(value) if isinstance(value, float) else value for key, value in found.items()}
        return {"do_sample": True, **found} if found else {}
    return {}
