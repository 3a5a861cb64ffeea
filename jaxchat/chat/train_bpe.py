"""Training a byte-level BPE tokenizer for chat, Hugging Face's own kind, from text alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer
from jaxchat.chat.template import built_in_template
from jaxchat.chat.train_sentencepiece import CHAT_TOKENS, SPECIAL_TOKENS
from jaxchat.errors import InputError
from jaxchat.files import new_folder
from jaxchat.progress import Bar

_BYTES = 256
# Words with the space or sign before them, figures by threes, runs of signs, runs of space: the classes that GPT-4's
# tokenizer cuts by (https://github.com/openai/tiktoken), without its English contractions.
_WORDS = r"[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"


def train_bpe(
    texts: Iterable[str],
    out: str | Path,
    *,
    vocab_size: int,
    chat_tokens: tuple[str, ...] = CHAT_TOKENS,
    template: str | None = None,
    phrases: bool = False,
) -> HuggingFaceTokenizer:
    """Trains on `texts`, saves a tokenizer folder at `out` (which must be free) and returns the tokenizer.

    Every text comes back exactly as it went in, for it is read as bytes: there is no unknown token. A new line is
    always a token of its own, so that none reaches from a header into a reply. The same texts give the same file.

    `vocab_size` counts everything: 4 special tokens, `chat_tokens`, 256 bytes and the learned pieces. `template`: the
    chat template saved with it; ChatML if None. `phrases`: pieces may span words.
    Raises InputError for no text, or a vocabulary larger or smaller than the text can fill.
    """
    import tokenizers
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    reserved = [*SPECIAL_TOKENS.values(), *chat_tokens]
    if vocab_size <= len(reserved) + _BYTES:
        raise InputError(
            f"a vocabulary of {vocab_size} has no room beside {len(reserved) + _BYTES} reserved tokens; ask for more"
        )
    backend = tokenizers.Tokenizer(models.BPE())
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in ([r"\n"] if phrases else [r"\n", _WORDS])]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=reserved,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=32,
        show_progress=False,
    )
    with new_folder(out) as folder, Bar("reading text for the tokenizer", unit="texts") as bar:

        def counted() -> Iterable[str]:
            for text in texts:
                if text:
                    bar.advance()
                    yield text
            bar.write(f"training a BPE vocabulary of {vocab_size:,}, which shows no progress")

        backend.train_from_iterator(counted(), trainer)
        if not bar.done:
            raise InputError("there is no text to train a tokenizer on")
        if backend.get_vocab_size() < vocab_size:
            raise InputError(
                f"the text is too small for a vocabulary of {vocab_size}; ask for {backend.get_vocab_size()} or fewer"
            )
        tokenizer = HuggingFaceTokenizer(backend, SPECIAL_TOKENS, {"default": template or built_in_template("chatml")})
        tokenizer.save(folder)
    return tokenizer
