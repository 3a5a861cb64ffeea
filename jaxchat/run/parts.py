"""What a run is made of beside its config: the shape of its model, its tokenizer and chat format, its rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from jax.sharding import Mesh, NamedSharding

from jaxchat.data.config import Corpus, DataConfig, Folder
from jaxchat.errors import InputError
from jaxchat.files import resolve
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Params
from jaxchat.run.config import NewTokenizer, Pretrained, Train
from jaxchat.run.program import check_shape
from jaxchat.sharding import Rules
from jaxchat.train.folder import RunFolder

if TYPE_CHECKING:
    from jaxchat.chat.template import ChatFormat
    from jaxchat.chat.tokenizer import Tokenizer
    from jaxchat.data.pipeline import Pipeline


@dataclass(frozen=True)
class Parts:
    """What a run trains. params: of a pretrained model, on the mesh, when the run begins with them."""

    config: DecoderConfig
    tokenizer: Tokenizer
    format: ChatFormat
    params: Params | None = None


def begin(config: Train, mesh: Mesh) -> Parts:
    """The parts of a run that has no checkpoint yet, from its config."""
    from jaxchat.chat.template import ChatFormat, load_template
    from jaxchat.chat.tokenizer import load_tokenizer
    from jaxchat.hub.open import open_config, open_model

    pretrained = config.model if isinstance(config.model, Pretrained) else None
    model = open_config(pretrained.source) if pretrained else cast(DecoderConfig, config.model)
    check_shape(config, model, mesh)  # before anything is read for minutes
    params, tokenizer = None, None
    if pretrained:
        opened = open_model(pretrained.source, mesh)
        params, tokenizer = opened.params, opened.tokenizer
    if isinstance(config.tokenizer, NewTokenizer):
        if pretrained:
            raise InputError("a pretrained model needs its own tokenizer; set --tokenizer None")
        tokenizer = _train_tokenizer(config.tokenizer, model, config.data)
    elif config.tokenizer is not None:
        tokenizer = load_tokenizer(config.tokenizer)
    elif tokenizer is None:
        raise InputError("a model trained from scratch has no tokenizer of its own; set --tokenizer")
    if config.template is not None:
        tokenizer.chat_templates = {"default": load_template(config.template)}  # type: ignore[misc]  # and saved with it
    return Parts(model, tokenizer, ChatFormat(tokenizer), params)


def go_on(folder: RunFolder) -> Parts:
    """The same parts as the run began with, the weights excepted: those are in its checkpoint."""
    from jaxchat.chat.template import ChatFormat
    from jaxchat.chat.tokenizer import load_tokenizer
    from jaxchat.hub.open import open_config

    tokenizer = load_tokenizer(folder.tokenizer)
    return Parts(open_config(str(folder.path)), tokenizer, ChatFormat(tokenizer))


def _train_tokenizer(kind: NewTokenizer, model: DecoderConfig, data: DataConfig) -> Tokenizer:
    """Trained on what the packed rows are made from. The same data give the same tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "new"
        if kind.kind == "bpe":
            from jaxchat.chat.train_bpe import train_bpe

            return train_bpe(_texts(data), out, vocab_size=model.vocab_size)
        from jaxchat.chat.train_sentencepiece import train_sentencepiece

        return train_sentencepiece(_texts(data), out, vocab_size=model.vocab_size, model=kind.model)


def _texts(data: DataConfig) -> Iterator[str]:
    """What is said in the conversations that are not held out."""
    from jaxchat.chat.conversation import read_conversations, split_hash
    from jaxchat.data.prepare import conversations, default_cache

    for source in data.sources:
        if isinstance(source, Corpus):
            folder = conversations(source, data.cache or default_cache())
        elif isinstance(source, Folder):
            folder = resolve(source.path)
        else:
            raise InputError(f"{source.path} is packed, for a tokenizer of its own; set --tokenizer to that one")
        for conversation in read_conversations(folder):
            if split_hash(conversation) >= data.heldout:
                yield from (message.content for message in conversation.messages if message.content)


def open_pipeline(config: Train, parts: Parts, mesh: Mesh) -> Pipeline:
    from jaxchat.data.pipeline import Pipeline, prepare, process_slice

    packed = prepare(config.data, parts.format)
    rows = NamedSharding(mesh, Rules().activation("batch", "sequence"))
    index, count = process_slice(rows, config.data.batch, config.data.seq_len)
    return Pipeline(
        packed,
        config.data.weights,
        seed=config.seed,
        batch=config.data.batch,
        process_index=index,
        process_count=count,
    )
