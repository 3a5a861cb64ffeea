"""A conversation with a model on a terminal, or through a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.chat.template import ChatFormat
from jaxchat.errors import InputError
from jaxchat.sample.engine import Engine
from jaxchat.sample.generate import generate
from jaxchat.sample.methods import Sampling

HELP = """/reset            begin a new conversation, the system message stays
/system TEXT      begin a new conversation with this system message (none without TEXT)
/save FILE        add the conversation to FILE, a line of JSON as jaxchat reads it
/help             this
/exit             leave (also the end of input)
Ctrl-C stops an answer; what was said of it counts."""


@dataclass
class Chat:
    """One conversation and who answers in it. messages: what was said so far, the system message included."""

    engine: Engine
    format: ChatFormat
    sampling: Sampling
    system: str | None = None
    messages: list[Message] = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything but the system message."""
        self.messages = [Message("system", self.system)] if self.system else []

    def answer(self, text: str, hear: Callable[[str], None]) -> int:
        """Adds what the user says and the model's answer, of which `hear` is told as it is made.

        Where the conversation has outgrown the model's context, the model no longer sees its oldest turns; returns how
        many messages those are. Ctrl-C ends the answer early. Raises InputError for a message that alone is too long,
        which is then not part of the conversation.
        """
        asked = [*self.messages, Message("user", text)]
        prompt, unseen = self._prompt(asked)
        said: list[str] = []

        def keep(_: int, more: str) -> None:
            said.append(more)
            hear(more)

        try:
            generate(self.engine, [prompt], self.sampling, keep)
        except KeyboardInterrupt:
            hear(" [stopped]")
        self.messages = [*asked, Message("assistant", "".join(said))]
        return unseen

    def _prompt(self, messages: list[Message]) -> tuple[list[int], int]:
        """Ids of as many of the newest messages as leave room for an answer, and the number left out."""
        context = self.engine.context
        room = context - min(self.sampling.max_tokens, context // 2)
        opening = messages[:1] if messages[0].role == "system" else []
        turns = messages[len(opening) :]
        for unseen in range(0, len(turns), 2):  # a user's turn and its answer together
            prompt = self.format.prompt([*opening, *turns[unseen:]])
            if len(prompt) <= room:
                return prompt, unseen
        raise InputError(f"that message is too long: with it the prompt has {len(prompt)} tokens, and {room} fit")

    def save(self, path: Path) -> None:
        """Adds the conversation to a file of conversations."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                number = sum(1 for _ in path.open(encoding="utf-8"))
                conversation = Conversation(f"{path.stem}-{number}", tuple(self.messages), source="jaxchat chat")
                file.write(json.dumps(conversation.to_json(), ensure_ascii=False) + "\n")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}") from None


def converse(chat: Chat, lines: TextIO = sys.stdin, out: TextIO = sys.stdout) -> int:
    """Talks until the input ends or /exit; a mistake is answered and the conversation goes on.

    Returns how many answers were given.
    """
    answers = 0
    for line in _lines(lines, out):
        command, _, rest = line.strip().partition(" ")
        try:
            match command:
                case "":
                    continue
                case "/exit" | "/quit":
                    break
                case "/help":
                    print(HELP, file=out)
                case "/reset":
                    chat.reset()
                    print("(a new conversation)", file=out)
                case "/system":
                    chat.system = rest.strip() or None
                    chat.reset()
                    print("(a new conversation)", file=out)
                case "/save":
                    if not rest.strip():
                        raise InputError("/save needs a file: /save talk.jsonl")
                    chat.save(Path(rest.strip()))
                    print(f"(saved to {rest.strip()})", file=out)
                case _ if command.startswith("/"):
                    raise InputError(f"there is no {command}; /help lists what there is")
                case _:
                    unseen = chat.answer(line.strip(), lambda more: print(more, end="", file=out, flush=True))
                    answers += 1
                    print(file=out)
                    if unseen:
                        print(f"(the first {unseen} messages no longer fit into what the model reads)", file=out)
        except InputError as error:
            print(f"({error})", file=out)
    return answers


def _lines(lines: TextIO, out: TextIO) -> Iterator[str]:
    """Lines of a person, prompted for and editable, or of a pipe."""
    if not lines.isatty():
        yield from lines
        return
    import readline  # noqa: F401  gives input() its line editing and history

    while True:
        try:
            yield input("\n> ")
        except EOFError:
            print(file=out)
            return
        except KeyboardInterrupt:
            print("\n(/exit leaves)", file=out)
