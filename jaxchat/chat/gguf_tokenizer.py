"""The tokenizer inside a GGUF file, built with the `tokenizers` package; no torch, no transformers, no gguf."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxchat.chat.gguf_metadata import read_gguf_metadata
from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer, frame_plain_text, merges_by_score
from jaxchat.chat.sentencepiece_model import (
    BYTE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    USER_DEFINED,
    Piece,
    SentencePieceModel,
)
from jaxchat.chat.sentencepiece_tokenizer import fast_backend
from jaxchat.errors import InputError

if TYPE_CHECKING:
    import tokenizers

_KEYS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


@dataclass(frozen=True)
class _PreTokenizer:
    """How text is cut before byte-level BPE. `split`: a pattern of its own, else GPT-2's; the flags as in llama.cpp."""

    split: str | None = None
    digits: bool = False
    nfc: bool = False
    ignore_merges: bool = False
    bos: bool = False


_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{DIGITS}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+SUFFIX"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*SUFFIX"
    r"|\p{N}{DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _pattern(pattern: str, digits: str, suffix: str = "") -> str:
    return pattern.replace("{DIGITS}", digits).replace("SUFFIX", suffix)


_GPT2 = _PreTokenizer()
_DIGITS = _PreTokenizer(digits=True)
_LLAMA3 = _PreTokenizer(split=_pattern(_WORDS, "{1,3}"), ignore_merges=True, bos=True)
_QWEN2 = _PreTokenizer(split=_pattern(_WORDS, ""), nfc=True)
_TEKKEN = _PreTokenizer(split=_pattern(_CASED, ""), ignore_merges=True, bos=True)
_GPT4O = _PreTokenizer(split=_pattern(_CASED, "{1,3}", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"))

# tokenizer.ggml.pre
_PRE_TOKENIZERS = {
    "gpt-2": _GPT2, "phi-2": _GPT2, "smollm": _DIGITS, "starcoder": _DIGITS, "refact": _DIGITS,
    "llama-bpe": _LLAMA3, "llama3": _LLAMA3, "llama-v3": _LLAMA3, "falcon3": _LLAMA3,
    "qwen2": _QWEN2, "deepseek-r1-qwen": _QWEN2, "stablelm2": _QWEN2,
    "tekken": _TEKKEN, "gpt-4o": _GPT4O, "llama4": _GPT4O,
}  # fmt: skip


def load_gguf_tokenizer(path: str | Path) -> HuggingFaceTokenizer:
    """The tokenizer of the GGUF file at `path`. Raises InputError for a file without one, or of a kind unknown here."""
    return gguf_tokenizer(read_gguf_metadata(path), str(path))


def gguf_tokenizer(metadata: dict[str, Any], name: str) -> HuggingFaceTokenizer:
    """The tokenizer that a GGUF file's metadata describes. `name` stands for the file in errors.

    `tokenizer.ggml.model` is gpt2 (byte-level BPE), llama (SentencePiece BPE, whose merges follow from its scores) or
    t5 (SentencePiece's unigram).
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind is None or "tokenizer.ggml.tokens" not in metadata:
        raise InputError(f"{name} holds no tokenizer; use the one of the model it was made from")
    if kind == "gpt2":
        backend, bos = _byte_level(metadata, name)
    elif kind == "llama":
        backend, bos = _sentencepiece_bpe(metadata, name)
    elif kind == "t5":
        backend, bos = _sentencepiece_unigram(metadata, name), False
    else:
        raise InputError(
            f"{name}: its tokenizer is of the kind {kind!r}, and only gpt2, llama and t5 are known; "
            "use the tokenizer.json of the model it was made from"
        )
    tokens = metadata["tokenizer.ggml.tokens"]
    _add_tokens(backend, tokens, metadata.get("tokenizer.ggml.token_type"))
    special = {}
    for text, key in _KEYS.items():
        i = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if i is not None and 0 <= i < len(tokens):
            special[text] = tokens[i]
    add_bos = metadata.get("tokenizer.ggml.add_bos_token", bos)
    add_eos = metadata.get("tokenizer.ggml.add_eos_token", False)
    if add_bos or add_eos:
        frame_plain_text(
            backend, special.get("bos_token") if add_bos else None, special.get("eos_token") if add_eos else None
        )
    return HuggingFaceTokenizer(backend, special, _templates(metadata))


def _byte_level(metadata: dict[str, Any], name: str) -> tuple[tokenizers.Tokenizer, bool]:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    pre = metadata.get("tokenizer.ggml.pre")
    if pre not in _PRE_TOKENIZERS:
        raise InputError(
            f"{name}: its pre-tokenizer {pre!r} is not known (known: {', '.join(sorted(_PRE_TOKENIZERS))}); "
            "use the tokenizer.json of the model it was made from"
        )
    how = _PRE_TOKENIZERS[pre]
    vocab = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata.get("tokenizer.ggml.merges", [])]
    backend = tokenizers.Tokenizer(_bpe(models.BPE, name, vocab, merges, ignore_merges=how.ignore_merges))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if how.digits else []
    if how.split is not None:
        steps.append(pre_tokenizers.Split(tokenizers.Regex(how.split), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=how.split is None))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if how.nfc:
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    return backend, how.bos


def _sentencepiece_bpe(metadata: dict[str, Any], name: str) -> tuple[tokenizers.Tokenizer, bool]:
    """SentencePiece's BPE joins the neighbours whose joined piece scores highest; so do merges ordered by score."""
    import tokenizers
    from tokenizers import decoders, models, normalizers

    tokens, scores, kinds = _pieces(metadata, name)
    normal = {tokens[i]: scores[i] for i in np.flatnonzero(kinds == NORMAL)}
    if any(score != int(score) for score in normal.values()):
        raise InputError(
            f"{name}: its tokenizer is SentencePiece's unigram, whose ids cannot be rebuilt exactly from a GGUF file; "
            "use the tokenizer.model of the model it was made from"
        )
    spaced = metadata.get("tokenizer.ggml.add_space_prefix", True)
    vocab = {token: i for i, token in enumerate(tokens)}
    unknown = metadata.get("tokenizer.ggml.unknown_token_id")
    backend = tokenizers.Tokenizer(
        _bpe(
            models.BPE,
            name,
            vocab,
            merges_by_score(normal),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback="<0x00>" in vocab,
        )
    )
    to_marker, from_marker = normalizers.Replace(" ", "▁"), decoders.Replace("▁", " ")
    backend.normalizer = normalizers.Sequence([*([normalizers.Prepend("▁")] if spaced else []), to_marker])
    backend.decoder = decoders.Sequence(
        [from_marker, decoders.ByteFallback(), decoders.Fuse(), *([decoders.Strip(" ", 1, 0)] if spaced else [])]
    )
    return backend, True


def _sentencepiece_unigram(metadata: dict[str, Any], name: str) -> tokenizers.Tokenizer:
    pieces = tuple(Piece(text, float(score), int(kind)) for text, score, kind in zip(*_pieces(metadata, name)))
    if not any(piece.kind == UNKNOWN for piece in pieces):
        raise InputError(f"{name}: its tokenizer has no unknown token; download it again")
    return fast_backend(
        SentencePieceModel(
            pieces,
            UNIGRAM,
            byte_fallback=any(piece.kind == BYTE for piece in pieces),
            charsmap=bytes(metadata.get("tokenizer.ggml.precompiled_charsmap", b"")),
            add_dummy_prefix=metadata.get("tokenizer.ggml.add_space_prefix", True),
            remove_extra_whitespaces=metadata.get("tokenizer.ggml.remove_extra_whitespaces", False),
        )
    )


def _pieces(metadata: dict[str, Any], name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Texts, scores and kinds of SentencePiece's pieces."""
    tokens = metadata["tokenizer.ggml.tokens"]
    scores = np.asarray(metadata.get("tokenizer.ggml.scores", ()), np.float64)
    kinds = np.asarray(metadata.get("tokenizer.ggml.token_type", np.full(len(tokens), NORMAL)))
    if len(scores) != len(tokens) or len(kinds) != len(tokens):
        raise InputError(f"{name}: its tokenizer has not one score and one type a token; download it again")
    return tokens, scores, kinds


def _bpe(build: Any, name: str, vocab: dict[str, int], merges: list[Any], **options: Any) -> Any:
    try:
        return build(vocab, merges, **options)
    except Exception as error:  # the package's own plain Exception: a merge of tokens that are not there
        raise InputError(
            f"{name}: its vocabulary and merges do not fit each other ({error}); download it again"
        ) from None


def _add_tokens(backend: tokenizers.Tokenizer, tokens: list[str], kinds: Any) -> None:
    """Control tokens become special, user-defined ones merely whole."""
    import tokenizers

    if kinds is None:
        return
    for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
        texts = [tokens[i] for i in np.flatnonzero(np.asarray(kinds) == kind)]
        backend.add_tokens([tokenizers.AddedToken(text, normalized=False, special=special) for text in texts])


def _templates(metadata: dict[str, Any]) -> dict[str, str]:
    prefix = "tokenizer.chat_template"
    templates = {"default": metadata[prefix]} if prefix in metadata else {}
    for key, value in metadata.items():
        if key.startswith(prefix + ".") and isinstance(value, str):
            templates[key.removeprefix(prefix + ".")] = value
    return templates
