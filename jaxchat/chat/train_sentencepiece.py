"""Training a SentencePiece tokenizer for chat from text alone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from jaxchat.chat import sentencepiece_model as spm
from jaxchat.chat.sentencepiece_tokenizer import SentencePieceTokenizer
from jaxchat.chat.template import built_in_template
from jaxchat.errors import InputError
from jaxchat.files import new_folder
from jaxchat.progress import Bar

# Ids 0 to 3. Unlike `<s>`, no web page or programme spells these.
SPECIAL_TOKENS = {"pad_token": "<|pad|>", "eos_token": "<|eos|>", "bos_token": "<|bos|>", "unk_token": "<|unk|>"}
CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
_BYTES = 256
# Log probabilities are rounded to 64ths. SentencePiece adds them up in 32 bits, its copy for Hugging Face in 64: sums
# of 64ths are exact in both up to 262,144 (some 25,000 tokens), and so both see the same ties and break them alike.
_GRAIN = 64
# What the names of byte pieces (<0x0A>) are spelled with. With a piece for each of these, such a name in a text is
# never cheaper as that byte than as characters, in the copy either.
_BYTE_NAMES = "<>x0123456789ABCDEF"
# How SentencePiece writes a space, which in bytes would come back as this sign: text may have none to learn it from.
_SPACE = "\u2581"
# Fixed, for sums are formed thread by thread: with the machine's own number, its vocabulary would be its own too.
_THREADS = 8


def train_sentencepiece(
    texts: Iterable[str],
    out: str | Path,
    *,
    vocab_size: int,
    model: Literal["unigram", "bpe"] = "unigram",
    chat_tokens: tuple[str, ...] = CHAT_TOKENS,
    template: str | None = None,
    character_coverage: float = 0.9995,
    max_sentences: int = 2_000_000,
    phrases: bool = False,
) -> SentencePieceTokenizer:
    """Trains on `texts`, saves a tokenizer folder at `out` (which must be free) and returns the tokenizer.

    Every text comes back exactly as it went in: nothing is normalised, runs of white space are kept, and characters too
    rare for a piece of their own are spelled in bytes, so that there is no unknown token. A new line is always a token
    of its own, so that none reaches from a header into a reply. The same texts give the same file.

    `vocab_size` counts everything: 4 special tokens, `chat_tokens`, the new line, 256 bytes and the learned pieces.
    `template`: the chat template saved with it; ChatML if None. `max_sentences`: lines drawn at random from more.
    `phrases`: pieces may span words (Liu et al. 2025, SuperBPE), which on talk that repeats itself reads a quarter more
    text a token; training is slower, so draw fewer lines.
    Raises InputError for no text, or a vocabulary larger or smaller than the text can fill.
    """
    import sentencepiece

    reserved = len(SPECIAL_TOKENS) + len(chat_tokens) + 1 + _BYTES
    if vocab_size <= reserved:
        raise InputError(f"a vocabulary of {vocab_size} has no room beside {reserved} reserved tokens; ask for more")
    if model not in ("unigram", "bpe"):
        raise InputError(f"SentencePiece trains unigram or bpe models here, not {model!r}")
    written = io.BytesIO()
    special: dict[str, Any] = {name.replace("_token", "_piece"): text for name, text in SPECIAL_TOKENS.items()}
    special |= {name.replace("_token", "_id"): i for i, name in enumerate(SPECIAL_TOKENS)}
    with new_folder(out) as folder, Bar("reading text for the tokenizer", unit="lines") as bar:
        lines = _Lines(texts, bar, f"training a {model} vocabulary of {vocab_size:,}, which shows no progress")
        try:
            sentencepiece.set_random_generator_seed(0)
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=written,
                model_type=model,
                vocab_size=vocab_size,
                byte_fallback=True,
                character_coverage=character_coverage,
                required_chars=_BYTE_NAMES + _SPACE,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                user_defined_symbols=[*chat_tokens, "\n"],
                input_sentence_size=max_sentences,
                shuffle_input_sentence=True,
                max_sentence_length=1 << 20,
                split_by_whitespace=not phrases,
                max_sentencepiece_length=32 if phrases else 16,
                num_threads=_THREADS,
                minloglevel=2,
                **special,
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(_reason(str(error), vocab_size, bar.done)) from None
        tokenizer = SentencePieceTokenizer(
            spm.with_pieces(written.getvalue(), _rounded(model)),
            SPECIAL_TOKENS,
            {"default": template or built_in_template("chatml")},
        )
        tokenizer.save(folder)
    return tokenizer


def _rounded(model: str) -> Callable[[spm.Piece], spm.Piece]:
    """What makes a piece's score one that both ways of adding up agree on, see _GRAIN.

    A new line, whose score as a user-defined symbol would be no such number, becomes a piece like others: it still
    stands alone, for training saw none inside a line.
    """

    def change(piece: spm.Piece) -> spm.Piece:
        if piece.text == "\n":
            return spm.Piece(piece.text, 0.0, spm.NORMAL)
        if model == "unigram" and piece.kind == spm.NORMAL:
            return spm.Piece(piece.text, round(piece.score * _GRAIN) / _GRAIN, piece.kind)
        return piece

    return change


class _Lines:
    """The lines of texts, counted: a new line is a token anyway, and SentencePiece works line by line."""

    def __init__(self, texts: Iterable[str], bar: Bar, then: str):
        self.texts, self.bar, self.then = texts, bar, then

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            for line in text.split("\n"):
                # SentencePiece takes NUL for the end of a sentence.
                line = line.replace("\0", "")
                if line:
                    self.bar.advance()
                    yield line
        self.bar.write(self.then)


def _reason(error: str, vocab_size: int, lines: int) -> str:
    """SentencePiece's complaint as a sentence about what to change."""
    if lines == 0:
        return "there is no text to train a tokenizer on"
    limit = re.search(r"set it to a value <= (\d+)", error)
    if limit:
        return f"the text is too small for a vocabulary of {vocab_size}; ask for {limit.group(1)} or fewer"
    needed = re.search(r"Vocabulary size is smaller than required_chars. \d+ vs (\d+)", error)
    if needed:
        return (
            f"the text's characters alone need more than a vocabulary of {vocab_size}; ask for over {needed.group(1)}"
        )
    return f"SentencePiece cannot train a vocabulary of {vocab_size} on {lines} lines ({error})"
