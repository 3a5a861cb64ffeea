"""Tokenizers out of GGUF files, written here with the gguf package; transformers and SentencePiece judge the ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from jaxchat.chat import sentencepiece_model as spm
from jaxchat.chat.gguf_metadata import read_gguf_metadata
from jaxchat.chat.gguf_tokenizer import gguf_tokenizer, load_gguf_tokenizer
from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.chat.sentencepiece_tokenizer import SentencePieceTokenizer
from jaxchat.chat.tokenizer import load_tokenizer
from jaxchat.errors import InputError


def write(path: Path, add: Any) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    add(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_string("text", "né 😀")
        writer.add_uint8("u8", 200)
        writer.add_int64("i64", -(2**40))
        writer.add_float32("f32", 0.5)
        writer.add_bool("yes", True)
        writer.add_array("texts", ["a", "", "ü"])
        writer.add_array("numbers", [1, -2, 3])
        writer.add_array("floats", [0.25, -1.5])

    found = read_gguf_metadata(write(tmp_path / "a.gguf", add))
    assert found["text"] == "né 😀" and found["texts"] == ["a", "", "ü"]
    assert (found["u8"], found["i64"], found["f32"], found["yes"]) == (200, -(2**40), 0.5, True)
    assert found["numbers"].tolist() == [1, -2, 3] and found["floats"].tolist() == [0.25, -1.5]
    assert found["general.architecture"] == "llama"


def test_a_file_cut_anywhere_in_its_header_is_refused(tmp_path: Path) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_array("texts", ["abc", "def"])
        writer.add_array("numbers", [1, 2, 3])
        writer.add_string("text", "end")

    whole = write(tmp_path / "whole.gguf", add).read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"GGUF|ends in the middle"):
            read_gguf_metadata(tmp_path / "cut.gguf")
    with pytest.raises(InputError, match="cannot read"):
        read_gguf_metadata(tmp_path / "missing.gguf")
    (tmp_path / "new.gguf").write_bytes(whole[:4] + b"\x09\0\0\0" + whole[8:])
    with pytest.raises(InputError, match="version 9"):
        read_gguf_metadata(tmp_path / "new.gguf")


def test_smollm2_is_read_whole(smollm2: HuggingFaceTokenizer) -> None:
    # Written down from the run of the next test: digits stand alone, the bytes of 你 and 好 are five tokens.
    ids = [1, 4093, 198, 19556, 216, 665, 216, 33, 34, 35, 216, 18645, 250, 48392, 138, 1326, 982, 1116, 198, 15236]
    text = "<|im_start|>user\nHello  there 123 你好 don't\n\n\nfoo"
    assert smollm2.encode(text) == ids and smollm2.decode(ids) == text
    assert (smollm2.bos_id, smollm2.eos_id, smollm2.vocab_size) == (1, 2, 49152)
    assert "<|im_start|>" in (smollm2.chat_template or "")


@pytest.mark.slow
def test_smollm2_has_the_ids_that_transformers_gives_it(
    smollm2: HuggingFaceTokenizer, smollm2_gguf: Path, texts: list[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(str(smollm2_gguf.parent), gguf_file=smollm2_gguf.name)
    # transformers reads this file without the cutting of digits that the model's tokenizer.json and llama.cpp have.
    cut = theirs.backend_tokenizer.pre_tokenizer
    digits = pre_tokenizers.Digits(individual_digits=True)
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, cut])
    for text in [*texts[:30], *texts[-10:], "<|im_start|>user\n 1234 <|im_end|>\n\n\n  x"]:
        assert smollm2.encode(text) == theirs.encode(text, add_special_tokens=False)


def byte_level(pre: str, **more: Any) -> dict[str, Any]:
    """Metadata of a byte-level vocabulary without merges, so that only added tokens are longer than a byte."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|eot|>", "<tool>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([1] * 256 + [3, 4], np.int32),
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.bos_token_id": 256,
        **more,
    }


