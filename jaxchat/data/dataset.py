"""Packed datasets: written once, whole or not at all, and read at random.

A folder of packed rows holds `rows/` (a TFDS array_record dataset with the splits `train` and, where conversations are
held out, `heldout`), `heldout/` (the held-out conversations themselves, a folder that `jaxchat eval --data` takes),
`rejected.jsonl` (the conversations that the chat template refuses, with its reasons) and `stats.json` (what was packed,
how, and what was left out).
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from jaxchat.chat.conversation import Conversation, read_conversations, split_hash
from jaxchat.data import packing
from jaxchat.data.packing import Piece, SplitTurns
from jaxchat.data.rendering import examples, opening
from jaxchat.errors import InputError
from jaxchat.files import new_folder
from jaxchat.progress import Bar

if TYPE_CHECKING:
    from jaxchat.chat.template import ChatFormat

# Held while a dataset is opened and first read: TensorFlow Datasets imports much of itself only then, and two threads
# that do so at once can wait for each other's import locks for ever.
_OPENING = threading.Lock()

Split = Literal["train", "heldout"]
TrainOn = Literal["assistant", "all"]
ARRAYS = ("tokens", "weights", "segments", "positions")


def pack(
    sources: Sequence[Path | str],
    format: ChatFormat,
    out: Path | str,
    *,
    seq_len: int,
    heldout: float = 0.05,
    train_on: TrainOn = "assistant",
    long: SplitTurns | None = None,
    key: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Packs the conversations of `sources` (folders, or .jsonl files) into the new folder `out`.

    A conversation is held out when chat.conversation.split_hash puts it below `heldout`, and so are its duplicates.
    `train_on` "all" trains on every token instead of the assistant's: a language model of whole conversations. `key` is
    kept in the stats: what the rows depend on.

    Returns the stats: `splits` with, for each, `rows`, `fill` (the share of tokens that are no padding),
    `conversations`, `tokens`, `targets` (tokens trained on) and what packing.split counts. Raises InputError when `out`
    is taken, a source is no good or nothing is left to train on.
    """
    from jaxchat.data import builder

    if seq_len < 2:
        raise InputError(f"a row of {seq_len} tokens holds nothing to predict; set a length of at least 2")
    if not 0 <= heldout < 1:
        raise InputError(f"the held-out share is {heldout}; it is at least 0 and below 1")
    long = long or SplitTurns()
    paths = [Path(source) for source in sources]
    with new_folder(out) as folder:
        sizes = _set_aside(paths, heldout, folder / "heldout")
        counts: dict[Split, Counter[str]] = {"train": Counter(), "heldout": Counter()}
        kept = (one for one in _read(paths) if split_hash(one) >= heldout)
        with (
            Bar("packing", sum(sizes.values()), "conversations") as bar,
            open(folder / "rejected.jsonl", "w", encoding="utf-8", newline="\n") as rejected,
        ):
            splits: dict[str, Iterable[dict[str, np.ndarray]]] = {}
            sides: list[tuple[Split, Iterator[Conversation]]] = [
                ("heldout", _read([folder / "heldout"])),
                ("train", kept),
            ]
            for split, conversations in sides:
                work = _Work(format, train_on, seq_len, long, counts[split], rejected, bar)
                rows = work.rows(conversations, sizes[split])
                if first := next(rows, None):
                    splits[split] = chain([first], rows)
            if "train" not in splits:
                rejected.flush()
                raise InputError(_nothing_to_train_on(paths, sizes, counts["train"], folder / "rejected.jsonl"))
            builder.write(splits, seq_len, folder / "rows")
        stats = {
            "version": packing.VERSION,
            "seq_len": seq_len,
            "heldout": heldout,
            "train_on": train_on,
            "long": asdict(long),
            "format": format.fingerprint,
            "tokenizer": format.tokenizer.fingerprint,
            "vocab_size": format.tokenizer.vocab_size,
            "pad_id": format.tokenizer.pad_id,
            "sources": [str(path) for path in paths],
            "splits": {split: _split_stats(counts[split], seq_len) for split in counts},
            "key": dict(key or {}),
            "files": {file.name: file.stat().st_size for file in sorted((folder / "rows").iterdir())},
        }
        with open(folder / "stats.json", "w", encoding="utf-8") as file:
            json.dump(stats, file, ensure_ascii=False, indent=2)
    return stats


def summary(stats: Mapping[str, Any]) -> list[str]:
    """Lines that say what a packing filled, split, cut and dropped."""
    lines = []
    for split, of in stats["splits"].items():
        lines.append(
            f"{split}: {of['conversations']:,} conversations in {of['rows']:,} rows of {stats['seq_len']:,}, "
            f"{of['fill']:.2%} full, {of['targets']:,} of {of['tokens']:,} tokens trained on"
        )
        if of["conversations_rejected"]:
            lines.append(f"{split}: {of['conversations_rejected']:,} conversations refused by the chat template")
        lines.append(
            f"{split}: {of['conversations_split']:,} conversations split in {of['pieces_of_split']:,} pieces "
            f"({of['tokens_repeated']:,} tokens read again as context), {of['turns_broken']:,} turns broken, "
            f"{of['turns_cut']:,} cut ({of['tokens_cut']:,} tokens); dropped for want of anything to train on: "
            f"{of['conversations_untrained']:,} conversations, {of['tokens_untrained']:,} tokens in all"
        )
    return lines


