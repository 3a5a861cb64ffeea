"""The ChatterBot corpus: short questions and answers in many languages, from the `chatterbot-corpus` package (BSD).

YAML files by language: `categories: [...]` and `conversations`, a list of lists of messages. A row is one entry of
`conversations`; a file that is not such YAML is one rejected row. A file is read whole: the largest has some 100 KB.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.corpora import Reader
from jaxchat.corpora.ledger import Found, Ledger, Rejected
from jaxchat.corpora.rows import Source, whole
from jaxchat.errors import InputError


@dataclass(frozen=True)
class Chatterbot(Reader):
    """Without paths, the installed package's files of `language` are read. The first message of an entry is the user's,
    the next the assistant's, and so on. Scalars are taken as they are written: `Yes` and `42` are text."""

    suffixes: ClassVar[tuple[str, ...]] = (".yml", ".yaml")

    language: str = "english"
    """A folder of the package (english, chinese, german ...), or all. Paths, where given, are read instead."""

    def files(self, paths: Sequence[Path]) -> list[Source]:
        if paths:
            return super().files(paths)
        spec = importlib.util.find_spec("chatterbot_corpus")
        if spec is None or spec.origin is None:
            raise InputError("the package chatterbot-corpus is not installed; pip install chatterbot-corpus")
        folder = Path(spec.origin).with_name("data")
        languages = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if self.language not in (*languages, "all"):
            near = difflib.get_close_matches(self.language, languages, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(languages)}, all"
            raise InputError(f"the ChatterBot corpus has no language {self.language}; {hint}")
        inside = folder if self.language == "all" else folder / self.language
        return [
            Source(source.path, f"{source.path.parent.name}/{source.path.name}") for source in super().files([inside])
        ]

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for source in files:
            yield from self._file(source, ledger)

    def _file(self, source: Source, ledger: Ledger) -> Iterator[Found | Rejected]:
        text = whole(source, ledger)
        content, reason = (None, "not UTF-8") if isinstance(text, bytes) else _yaml(text)
        if not isinstance(content, dict) or not isinstance(content.get("conversations"), list):
            ledger.read(source.name, 1)
            row = text.decode(errors="surrogateescape") if isinstance(text, bytes) else text
            yield Rejected(source.name, 1, reason or "no list of `conversations`", row)
            return
        meta = {"categories": content["categories"]} if content.get("categories") else {}
        for position, entry in enumerate(content["conversations"], 1):
            ledger.read(source.name, position)
            if reason := _unusable(entry):
                yield Rejected(source.name, position, reason, entry)
                continue
            messages = tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(entry))
            conversation = Conversation(f"{source.name}:{position}", messages, source="chatterbot", meta=meta)
            yield Found(conversation, {source.name: (position,)})
        rest = {key: value for key, value in content.items() if key not in ("categories", "conversations")}
        if rest:
            position = len(content["conversations"]) + 1
            ledger.read(source.name, position)
            yield Rejected(source.name, position, "neither `categories` nor `conversations`", rest)


def _unusable(entry: Any) -> str:
    if not isinstance(entry, list):
        return "not a list of messages"
    for i, message in enumerate(entry, 1):
        if not isinstance(message, str):
            return f"message {i} is not text (a colon or dash in it wants quotes)"
        if not message.strip():
            return f"message {i} is empty"
    return "one message only, with no answer" if len(entry) < 2 else ""


def _yaml(text: str) -> tuple[Any, str]:
    """The content with every scalar as text, and why there is none."""
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return yaml.load(text, loader), ""
    except (yaml.YAMLError, RecursionError) as error:
        return None, "not YAML: " + " ".join(str(error).split())
