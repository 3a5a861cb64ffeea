"""One face for every tokenizer: Hugging Face's fast ones, SentencePiece's, and the ones inside GGUF files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jaxchat.errors import InputError
from jaxchat.files import resolve

if TYPE_CHECKING:
    import tokenizers


class Tokenizer(Protocol):
    """Text to token ids and back. Ids are plain ints, offsets are characters of the text."""

    @property
    def vocab_size(self) -> int:
        """The largest id + 1: what an embedding table must hold."""
        ...

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eos_id(self) -> int | None: ...

    @property
    def pad_id(self) -> int:
        """The padding token's id; without one the end of text's, else 0. It is never trained on."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """`bos_token`, `eos_token`, `unk_token`, `pad_token`: the texts of those that exist, which templates name."""
        ...

    @property
    def added_tokens(self) -> Mapping[str, int]:
        """Tokens matched whole wherever their text stands (chat markers and the like), with their ids."""
        ...

    @property
    def chat_templates(self) -> Mapping[str, str]:
        """Jinja chat templates by name: `default` and, in some models, `tool_use`. May be empty."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The default chat template."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides ids (the chat template does not): equal after save and load."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Ids of `text`. Added tokens written in the text become their ids. `add_special_tokens`: as the tokenizer
        itself encodes plain text, with Llama's BOS, say."""
        ...

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[list[int]]: ...

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and the (start, end) characters each stands for, white space included."""
        ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str: ...

    def token_id(self, text: str) -> int | None:
        """The id of the one token spelled `text` in the vocabulary."""
        ...

    def as_fast(self) -> tokenizers.Tokenizer:
        """The same for the `tokenizers` package, and so for all that builds on it."""
        ...

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer's files into `folder` (made if missing), in Hugging Face's layout."""
        ...


def load_tokenizer(source: str | Path) -> Tokenizer:
    """The tokenizer of a Hugging Face folder, a tokenizer.json, a SentencePiece .model or a .gguf file.

    `package:NAME/FILE` names a file inside an installed package. Nothing here needs torch or transformers.
    Raises InputError for what is missing or unreadable.
    """
    path = resolve(source)
    if path.is_dir():
        path = _file_in(path)
    if not path.is_file():
        raise InputError(f"{source}: no such tokenizer file or folder")
    if path.suffix == ".gguf":
        from jaxchat.chat.gguf_tokenizer import load_gguf_tokenizer

        return load_gguf_tokenizer(path)
    if re.search(r"\.model(\.v\d+)?$", path.name):  # Mistral's carry the version of their chat format
        from jaxchat.chat.sentencepiece_tokenizer import SentencePieceTokenizer

        return SentencePieceTokenizer.load(path)
    if path.suffix == ".json":
        from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.load(path)
    raise InputError(f"{source}: a tokenizer is a folder, a tokenizer.json, a SentencePiece .model or a .gguf file")


def _file_in(folder: Path) -> Path:
    """tokenizer.json, which is what others mean, unless it is the copy of a SentencePiece model of ours."""
    from jaxchat.chat.sentencepiece_tokenizer import is_ours

    names = ("tokenizer.model", "tokenizer.json") if is_ours(folder) else ("tokenizer.json", "tokenizer.model")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} holds neither tokenizer.json nor tokenizer.model; name a folder that does")
