"""SentencePiece tokenizers (.model files) behind the common face, and their form for Hugging Face's tooling."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxchat.chat import sentencepiece_model as spm
from jaxchat.chat.hf_tokenizer import (
    SPECIAL_TOKENS,
    frame_plain_text,
    merges_by_score,
    read_chat_templates,
    read_config,
    read_special_tokens,
    write_chat_templates,
    write_config,
)
from jaxchat.errors import InputError
from jaxchat.files import replacing

if TYPE_CHECKING:
    import tokenizers

# A user-defined piece written like a tag or a marker is a special token; a new line or an emoji is not.
_MARKER = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")
# The key of tokenizer_config.json which says that the .model file is the tokenizer, tokenizer.json a copy for others.
_OURS = "sentencepiece"
# Pieces that text may be cut into; for the others (bytes, unknown) the copy has to be told so by a score.
_SPELLED = (spm.NORMAL, spm.USER_DEFINED, spm.CONTROL)
_NEVER = -float(1 << 20)


class SentencePieceTokenizer:
    """A SentencePiece model with its special tokens and chat templates; see `chat.tokenizer.Tokenizer`.

    Text without control and chat tokens gets exactly the processor's ids. SentencePiece itself never reads control
    tokens (BOS, EOS) from text; here they become their ids wherever they are written, the text between them is encoded
    piece by piece, and a model that puts a space before every text puts it at the very beginning only.
    """

    def __init__(
        self,
        model: bytes,
        special_tokens: Mapping[str, str] | None = None,
        chat_templates: Mapping[str, str] | None = None,
        *,
        add_bos: bool = False,
        add_eos: bool = False,
        path: Path | None = None,
    ):
        import sentencepiece

        self.path = path or Path("tokenizer.model")
        self.spec = spm.SentencePieceModel.parse(model, self.path)
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            self._inner = self.processor
            if self.spec.add_dummy_prefix:
                inner = spm.without_dummy_prefix(model)
                self._inner = sentencepiece.SentencePieceProcessor(model_proto=inner)
        except (RuntimeError, OSError) as error:
            raise InputError(f"{self.path} is not a readable SentencePiece model ({error})") from None
        self._model = model
        self._add = (add_bos, add_eos)
        self.vocab_size = len(self.spec.pieces)
        self.special_tokens = dict(special_tokens if special_tokens is not None else self._own_special_tokens())
        self.chat_templates = dict(chat_templates or {})
        self._control = {p.text: i for i, p in enumerate(self.spec.pieces) if p.kind == spm.CONTROL}
        user_defined = {p.text: i for i, p in enumerate(self.spec.pieces) if p.kind == spm.USER_DEFINED}
        self.added_tokens = {**self._control, **user_defined}
        self._special_ids = {i for text, i in self.added_tokens.items() if i in self._control.values() or _marks(text)}
        self._cut = dict(self._control)
        if not (self.spec.add_dummy_prefix or self.spec.remove_extra_whitespaces or self.spec.charsmap):
            # Cut out beforehand, as Hugging Face's copy does, so that text after them is read like text alone.
            self._cut |= {text: i for text, i in user_defined.items() if _marks(text)}
        self._split = re.compile("|".join(map(re.escape, sorted(self._cut, key=len, reverse=True))) or "(?!)")

    @classmethod
    def load(cls, path: str | Path) -> SentencePieceTokenizer:
        """From a .model file; special tokens and chat templates from the files beside it, where there are any."""
        path = Path(path)
        config = read_config(path.parent)
        special_tokens = read_special_tokens(path.parent, config) or None
        try:
            model = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
        flags = {name: bool(config.get(f"{name}_token")) for name in ("add_bos", "add_eos")}
        return cls(model, special_tokens, read_chat_templates(path.parent, config), path=path, **flags)

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
        digest = hashlib.blake2b(self._model, digest_size=16)
        digest.update(json.dumps([self.special_tokens, self._add], sort_keys=True).encode())
        return digest.hexdigest()

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        if self._split.search(text) is None:
            ids = self.processor.encode(text)
        else:
            ids = self.encode_with_offsets(text)[0]
        return self._framed(ids) if add_special_tokens else ids

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[list[int]]:
        plain = [i for i, text in enumerate(texts) if self._split.search(text) is None]
        found = dict(zip(plain, self.processor.encode([texts[i] for i in plain]), strict=True))
        rows = [found[i] if i in found else self.encode(text) for i, text in enumerate(texts)]
        return [self._framed(ids) for ids in rows] if add_special_tokens else rows

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        at = 0
        for match in self._split.finditer(text):
            self._append(text, at, match.start(), ids, offsets)
            ids.append(self._cut[match.group()])
            offsets.append(match.span())
            at = match.end()
        self._append(text, at, len(text), ids, offsets)
        # The bytes of a character that has no piece of its own share its offsets, of which SentencePiece gives the
        # last byte alone; what stands for nothing in the text (a prefix space) goes with what follows.
        for i in range(len(offsets) - 2, -1, -1):
            if offsets[i][0] == offsets[i][1] == offsets[i + 1][0]:
                offsets[i] = offsets[i + 1]
        return ids, offsets

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        parts: list[str] = []
        run: list[int] = []
        control = set(self._control.values())
        for i in ids:
            i = int(i)
            if i in control or (skip_special_tokens and i in self._special_ids):
                self._flush(run, parts)
                if not skip_special_tokens:
                    parts.append(self.spec.pieces[i].text)
            else:
                run.append(i)
        self._flush(run, parts)
        return "".join(parts)

    def token_id(self, text: str) -> int | None:
        i = self.processor.piece_to_id(text)
        return i if self.spec.pieces[i].text == text else None

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.model, which `load_tokenizer` reads, and its copy as a tokenizer.json, which transformers
        reads. The copy's ids are the same; but of a unigram model that others trained, of two equally likely cuts (a
        long run of one character) it may take the other."""
        folder = Path(folder)
        with replacing(folder / "tokenizer.model", "wb") as file:
            file.write(self._model)
        if self.spec.kind in (spm.UNIGRAM, spm.BPE):
            with replacing(folder / "tokenizer.json") as file:
                file.write(self.as_fast().to_str(pretty=True))
        flags = {f"{name}_token": True for name, on in zip(("add_bos", "add_eos"), self._add, strict=True) if on}
        write_config(folder, self.special_tokens, **{_OURS: "tokenizer.model"}, **flags)
        write_chat_templates(folder, self.chat_templates)

    def as_fast(self) -> tokenizers.Tokenizer:
        """The same tokenizer for the `tokenizers` package, of a unigram or BPE model."""
        import tokenizers

        fast = fast_backend(self.spec)
        fast.add_tokens(
            [
                tokenizers.AddedToken(text, normalized=False, special=i in self._special_ids)
                for text, i in self.added_tokens.items()
            ]
        )
        add_bos, add_eos = self._add
        if add_bos or add_eos:
            special = self.special_tokens
            frame_plain_text(
                fast, special.get("bos_token") if add_bos else None, special.get("eos_token") if add_eos else None
            )
        return fast

    def _own_special_tokens(self) -> dict[str, str]:
        processor = self.processor
        ids = (processor.bos_id(), processor.eos_id(), processor.unk_id(), processor.pad_id())
        return {name: self.spec.pieces[i].text for name, i in zip(SPECIAL_TOKENS, ids, strict=True) if i >= 0}

    def _special_id(self, name: str) -> int | None:
        text = self.special_tokens.get(name)
        return None if text is None else self.token_id(text)

    def _framed(self, ids: list[int]) -> list[int]:
        before = [self.bos_id] if self._add[0] and self.bos_id is not None else []
        after = [self.eos_id] if self._add[1] and self.eos_id is not None else []
        return [*before, *ids, *after]

    def _append(self, text: str, start: int, end: int, ids: list[int], offsets: list[tuple[int, int]]) -> None:
        if start < end:
            mapping = (self._inner if start else self.processor).encode_as_offset_mapping(text[start:end])
            ids += mapping["ids"]
            offsets += [(start + a, start + b) for a, b in mapping["offsets"]]

    def _flush(self, run: list[int], parts: list[str]) -> None:
        if run:
            parts.append((self._inner if parts else self.processor).decode(run))
            run.clear()


