"""A tokenizer written to GGUF reads text as before, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import pre_tokenizers

from jaxchat.chat.gguf_metadata import read_gguf_metadata
from jaxchat.chat.gguf_tokenizer import gguf_tokenizer
from jaxchat.chat.gguf_vocabulary import PROBES, reads_alike, vocabulary_metadata
from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.chat.sentencepiece_tokenizer import SentencePieceTokenizer
from jaxchat.chat.tokenizer import Tokenizer, load_tokenizer
from jaxchat.chat.train_bpe import train_bpe
from jaxchat.errors import InputError


def again(tokenizer: Tokenizer, size: int, **more: Any) -> HuggingFaceTokenizer:
    return gguf_tokenizer(vocabulary_metadata(tokenizer, size, **more), "a file")


def test_every_text_has_the_same_ids_again(tokenizer: Tokenizer, texts: list[str]) -> None:
    back = again(tokenizer, tokenizer.vocab_size)
    assert back.vocab_size == tokenizer.vocab_size
    for text in [*texts[:40], *PROBES]:
        assert back.encode(text) == tokenizer.encode(text)
        assert back.decode(tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    assert (back.bos_id, back.eos_id, back.pad_id) == (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    assert back.chat_templates == tokenizer.chat_templates


def test_smollm2s_own_metadata_comes_back(smollm2: HuggingFaceTokenizer, smollm2_gguf: Path) -> None:
    before = read_gguf_metadata(smollm2_gguf)
    made = vocabulary_metadata(smollm2, 49152)
    for key in ("model", "pre", "tokens", "merges", "bos_token_id", "eos_token_id", "add_bos_token"):
        key = f"tokenizer.ggml.{key}"
        assert made[key] == before.get(key, made[key]), key
    assert made["tokenizer.ggml.token_type"] == before["tokenizer.ggml.token_type"].tolist()
    assert made["tokenizer.chat_template"] == before["tokenizer.chat_template"]


def test_a_sentencepiece_copy_in_tokenizer_json_keeps_its_ids(
    bpe: SentencePieceTokenizer, texts: list[str], tmp_path: Path
) -> None:
    bpe.save(tmp_path)
    copy = load_tokenizer(tmp_path / "tokenizer.json")
    metadata = vocabulary_metadata(copy, copy.vocab_size)
    assert metadata["tokenizer.ggml.model"] == "llama"
    back = gguf_tokenizer(metadata, "a file")
    assert back.encode_batch(texts) == bpe.encode_batch(texts)


def test_a_larger_embedding_is_filled_with_unused_tokens(
    smollm2: HuggingFaceTokenizer, unigram: SentencePieceTokenizer
) -> None:
    for tokenizer in (smollm2, unigram):
        size = tokenizer.vocab_size
        metadata = vocabulary_metadata(tokenizer, size + 7)
        assert len(metadata["tokenizer.ggml.tokens"]) == size + 7
        assert metadata["tokenizer.ggml.token_type"][size:] == [5] * 7
        assert gguf_tokenizer(metadata, "a file").encode("[PAD1001] x") == tokenizer.encode("[PAD1001] x")


@pytest.mark.parametrize(
    ("cut", "name"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=False), "gpt-2"),
        (
            pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
            "smollm",
        ),
    ],
    ids=["gpt-2", "smollm"],
)
def test_the_way_of_cutting_is_named(smollm2: HuggingFaceTokenizer, cut: Any, name: str) -> None:
    backend = tokenizers.Tokenizer.from_str(smollm2.backend.to_str())
    backend.pre_tokenizer = cut
    tokenizer = HuggingFaceTokenizer(backend, smollm2.special_tokens)
    assert vocabulary_metadata(tokenizer, 49152)["tokenizer.ggml.pre"] == name


def test_a_way_of_cutting_without_a_name_is_refused(smollm2: HuggingFaceTokenizer) -> None:
    backend = tokenizers.Tokenizer.from_str(smollm2.backend.to_str())
    cut = pre_tokenizers.Split(tokenizers.Regex("e"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    with pytest.raises(InputError, match=r"cuts text in a way that llama\.cpp has no name for"):
        vocabulary_metadata(HuggingFaceTokenizer(backend), 49152)


def test_byte_level_bpe_trained_here_is_refused_for_its_apostrophes(texts: list[str], tmp_path: Path) -> None:
    tokenizer = train_bpe(texts, tmp_path / "out", vocab_size=1500)
    with pytest.raises(InputError, match="export a Hugging Face folder instead"):
        vocabulary_metadata(tokenizer, 1500)


def test_single_bytes_without_merges_are_refused() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(InputError, match=r"merges none, and llama\.cpp opens no GGUF file without merges; export a"):
        vocabulary_metadata(HuggingFaceTokenizer(backend), 256)


def test_a_template_and_a_turns_end_are_written(smollm2: HuggingFaceTokenizer) -> None:
    metadata = vocabulary_metadata(smollm2, 49152, template="{{ messages }}", stop_ids=(2, 5))
    assert metadata["tokenizer.chat_template"] == "{{ messages }}"
    assert metadata["tokenizer.ggml.eot_token_id"] == 5


def test_tokenizers_that_differ_do_not_read_alike(smollm2: HuggingFaceTokenizer, bpe: SentencePieceTokenizer) -> None:
    assert reads_alike(smollm2, smollm2) and not reads_alike(smollm2, bpe)
