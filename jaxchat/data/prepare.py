"""From what a config names to packed rows, once: a cache keyed by all that the rows depend on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxchat.chat.conversation import conversation_files
from jaxchat.corpora import make_reader
from jaxchat.corpora.importing import import_corpus
from jaxchat.data import packing
from jaxchat.data.config import Corpus, DataConfig, Folder, Packed
from jaxchat.data.dataset import PackedRows, pack, summary
from jaxchat.errors import InputError
from jaxchat.files import resolve

if TYPE_CHECKING:
    from jaxchat.chat.template import ChatFormat


def default_cache() -> Path:
    return Path(os.environ.get("JAXCHAT_CACHE") or Path("~/.cache/jaxchat").expanduser())


def prepare(config: DataConfig, format: ChatFormat, cache_dir: Path | None = None) -> list[PackedRows]:
    """The rows of each of the config's sources: found in the cache, or imported and packed into it now.

    What is packed is summed up on standard error. Processes of one machine that ask for the same rows at once make them
    once. `cache_dir` overrules the config's.
    Raises InputError for a source that cannot be read, and for packed rows of another tokenizer, template or length.
    """
    cache = resolve(cache_dir or config.cache or default_cache())
    return [_packed(source, config, format, cache) for source in config.sources]


def conversations(source: Corpus, cache: Path) -> Path:
    """The folder of conversations of a corpus: imported into the cache unless it is there."""
    reader = make_reader(source.format, dict(source.options))
    paths = [resolve(path) for path in source.paths]
    files = reader.files(paths)
    key = {"reader": source.format, "version": reader.version, "options": asdict(reader)}
    content = fingerprint((file.path for file in files), [file.name for file in files])
    folder = cache / "conversations" / f"{_file_name(source.format)}-{_digest({**key, 'content': content})}"
    with _one_at_a_time(folder):
        if not folder.exists():
            import_corpus(source.format, paths, folder, reader)
    return folder


def fingerprint(files: Iterable[Path], names: Iterable[str] = ()) -> str:
    """A hash of the contents of files, and of names given to them."""
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        digest.update(name.encode() + b"\0")
    for path in files:
        try:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; name a file that can be read") from None
    return digest.hexdigest()


def _packed(source: Corpus | Folder | Packed, config: DataConfig, format: ChatFormat, cache: Path) -> PackedRows:
    if isinstance(source, Packed):
        return _fitting(PackedRows(resolve(source.path)), config, format)
    folder = conversations(source, cache) if isinstance(source, Corpus) else resolve(source.path)
    key = {
        "content": fingerprint(conversation_files(folder)),
        "format": format.fingerprint,
        "seq_len": config.seq_len,
        "heldout": config.heldout,
        "train_on": config.train_on,
        "long": asdict(config.long),
        "version": packing.VERSION,
    }
    name = _file_name(source.format) if isinstance(source, Corpus) else folder.stem
    out = cache / "packed" / f"{name}-{config.seq_len}-{_digest(key)}"
    with _one_at_a_time(out):
        if not out.exists():
            stats = pack(
                [folder],
                format,
                out,
                seq_len=config.seq_len,
                heldout=config.heldout,
                train_on=config.train_on,
                long=config.long,
                key=key,
            )
            print(*summary(stats), sep="\n", file=sys.stderr)
    return PackedRows(out)


def _file_name(format: str) -> str:
    """A format as a part of a file's name: that of hf:ORG/NAME has a colon and a slash."""
    return re.sub(r"[^\w.-]+", "-", format)


def _fitting(packed: PackedRows, config: DataConfig, format: ChatFormat) -> PackedRows:
    if packed.seq_len != config.seq_len:
        raise InputError(
            f"{packed.folder} holds rows of {packed.seq_len} tokens and data.seq_len is {config.seq_len}; "
            "set it to that, or pack the data again"
        )
    for what, ours in (("tokenizer", format.tokenizer.fingerprint), ("format", format.fingerprint)):
        if packed.stats[what] != ours:
            name = "tokenizer" if what == "tokenizer" else "chat template"
            raise InputError(f"{packed.folder} was packed with another {name} than this run's; pack the data again")
    return packed


def _digest(key: Any) -> str:
    return hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Holds the lock of what is to be written as `folder`; the system lets go of it when a process dies."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = open(folder.with_name(f".{folder.name}.lock"), "w")
    except OSError as error:
        raise InputError(f"cannot write to the cache {folder.parent}: {error.strerror}; set another") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