class PackedRows:
    """A folder of packed rows, open for reading. Its rows are read at random, by any number of threads.

    Raises InputError when the folder is none, or its files are not the ones that were written.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        try:
            self.stats: dict[str, Any] = json.loads((self.folder / "stats.json").read_text(encoding="utf-8"))
            files = self.stats["files"]
            self.seq_len: int = self.stats["seq_len"]
            self.pad_id: int = self.stats["pad_id"]
            self.rows: dict[str, int] = {split: of["rows"] for split, of in self.stats["splits"].items()}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{self.folder} is no folder of packed rows ({type(error).__name__}: {error}); pack the data again"
            ) from None
        if self.stats["version"] != packing.VERSION:
            raise InputError(f"{self.folder} was packed by another version of jaxchat; pack the data again")
        for name, size in files.items():
            file = self.folder / "rows" / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                what = "is missing" if found is None else f"has {found:,} bytes of {size:,}"
                raise InputError(f"{file} {what}; remove {self.folder} and pack the data again")
        self._sources: dict[str, Any] = {}

    @property
    def heldout(self) -> Path:
        """The held-out conversations, as a folder of conversations."""
        return self.folder / "heldout"

    def read(self, split: Split, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """`tokens`, `segments`, `positions` int32[B, T] and `weights` float32[B, T] of these rows of a split."""
        try:
            with _OPENING:
                if split not in self._sources:
                    import tensorflow_datasets as tfds

                    builder = tfds.builder_from_directory(str(self.folder / "rows"))
                    source = builder.as_data_source(split)
                    source.__getitems__([0])
                    self._sources[split] = source
            records = self._sources[split].__getitems__([int(row) for row in rows])
            return {name: np.stack([record[name] for record in records]) for name in ARRAYS}
        except Exception as error:
            raise InputError(
                f"{self.folder}: cannot read its {split} rows ({type(error).__name__}: {error}); "
                "remove the folder and pack the data again"
            ) from error


def _read(paths: Sequence[Path]) -> Iterator[Conversation]:
    return chain.from_iterable(map(read_conversations, paths))


def _set_aside(paths: Sequence[Path], heldout: float, folder: Path) -> dict[Split, int]:
    """Writes the held-out conversations as a folder; returns how many fall on either side."""
    folder.mkdir()
    sizes: dict[Split, int] = {"train": 0, "heldout": 0}
    messages = 0
    with open(folder / "conversations.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for conversation in _read(paths):
            side: Split = "heldout" if split_hash(conversation) < heldout else "train"
            sizes[side] += 1
            if side == "heldout":
                messages += len(conversation.messages)
                file.write(json.dumps(conversation.to_json(), ensure_ascii=False) + "\n")
    for name in ("rejected.jsonl", "dropped.jsonl"):
        (folder / name).touch()
    stats = {
        "rows_in": sum(sizes.values()),
        "rows_used": sizes["heldout"],
        "rows_rejected": 0,
        "rows_dropped": sizes["train"],
        "conversations": sizes["heldout"],
        "messages": messages,
    }
    (folder / "stats.json").write_text(json.dumps(stats, indent=2), encoding="utf-8")
    return sizes


@dataclass(frozen=True)
class _Work:
    """One split's way from conversations to rows, counted as it goes."""

    format: ChatFormat
    train_on: TrainOn
    seq_len: int
    long: SplitTurns
    counts: Counter[str]
    rejected: IO[str]
    bar: Bar

    def rows(self, conversations: Iterable[Conversation], total: int) -> Iterator[dict[str, np.ndarray]]:
        for row in packing.pack(self._pieces(conversations, total), self.seq_len):
            self.counts["rows"] += 1
            yield packing.row_arrays(row, self.seq_len, self.format.tokenizer.pad_id)

    def _pieces(self, conversations: Iterable[Conversation], total: int) -> Iterator[Piece]:
        opens_with = opening(self.format)
        for conversation, example in examples(conversations, self.format, total):
            self.counts["conversations"] += 1
            self.bar.advance()
            if isinstance(example, str):
                self.counts["conversations_rejected"] += 1
                row = {"reason": example, "conversation": conversation.to_json()}
                self.rejected.write(json.dumps(row, ensure_ascii=False) + "\n")
                continue
            if self.train_on == "all":
                weights = np.ones(len(example.ids), np.float32)
                weights[:1] = 0
                example = replace(example, weights=weights)
            roles = [message.role for message in conversation.messages]
            yield from packing.split(example, roles, self.seq_len, self.long, self.counts, opens_with)


def _split_stats(counts: Counter[str], seq_len: int) -> dict[str, Any]:
    rows = counts["rows"]
    fill = counts["tokens"] / (rows * seq_len) if rows else 0.0
    return {"rows": rows, "fill": fill, **{name: counts[name] for name in packing.COUNTS}}


def _nothing_to_train_on(
    paths: Sequence[Path], sizes: Mapping[Split, int], counts: Counter[str], rejected: Path
) -> str:
    where = ", ".join(map(str, paths))
    if not sum(sizes.values()):
        return f"{where}: no conversations"
    if not sizes["train"]:
        return f"{where}: all {sizes['heldout']:,} conversations are held out; hold out a smaller share"
    if counts["conversations_rejected"]:
        with open(rejected, encoding="utf-8") as file:
            reason = json.loads(file.readline())["reason"]
        return (
            f"{where}: nothing to train on, {counts['conversations_rejected']:,} of {counts['conversations']:,} "
            f"conversations are refused by the chat template, the first because: {reason}"
        )
    return (
        f"{where}: nothing to train on in {counts['conversations']:,} conversations: no assistant's turn in them has "
        "a weight; train on all tokens instead, or look into the data"
    )
