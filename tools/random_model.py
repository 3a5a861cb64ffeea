"""A Hugging Face folder with random weights, of any shape: what tools try things on that have nothing to learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VOCABULARY = 261  # of its tokenizer: bytes, one pair of them (llama.cpp reads none without), the markers of a chat


def write_random_model(folder: Path, config: Any, dtype_name: str = "float32", shards: int = 1) -> None:
    """Writes weights of the shape `config` (a DecoderConfig) in about `shards` files, as large as trained ones are: all
    that the model has matters to what it says. It reads bytes."""
    import numpy as np
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
    from jaxchat.hub import safetensors
    from jaxchat.hub.export import DTYPES
    from jaxchat.hub.families import by_config, sizes
    from jaxchat.testing import CHATML, ByteTokenizer

    dtype, family = DTYPES[dtype_name], by_config(config)
    length, chance = sizes(config), np.random.default_rng(0)

    def make(shape: tuple[int, ...]) -> Any:
        values = chance.standard_normal(shape, np.float32)
        values = 1 + values * 0.2 if len(shape) == 1 else values * shape[-1] ** -0.5
        return values.astype(dtype)

    tensors = [
        (name, shape, lambda shape=shape: make(shape))
        for tensor in family.huggingface.tensors(config)
        for shape in [tensor.shape(length)]
        for name, _ in tensor.instances(length)
    ]
    safetensors.write(folder, tensors, dtype, shard_bytes=-(-config.parameters * dtype.itemsize // shards))
    (folder / "config.json").write_text(json.dumps(family.write_config(config)))
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = tokenizers.Tokenizer(models.BPE({**letters, "th": len(letters)}, [("t", "h")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(text, special=True) for text in ByteTokenizer.added_tokens])
    HuggingFaceTokenizer(backend, ByteTokenizer.special_tokens, {"default": CHATML}).save(folder)
