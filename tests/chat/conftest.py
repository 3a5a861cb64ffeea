"""Tokenizers and chat formats for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import tokenizers

from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.chat.sentencepiece_tokenizer import SentencePieceTokenizer
from jaxchat.chat.template import ChatFormat, built_in_template
from jaxchat.chat.tokenizer import Tokenizer, load_tokenizer
from jaxchat.chat.train_sentencepiece import train_sentencepiece

# Half a megabyte of English and code that comes with Python, and some lines that do not.
TEXTS = [*topics.values(), *(f"第{i}次：你好，世界！今天天气很好。" for i in range(50)), "é ü ñ 😀 \t x"]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf: Path) -> HuggingFaceTokenizer:
    tokenizer = load_tokenizer(smollm2_gguf)
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    return tokenizer


@pytest.fixture(scope="session")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return train_sentencepiece(TEXTS, tmp_path_factory.mktemp("unigram") / "out", vocab_size=1000)


@pytest.fixture(scope="session")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return train_sentencepiece(TEXTS, tmp_path_factory.mktemp("bpe") / "out", vocab_size=1000, model="bpe")


@pytest.fixture(params=["smollm2", "unigram", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


def with_tokens(base: HuggingFaceTokenizer, bos: str, eos: str, *more: str) -> HuggingFaceTokenizer:
    """`base` with the special tokens that another family's template writes."""
    backend = tokenizers.Tokenizer.from_str(base.backend.to_str())
    backend.add_special_tokens([bos, eos, *more])
    return HuggingFaceTokenizer(backend, {"bos_token": bos, "eos_token": eos})


_LLAMA3 = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
_GEMMA = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
_MISTRAL = ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")
FORMATS: dict[str, Callable[[HuggingFaceTokenizer], ChatFormat]] = {
    "smollm2": lambda base: ChatFormat(base),
    "chatml": lambda base: ChatFormat(base, built_in_template("chatml")),
    "qwen2_5": lambda base: ChatFormat(base, built_in_template("qwen2_5")),
    "qwen3": lambda base: ChatFormat(base, built_in_template("qwen3")),
    "llama3": lambda base: ChatFormat(with_tokens(base, *_LLAMA3), built_in_template("llama3")),
    "gemma": lambda base: ChatFormat(with_tokens(base, *_GEMMA), built_in_template("gemma")),
    "mistral": lambda base: ChatFormat(with_tokens(base, *_MISTRAL), built_in_template("mistral")),
}


@pytest.fixture(scope="session")
def formats(smollm2: HuggingFaceTokenizer) -> dict[str, ChatFormat]:
    """SmolLM2's own chat format, and each template that ships with the package on SmolLM2's vocabulary."""
    return {name: make(smollm2) for name, make in FORMATS.items()}


@pytest.fixture(params=list(FORMATS))
def chat(request: pytest.FixtureRequest, formats: dict[str, ChatFormat]) -> ChatFormat:
    return formats[request.param]