@pytest.mark.parametrize(
    "pre, text, cuts",
    [
        ("gpt-2", "it's 1234 a\n\n b", ["it", "'s", " 1234", " a", "\n\n", " b"]),
        ("smollm", "it's 1234 a\n\n b", ["it", "'s", " ", "1", "2", "3", "4", " a", "\n\n", " b"]),
        ("llama-bpe", "IT'S 1234 a.\n\n b", ["IT", "'S", " ", "123", "4", " a", ".\n\n", " b"]),
        ("qwen2", "IT'S 1234 a.\n\n b", ["IT", "'S", " ", "1", "2", "3", "4", " a", ".\n\n", " b"]),
        ("tekken", "IT's 1234 aBc/\n", ["IT", "'s", " ", "1", "2", "3", "4", " a", "Bc", "/\n"]),
        ("gpt-4o", "IT's 1234 aBc/\n", ["IT's", " ", "123", "4", " a", "Bc", "/\n"]),
    ],
)
def test_text_is_cut_as_the_models_pre_tokenizer_cuts_it(pre: str, text: str, cuts: list[str]) -> None:
    tokenizer = gguf_tokenizer(byte_level(pre), "a file")
    found = tokenizer.backend.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in found] == cuts
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_control_tokens_are_special_and_user_defined_ones_merely_whole() -> None:
    tokenizer = gguf_tokenizer(byte_level("gpt-2"), "a file")
    ids = tokenizer.encode("a<tool>b<|eot|>")
    assert tokenizer.added_tokens == {"<|eot|>": 256, "<tool>": 257}
    assert ids[1] == 257 and ids[-1] == 256
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<tool>b"


def test_a_bos_is_put_before_plain_text_where_the_file_or_its_kind_says_so() -> None:
    def first(pre: str, **more: Any) -> bool:
        tokenizer = gguf_tokenizer(byte_level(pre, **more), "a file")
        return tokenizer.encode("a", add_special_tokens=True)[0] == 256

    assert [first("gpt-2"), first("llama-bpe")] == [False, True]
    assert first("gpt-2", **{"tokenizer.ggml.add_bos_token": True})
    assert not first("llama-bpe", **{"tokenizer.ggml.add_bos_token": False})


def test_named_chat_templates_are_read() -> None:
    named = {"tokenizer.chat_template": "A", "tokenizer.chat_template.tool_use": "B"}
    assert gguf_tokenizer(byte_level("gpt-2", **named), "a file").chat_templates == {"default": "A", "tool_use": "B"}


def sentencepiece(model: spm.SentencePieceModel, tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece.text for piece in model.pieces],
        "tokenizer.ggml.scores": np.array([piece.score for piece in model.pieces], np.float32),
        "tokenizer.ggml.token_type": np.array([piece.kind for piece in model.pieces], np.int32),
        "tokenizer.ggml.add_space_prefix": model.add_dummy_prefix,
        "tokenizer.ggml.bos_token_id": tokenizer.bos_id,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_id,
        "tokenizer.ggml.unknown_token_id": tokenizer.token_id("<|unk|>"),
    }


def test_sentencepiece_bpe_in_a_gguf_has_the_ids_of_sentencepiece(
    bpe: SentencePieceTokenizer, texts: list[str], tmp_path: Path
) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        for key, value in sentencepiece(bpe.spec, bpe).items():
            if isinstance(value, np.ndarray):
                value = value.tolist()
            writer.add_key_value(key, value, kinds[type(value)]) if type(value) in kinds else writer.add_array(
                key, value
            )

    kinds = {str: gguf.GGUFValueType.STRING, int: gguf.GGUFValueType.UINT32, bool: gguf.GGUFValueType.BOOL}
    tokenizer = load_gguf_tokenizer(write(tmp_path / "a.gguf", add))
    for text in texts:
        assert tokenizer.encode(text) == bpe.encode(text)
        assert tokenizer.decode(bpe.encode(text)) == text
    assert tokenizer.encode("a", add_special_tokens=True)[0] == bpe.bos_id
    tokenizer.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").encode_batch(texts) == bpe.encode_batch(texts)


def test_a_space_is_put_before_the_text_where_the_file_says_so(bpe: SentencePieceTokenizer) -> None:
    metadata = {**sentencepiece(bpe.spec, bpe), "tokenizer.ggml.add_space_prefix": True}
    tokenizer = gguf_tokenizer(metadata, "a file")
    assert tokenizer.encode("the cat") == bpe.encode(" the cat")
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat"


def test_kinds_that_cannot_be_rebuilt_are_refused(unigram: SentencePieceTokenizer) -> None:
    for metadata, reason in [
        ({}, "holds no tokenizer"),
        ({"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": []}, "of the kind 'bert'"),
        (byte_level("default"), "pre-tokenizer 'default' is not known"),
        (byte_level("gpt-2", **{"tokenizer.ggml.merges": ["zz yy"]}), "do not fit each other"),
        (sentencepiece(unigram.spec, unigram), "unigram, whose ids cannot be rebuilt"),
    ]:
        with pytest.raises(InputError, match=reason):
            gguf_tokenizer(metadata, "a file")
