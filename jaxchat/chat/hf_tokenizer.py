"""Hugging Face's fast tokenizers, read through the `tokenizers` package alone."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxchat.errors import InputError
from jaxchat.files import replacing

if TYPE_CHECKING:
    import tokenizers

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


class HuggingFaceTokenizer:
    """A `tokenizers.Tokenizer` with its special tokens and chat templates; see `chat.tokenizer.Tokenizer`.

    Truncation and padding that the file asks for are switched off: nothing is cut or filled in silence.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special_tokens: Mapping[str, str] | None = None,
        chat_templates: Mapping[str, str] | None = None,
    ):
        backend.no_truncation()
        backend.no_padding()
        _keep_white_space_in_offsets(backend)
        self.backend = backend
        self.special_tokens = dict(special_tokens or {})
        self.chat_templates = dict(chat_templates or {})
        self.added_tokens = {token.content: i for i, token in backend.get_added_tokens_decoder().items()}
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        for name in ("bos_token", "eos_token"):
            text = self.special_tokens.get(name)
            if text is not None and backend.token_to_id(text) is None:
                raise InputError(
                    f"the tokenizer's {name} {text!r} is not in its vocabulary; correct tokenizer_config.json"
                )

    @classmethod
    def load(cls, path: str | Path) -> HuggingFaceTokenizer:
        """From a tokenizer.json; tokenizer_config.json and the chat templates are read from the same folder."""
        import tokenizers

        path = Path(path)
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises plain Exception for all that is wrong with a file
            raise InputError(f"{path} is not a readable tokenizer.json ({error}); download it again") from None
        config = read_config(path.parent)
        _add_declared_tokens(backend, config, path)
        return cls(backend, read_special_tokens(path.parent, config), read_chat_templates(path.parent, config))

    @property
    def bos_id(self) -> int | None:
        return self._special_id("bos_token")

    @property
    def eos_id(self) -> int | None:
        return self._special_id("eos_token")

    @property
    def pad_id(self) -> int:
        return next((i for i in (self._special_id("pad_token"), self.eos_id) if i is not None), 0)

    @property
    def chat_template(self) -> str | None:
        return self.chat_templates.get("default")

    @functools.cached_property
    def fingerprint(self) -> str:
        text = self.backend.to_str() + json.dumps(self.special_tokens, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[list[int]]:
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def token_id(self, text: str) -> int | None:
        return self.backend.token_to_id(text)

    def as_fast(self) -> tokenizers.Tokenizer:
        return self.backend

    def save(self, folder: str | Path) -> None:
        folder = Path(folder)
        with replacing(folder / "tokenizer.json") as file:
            file.write(self.backend.to_str(pretty=True))
        write_config(folder, self.special_tokens)
        write_chat_templates(folder, self.chat_templates)

    def _special_id(self, name: str) -> int | None:
        text = self.special_tokens.get(name)
        return None if text is None else self.backend.token_to_id(text)


def read_config(folder: Path) -> dict[str, Any]:
    return _read_json(folder / "tokenizer_config.json")


def read_special_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and its like from tokenizer_config.json, else from the older special_tokens_map.json."""
    older = _read_json(folder / "special_tokens_map.json")
    found = {}
    for name in SPECIAL_TOKENS:
        value = config.get(name, older.get(name))
        if isinstance(value, dict):  # an AddedToken written out
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found


def read_chat_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Templates by name: from chat_template.jinja and additional_chat_templates/, else from tokenizer_config.json,
    where it is one text or a list of `{"name", "template"}`."""
    templates = {}
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for file in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[file.stem] = file.read_text(encoding="utf-8")
    if templates:
        return templates
    value = config.get("chat_template")
    if isinstance(value, str):
        return {"default": value}
    if isinstance(value, list):
        return {str(row["name"]): str(row["template"]) for row in value}
    return {}


def write_config(folder: Path, special_tokens: Mapping[str, str], **more: Any) -> None:
    """A tokenizer_config.json with which transformers takes tokenizer.json as it is, whatever the model's own class."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **special_tokens,
        **more,
    }
    with replacing(folder / "tokenizer_config.json") as file:
        json.dump(config, file, indent=2, ensure_ascii=False)
        file.write("\n")


def write_chat_templates(folder: Path, templates: Mapping[str, str]) -> None:
    for name, template in templates.items():
        inside = "chat_template.jinja" if name == "default" else f"additional_chat_templates/{name}.jinja"
        # Python's text files would turn a template's own line ends into this system's.
        with replacing(folder / inside, "wb") as file:
            file.write(template.encode())


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); download it again") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; download it again")
    return value


def _add_declared_tokens(backend: tokenizers.Tokenizer, config: Mapping[str, Any], path: Path) -> None:
    """Adds the tokens that only tokenizer_config.json declares, as transformers does, at the ids it declares."""
    import tokenizers

    declared = config.get("added_tokens_decoder") or {}
    for i, row in sorted((int(i), row) for i, row in declared.items()):
        if backend.token_to_id(row["content"]) is None:
            flags = {name: bool(row.get(name)) for name in ("lstrip", "rstrip", "normalized", "single_word", "special")}
            backend.add_tokens([tokenizers.AddedToken(row["content"], **flags)])
        if backend.token_to_id(row["content"]) != i:
            raise InputError(
                f"{path.parent}/tokenizer_config.json gives {row['content']!r} the id {i}, tokenizer.json "
                f"{backend.token_to_id(row['content'])}; the two files do not belong together"
            )


def frame_plain_text(backend: tokenizers.Tokenizer, bos: str | None, eos: str | None) -> None:
    """Makes `encode(add_special_tokens=True)` put `bos` before a text and `eos` after it."""
    from tokenizers import processors

    tokens = [(text, backend.token_to_id(text)) for text in dict.fromkeys((bos, eos)) if text is not None]
    single = [bos, "$A", eos]
    backend.post_processor = processors.TemplateProcessing(
        single=[part for part in single if part is not None], special_tokens=tokens
    )


def _keep_white_space_in_offsets(backend: tokenizers.Tokenizer) -> None:
    """A token's offsets shall hold all its characters: some files ask for offsets without the leading space, which
    would hide that a token reaches over the end of a header. Ids do not change."""
    import tokenizers
    from tokenizers import models

    if backend.post_processor is None:
        return
    state = json.loads(backend.post_processor.__getstate__())
    parts = state["processors"] if state["type"] == "Sequence" else [state]
    if not any(part.get("trim_offsets") for part in parts):
        return
    for part in parts:
        if "trim_offsets" in part:
            part["trim_offsets"] = False
    empty = json.loads(tokenizers.Tokenizer(models.WordLevel({})).to_str())
    backend.post_processor = tokenizers.Tokenizer.from_str(
        json.dumps({**empty, "post_processor": state})
    ).post_processor


def merges_by_score(scores: dict[str, float]) -> list[tuple[str, str]]:
    """The merges of a SentencePiece BPE vocabulary {piece: score}: every split of a piece in two, best piece first."""
    found = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            if piece[:cut] in scores and piece[cut:] in scores:
                found.append((-score, piece[:cut], piece[cut:]))
    found.sort(key=lambda merge: merge[0])
    return [(left, right) for _, left, right in found]
