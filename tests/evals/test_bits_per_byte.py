"""Bits per byte do not depend on what tokens are called, and do on how a text is cut into them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.chat.template import ChatFormat
from jaxchat.evals.perplexity import score
from jaxchat.hub.open import Opened
from jaxchat.testing import CHATML, small_conversations

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
MARKERS = ("<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = [("t", "h"), ("th", "e"), ("c", "a"), ("ca", "t")]


def tokenizer(letters: Sequence[str], merges: Sequence[tuple[str, str]] = ()) -> HuggingFaceTokenizer:
    """Of bytes in the order of `letters`, the markers last, and what is merged of them between."""
    words = [*letters, *(first + second for first, second in merges)]
    backend = tokenizers.Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(text, special=True) for text in MARKERS])
    return HuggingFaceTokenizer(backend, {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"})


def figures(opened: Opened, tokenizer: HuggingFaceTokenizer, params: Any) -> dict[str, Any]:
    given = replace(opened, tokenizer=tokenizer, params=params)
    return score(given, ChatFormat(tokenizer, CHATML), small_conversations(8)).all.figures()


def test_other_numbers_for_the_same_tokens_change_nothing(tiny_model: Opened):
    order = np.random.default_rng(0).permutation(256)
    shuffled = np.concatenate([order, np.arange(256, 260)])  # where each row of the vocabulary came from
    params = jax.tree.map(lambda leaf: leaf, tiny_model.params)  # dicts of its own
    table = params["embed"]["table"]
    params["embed"]["table"] = jax.device_put(np.asarray(table)[shuffled], table.sharding)
    if "unembed" in params:
        kernel = params["unembed"]["kernel"]
        params["unembed"]["kernel"] = jax.device_put(np.asarray(kernel)[:, shuffled], kernel.sharding)
    before = figures(tiny_model, tokenizer(LETTERS), tiny_model.params)
    after = figures(tiny_model, tokenizer([LETTERS[i] for i in order]), params)
    assert after == pytest.approx(before, rel=1e-5)


def test_another_cut_of_the_same_text_has_its_own_cost(tiny_model: Opened):
    """A model that knows nothing pays log V for a token: in bits a byte, less where tokens are longer."""
    size = tiny_model.config.vocab_size
    nothing = jax.tree.map(lambda leaf: leaf * 0, tiny_model.params)
    cut_small = figures(tiny_model, tokenizer(LETTERS), nothing)
    used = [letter for letter in LETTERS if letter not in "ÀÁÂÃ"]  # bytes that no text has make room for the merged
    cut_large = figures(tiny_model, tokenizer(used, MERGES), nothing)
    assert (cut_small["bytes"], cut_small["words"]) == (cut_large["bytes"], cut_large["words"])
    assert cut_small["tokens"] > cut_large["tokens"]
    for found in (cut_small, cut_large):
        assert found["bits_per_byte"] == pytest.approx(found["tokens"] * math.log2(size) / found["bytes"], rel=1e-5)
        assert found["perplexity"] == pytest.approx(size, rel=1e-5)
    assert cut_small["bits_per_byte"] > cut_large["bits_per_byte"]
