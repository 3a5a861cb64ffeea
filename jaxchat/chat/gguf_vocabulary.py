"""A tokenizer written as GGUF metadata, the way llama.cpp and Ollama read it.

llama.cpp knows three kinds: `gpt2` is byte-level BPE, whose way of cutting text into words is named, not described;
`llama` is SentencePiece's BPE, led by scores; `t5` is SentencePiece's unigram. Which name, and which flags, stand for a
tokenizer is found by trying: what is written must read probing texts as the tokenizer itself does.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from jaxchat.chat.gguf_tokenizer import gguf_tokenizer
from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.chat.sentencepiece_model import BPE, BYTE, CONTROL, NORMAL, UNIGRAM, UNKNOWN, UNUSED, USER_DEFINED
from jaxchat.chat.sentencepiece_tokenizer import SentencePieceTokenizer
from jaxchat.chat.tokenizer import Tokenizer
from jaxchat.errors import InputError

Metadata = dict[str, Any]

# One name for each way of cutting words that llama.cpp has and `gguf_tokenizer` reads, the commonest first.
PRE_TOKENIZERS = ("gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o")

PROBES = (
    "The quick brown fox, it's said, DIDN'T jump; we'll see: they've THEY'RE I'd.",
    "f'Verbose' b'sys' u'there' r'llama' x'RETURN' f'Dune' b'Mine' u'save' d'Artagnan O'Sullivan rock'n'roll boys''",
    "'sys' 'Verbose' ('there')",
    "1 12 123 1234 12345678 3.14159 2024-11-22 10,000 x2y v1.2.3 ½ ² Ⅷ 一二三 ٣٤٥",
    "  two  spaces   three\tand\ttabs\n\n\nnew lines \n \n end  ",
    "\n\n\r\nline\r\n  def f(x):\n\treturn {'a': x**2, \"b\": [1,2]}  # ok!!!\n",
    "https://example.org/a/b?c=d&e=f#g user@example.com C:\\path\\file ../x/y //comment */",
    "Der Äpfel größer naïve café façade Ångström — “quoted” ‘single’ … ¿qué? ¡sí!",
    "e\u0301 A\u030a \ufb01 ｆｕｌｌ　ｗｉｄｔｈ \u00a0nbsp \u200bzero\u200d",
    "你好，世界！今天天气怎么样？日本語テキスト、한국어 문장 हिन्दी ไทย العربية עברית Русский текст",
    "😀😂👩\u200d👩\u200d👧\u200d👦 🇫🇷 ✓ → ∑ ≤ € £ ¥ 𝒳 𠀀",
    "camelCase PascalCase SCREAMING_SNAKE kebab-case iPhone McDonald's aAaA HTTPServer2",
    "a", " a", "  a", "a ", "ab\n", " \n", "",
)  # fmt: skip

_IDS = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def vocabulary_metadata(
    tokenizer: Tokenizer, size: int, template: str | None = None, stop_ids: Sequence[int] = ()
) -> Metadata:
    """The `tokenizer.*` keys of a GGUF file for a model with `size` embeddings: str, bool, int, and lists of one type.

    Rows of the embedding that are no token's are named as unused. `template`: the default chat template, otherwise the
    tokenizer's own. `stop_ids`: tokens that end a turn.

    Raises:
        InputError: llama.cpp has no tokenizer that would read text as this one does.
    """
    if isinstance(tokenizer, SentencePieceTokenizer):
        candidates = _from_sentencepiece(tokenizer)
    elif isinstance(tokenizer, HuggingFaceTokenizer):
        candidates = _from_huggingface(tokenizer)
    else:
        raise TypeError(f"no files are written of {type(tokenizer).__name__}")
    shared = _shared(tokenizer, template, stop_ids)
    for metadata in candidates:
        metadata = _filled(metadata, size) | shared
        if reads_alike(tokenizer, gguf_tokenizer(metadata, "the GGUF file")):
            return metadata
    raise InputError(
        "the model's tokenizer cuts text in a way that llama.cpp has no name for, so a GGUF file of it would read text "
        "otherwise; export a Hugging Face folder instead"
    )


def reads_alike(tokenizer: Tokenizer, other: Tokenizer) -> bool:
    """Whether both give the same ids to the probing texts, to texts of the vocabulary's own tokens in any order, and to
    special tokens in between."""
    chance = random.Random(0)
    jumbled = [
        tokenizer.decode(chance.choices(range(tokenizer.vocab_size), k=24), skip_special_tokens=True) for _ in range(64)
    ]
    marked = [f"{text}x {text} {text}\n" for text in itertools.islice(tokenizer.added_tokens, 16)]
    return all(
        tokenizer.encode(text, add_special_tokens=whole) == other.encode(text, add_special_tokens=whole)
        for whole, text in [*((False, text) for text in (*PROBES, *jumbled, *marked)), (True, PROBES[0])]
    )


def _from_sentencepiece(tokenizer: SentencePieceTokenizer) -> Iterator[Metadata]:
    spec = tokenizer.spec
    if spec.kind not in (UNIGRAM, BPE):
        raise InputError("the model's tokenizer is SentencePiece's of words or characters, which llama.cpp lacks")
    special = set(tokenizer.added_tokens) - {
        token.content for token in tokenizer.as_fast().get_added_tokens_decoder().values() if not token.special
    }
    kinds = [CONTROL if piece.text in special else piece.kind for piece in spec.pieces]
    metadata: Metadata = {
        "tokenizer.ggml.model": "t5" if spec.kind == UNIGRAM else "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [piece.text for piece in spec.pieces],
        "tokenizer.ggml.scores": [piece.score for piece in spec.pieces],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_space_prefix": spec.add_dummy_prefix,
        "tokenizer.ggml.remove_extra_whitespaces": spec.remove_extra_whitespaces,
    }
    if spec.charsmap:
        metadata["tokenizer.ggml.precompiled_charsmap"] = spec.charsmap
    yield metadata


def _from_huggingface(tokenizer: HuggingFaceTokenizer) -> Iterator[Metadata]:
    state = json.loads(tokenizer.backend.to_str())
    model = state["model"]
    if model["type"] != "BPE":
        raise InputError(f"the model's tokenizer is of the kind {model['type']}, which is not written to GGUF")
    if not model["merges"]:
        raise InputError(
            "the model's tokenizer reads single bytes and merges none, and llama.cpp opens no GGUF file without merges;"
            " export a Hugging Face folder instead"
        )
    merges = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    tokens: list[str | None] = [None] * tokenizer.vocab_size
    for text, i in tokenizer.backend.get_vocab(with_added_tokens=True).items():
        tokens[i] = text
    kinds = [UNUSED if text is None else NORMAL for text in tokens]
    for i, token in tokenizer.backend.get_added_tokens_decoder().items():
        kinds[i] = CONTROL if token.special else USER_DEFINED
    texts = [f"[PAD{i}]" if text is None else text for i, text in enumerate(tokens)]
    if '"ByteLevel"' in json.dumps([state["pre_tokenizer"], state["decoder"]]):
        for name in PRE_TOKENIZERS:
            yield {
                "tokenizer.ggml.model": "gpt2",
                "tokenizer.ggml.pre": name,
                "tokenizer.ggml.tokens": texts,
                "tokenizer.ggml.token_type": kinds,
                "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
            }
        return
    for i, text in enumerate(texts):
        if kinds[i] == NORMAL and len(text) == 6 and text.startswith("<0x") and model.get("byte_fallback"):
            kinds[i] = BYTE
    if model.get("unk_token") is not None:
        kinds[texts.index(model["unk_token"])] = UNKNOWN
    scores = _scores(texts, merges)
    for spaced in (True, False):
        yield {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": texts,
            "tokenizer.ggml.scores": [0.0 if kind != NORMAL else score for kind, score in zip(kinds, scores)],
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.add_space_prefix": spaced,
            "tokenizer.ggml.remove_extra_whitespaces": False,
        }


def _scores(tokens: Sequence[str], merges: Sequence[tuple[str, ...]]) -> list[float]:
    """Scores under which joining the neighbours of the best piece first is joining by the first merge that fits."""
    rank: dict[str, int] = {}
    for i, merge in enumerate(merges):
        rank.setdefault("".join(merge), i)
    return [-float(rank.get(token, len(merges))) for token in tokens]


def _filled(metadata: Metadata, size: int) -> Metadata:
    """The same with unused tokens up to `size`: llama.cpp wants one for each row of the embedding."""
    tokens = metadata["tokenizer.ggml.tokens"]
    spare = range(len(tokens), size)
    more = {"tokenizer.ggml.tokens": [*tokens, *(f"[PAD{i}]" for i in spare)]}
    for key, value in (("token_type", UNUSED), ("scores", 0.0)):
        key = f"tokenizer.ggml.{key}"
        if key in metadata:
            more[key] = [*metadata[key], *(value for _ in spare)]
    return metadata | more


def _shared(tokenizer: Tokenizer, template: str | None, stop_ids: Sequence[int]) -> Metadata:
    plain = tokenizer.encode("a")
    framed = tokenizer.encode("a", add_special_tokens=True)
    keys: Metadata = {
        "tokenizer.ggml.add_bos_token": len(framed) > len(plain) and framed[0] == tokenizer.bos_id,
        "tokenizer.ggml.add_eos_token": len(framed) > len(plain) and framed[-1] == tokenizer.eos_id,
    }
    for name, special in _IDS.items():
        text = tokenizer.special_tokens.get(special)
        i = None if text is None else tokenizer.token_id(text)
        if i is not None:
            keys[f"tokenizer.ggml.{name}_token_id"] = i
    turns = [i for i in stop_ids if i != tokenizer.eos_id]
    if turns:
        keys["tokenizer.ggml.eot_token_id"] = turns[0]
    templates = dict(tokenizer.chat_templates) | ({} if template is None else {"default": template})
    for name, text in templates.items():
        keys["tokenizer.chat_template" + ("" if name == "default" else f".{name}")] = text
    others = [name for name in templates if name != "default"]
    return keys | ({"tokenizer.chat_templates": others} if others else {})
