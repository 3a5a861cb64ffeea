"""Annotates the messages of conversations and writes a Parquet file beside them, and a summary for the report."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from jaxchat.chat.conversation import Conversation, conversation_files, read_conversations
from jaxchat.curation.annotators import PIPELINES, Annotation, Annotator, choose, make, named_pipelines
from jaxchat.curation.language import UNKNOWN, Language
from jaxchat.curation.step import Kept
from jaxchat.errors import InputError
from jaxchat.files import check_new_folder, new_folder, replacing
from jaxchat.progress import Bar

PARQUET, SUMMARY = "annotations.parquet", "annotations.json"
# Messages annotated at a time, and most words that are counted exactly at a time.
BATCH, MOST_WORDS, TOP = 1000, 1_000_000, 200


class _Item(NamedTuple):
    conversation: str
    message: int
    role: str
    language: str
    text: str


def annotate(source: Path, out: Path | None = None, pipelines: Sequence[str] = PIPELINES) -> dict[str, Any]:
    """Writes annotations.parquet and annotations.json, which is returned, beside the conversations of the folder
    `source`; or, with `out`, into a new folder, with a copy of what is in `source`.

    annotations.parquet has a row a message with text: `id` (CONVERSATION#MESSAGE), `conversation`, `message` (from 0),
    `role`, `language`, `annotator`, `tokens`, `offsets` ([start, end] in characters), `pos` (universal parts of
    speech), `tags` (the annotator's own), `entities` (start, end, type, text); `pos` and `tags` null where it has none.
    `pipelines`: LANGUAGE=PIPELINE, installed spaCy pipelines. A message's language is the one `data clean` wrote, or
    lingua's of its conversation. Raises InputError for what is missing.
    """
    named = named_pipelines(pipelines, "--spacy")
    files = conversation_files(source)
    if find_spec("pyarrow") is None:
        raise InputError("Parquet files are written by pyarrow; pip install 'jaxchat[annotation]'")
    if out is None:
        if source.is_file():
            raise InputError(f"{source} is a file; name the folder it lies in, or a new one with --out")
        return _annotate(source, source, named)
    check_new_folder(out)
    with new_folder(out) as folder:
        for file in sorted({*files, *(source.glob("*.json*") if source.is_dir() else ())}):
            shutil.copy2(file, folder / ("conversations.jsonl" if source.is_file() else file.name))
        return _annotate(folder, folder, named)


def _annotate(source: Path, folder: Path, pipelines: Mapping[str, str]) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet

    entity = pyarrow.struct([("start", "int32"), ("end", "int32"), ("type", "string"), ("text", "string")])
    schema = pyarrow.schema(
        [(name, "string") for name in ("id", "conversation")]
        + [("message", "int32")]
        + [(name, "string") for name in ("role", "language", "annotator")]
        + [("tokens", pyarrow.list_(pyarrow.string())), ("offsets", pyarrow.list_(pyarrow.list_(pyarrow.int32(), 2)))]
        + [("pos", pyarrow.list_(pyarrow.string())), ("tags", pyarrow.list_(pyarrow.string()))]
        + [("entities", pyarrow.list_(entity))]
    )
    totals = _Totals()
    annotators: dict[tuple[str, str], Annotator] = {}
    items = (item for conversation in read_conversations(source) for item in _items(conversation))
    with replacing(folder / PARQUET, "wb") as file, Bar("annotating", unit="messages") as bar:
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            while batch := list(itertools.islice(items, BATCH)):
                rows = _rows(batch, pipelines, annotators, totals)
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                bar.advance(len(batch))
    summary = totals.to_json()
    with replacing(folder / SUMMARY) as file:
        json.dump(summary, file, ensure_ascii=False, indent=2)
    return summary


def _rows(
    batch: Sequence[_Item],
    pipelines: Mapping[str, str],
    annotators: dict[tuple[str, str], Annotator],
    totals: _Totals,
) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, item in enumerate(batch):
        groups[choose(item.text, item.language, pipelines)].append(i)
    rows: list[dict[str, Any]] = [{} for _ in batch]
    for key, members in groups.items():
        if key not in annotators:
            annotators[key] = make(*key)
        annotator = annotators[key]
        start = time.perf_counter()
        found = annotator.annotate([batch[i].text for i in members])
        totals.spent(annotator.name, len(members), sum(len(a.tokens) for a in found), time.perf_counter() - start)
        for i, annotation in zip(members, found, strict=True):
            rows[i] = _row(batch[i], annotator.name, annotation)
            totals.add(rows[i])
    return rows


def _row(item: _Item, annotator: str, found: Annotation) -> dict[str, Any]:
    return {
        "id": f"{item.conversation}#{item.message}",
        "conversation": item.conversation,
        "message": item.message,
        "role": item.role,
        "language": item.language,
        "annotator": annotator,
        "tokens": [item.text[start:end] for start, end in found.tokens],
        "offsets": [[start, end] for start, end in found.tokens],
        "pos": found.pos,
        "tags": found.tags,
        "entities": [
            {"start": start, "end": end, "type": kind, "text": item.text[start:end]}
            for start, end, kind in found.entities
        ],
    }


class _Totals:
    """Numbers of all messages. Words are counted in lower case; of very many, the rarest are forgotten now and then."""

    def __init__(self) -> None:
        self.annotators: dict[str, list[float]] = {}
        self.languages: Counter[str] = Counter()
        self.words: dict[str, Counter[str]] = defaultdict(Counter)
        self.pos: dict[str, Counter[str]] = defaultdict(Counter)
        self.entities: Counter[str] = Counter()
        self.names: dict[str, Counter[str]] = defaultdict(Counter)
        self.forgotten: set[str] = set()

    def spent(self, annotator: str, messages: int, tokens: int, seconds: float) -> None:
        sums = self.annotators.setdefault(annotator, [0, 0, 0.0])
        for i, n in enumerate((messages, tokens, seconds)):
            sums[i] += n

    def add(self, row: Mapping[str, Any]) -> None:
        language = row["language"]
        self.languages[language] += 1
        words = self.words[language]
        words.update(token.lower() for token in row["tokens"] if any(map(str.isalpha, token)))
        self.pos[language].update(row["pos"] or ())
        for entity in row["entities"]:
            self.entities[entity["type"]] += 1
            self.names[entity["type"]][" ".join(entity["text"].split())] += 1
        for name, counter in ((language, words), *self.names.items()):
            if len(counter) > MOST_WORDS:
                self.forgotten.add(name)
                for word in [word for word, n in counter.items() if n == 1]:
                    del counter[word]

    def to_json(self) -> dict[str, Any]:
        return {
            "messages": sum(self.languages.values()),
            "tokens": int(sum(tokens for _, tokens, _ in self.annotators.values())),
            "annotators": {
                name: {
                    "messages": int(messages),
                    "tokens": int(tokens),
                    "seconds": round(seconds, 3),
                    "tokens_per_second": round(tokens / seconds) if seconds else None,
                }
                for name, (messages, tokens, seconds) in sorted(self.annotators.items())
            },
            "languages": _top(self.languages),
            "vocabulary": {
                language: {"distinct": len(words), "at_least": language in self.forgotten, "top": _top(words)}
                for language, words in sorted(self.words.items())
            },
            "pos": {language: _top(counts) for language, counts in sorted(self.pos.items()) if counts},
            "entities": _top(self.entities),
            "names": {kind: dict(list(_top(self.names[kind]).items())[:20]) for kind in _top(self.entities)},
        }


def _top(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP])


def _items(conversation: Conversation) -> Iterator[_Item]:
    language = _language(conversation)
    for i, message in enumerate(conversation.messages):
        if message.content and message.content.strip():
            own = message.extra.get("language")
            known = own if isinstance(own, str) and own != UNKNOWN else language
            yield _Item(conversation.id, i, message.role, known, message.content)


def _language(conversation: Conversation) -> str:
    known = conversation.meta.get("language")
    if isinstance(known, str) and known:
        return known
    if find_spec("lingua") is None:
        raise InputError("languages are told apart by lingua; pip install 'jaxchat[curation]'")
    outcome = Language().apply(conversation)
    assert isinstance(outcome, Kept)
    return str(outcome.conversation.meta["language"])


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal: what each annotator did and how fast, and what was found most."""
    lines = [
        f"{name}: {row['messages']:,} messages, {row['tokens']:,} tokens, {row['tokens_per_second'] or 0:,} tokens/s"
        for name, row in summary["annotators"].items()
    ]
    if summary["entities"]:
        found = ", ".join(f"{kind} {n:,}" for kind, n in list(summary["entities"].items())[:8])
        lines.append(f"entities: {found}")
    return lines