def fast_backend(spec: spm.SentencePieceModel) -> tokenizers.Tokenizer:
    """A unigram or BPE model for the `tokenizers` package, without its added tokens."""
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    unknown = next(i for i, p in enumerate(spec.pieces) if p.kind == spm.UNKNOWN)
    if spec.kind == spm.UNIGRAM:
        vocab = [(p.text, p.score if p.kind in _SPELLED else _NEVER) for p in spec.pieces]
        model: Any = models.Unigram(vocab, unk_id=unknown, byte_fallback=spec.byte_fallback)
    else:
        merges = merges_by_score({p.text: p.score for p in spec.pieces if p.kind == spm.NORMAL})
        ids = {p.text: i for i, p in enumerate(spec.pieces)}
        model = models.BPE(
            ids,
            merges,
            unk_token=spec.pieces[unknown].text,
            fuse_unk=True,
            byte_fallback=spec.byte_fallback,
        )
    fast = tokenizers.Tokenizer(model)
    steps: list[Any] = [normalizers.Precompiled(spec.charsmap)] if spec.charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    fast.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    if spec.add_dummy_prefix:
        fast.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    strip = [decoders.Strip(" ", 1, 0)] if spec.add_dummy_prefix else []
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return fast


def is_ours(folder: Path) -> bool:
    """Whether the .model file in `folder` is the tokenizer that `SentencePieceTokenizer.save` wrote there."""
    return read_config(folder).get(_OURS) == "tokenizer.model" and (folder / "tokenizer.model").is_file()


def _marks(text: str) -> bool:
    return _MARKER.fullmatch(text) is not None
