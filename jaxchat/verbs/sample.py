"""Text from a model: completions, and conversations in the terminal."""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, UseAppendAction, arg

from jaxchat.errors import InputError
from jaxchat.verbs.answering import Answering
from jaxchat.verbs.verb import Made, ModelName, some

if TYPE_CHECKING:
    from jaxchat.chat.template import ChatFormat
    from jaxchat.hub.open import Opened
    from jaxchat.sample.methods import Sampling


@dataclass(frozen=True, kw_only=True)
class Sampled(Answering):
    """What the verbs share that choose tokens."""

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
    presence_penalty: float = 0.0
    """Taken from the logits of tokens that the answer has already."""
    frequency_penalty: float = 0.0
    """The same, once for each time."""
    max_tokens: int = 256
    """Tokens of an answer at most."""
    seed: int = 0
    """The same seed and prompt give the same text."""
    stop: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="TEXT")]] = ()
    """A text that ends the answer and is no part of it; repeats."""

    def sampling(self, **more: Any) -> Sampling:
        from jaxchat.sample.methods import Sampling

        others = {field.name for field in dataclasses.fields(Answering)}
        names = [field.name for field in dataclasses.fields(Sampled) if field.name not in others]
        return Sampling(**{name: getattr(self, name) for name in names}, **more)


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
        from jaxchat.sample.generate import SLOTS, generate

        if self.system is not None and not self.chat:
            raise InputError("--system is a message of a chat; add --chat")
        some(self.prompt, "--prompt")
        sampling = self.sampling(ignore_eos=self.ignore_eos)
        opened = self.opened(self.model)
        if self.chat:
            chat = _its_format(opened)
            system = () if self.system is None else (Message("system", self.system),)
            prompts = [chat.prompt([*system, Message("user", prompt)]) for prompt in self.prompt]
            stops = chat.stop_ids
        else:
            prompts = [opened.tokenizer.encode(prompt, add_special_tokens=True) for prompt in self.prompt]
            stops = frozenset() if opened.tokenizer.eos_id is None else frozenset({opened.tokenizer.eos_id})
        one = len(prompts) == 1
        context = max(map(len, prompts)) + sampling.max_tokens
        with self.engine(opened, stops, slots=min(len(prompts), SLOTS), context=context) as engine:
            start = time.monotonic()
            done = generate(engine, prompts, sampling, _write if one else None)
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
        from jaxchat.sample.chat import Chat, converse

        sampling = self.sampling()
        opened = self.opened(self.model)
        chat_format = _its_format(opened)
        with self.engine(opened, chat_format.stop_ids, slots=1) as engine:
            chat = Chat(engine, chat_format, sampling, self.system)
            answers = converse(chat, sys.stdin, sys.stdout)
        messages = [{"role": message.role, "content": message.content} for message in chat.messages]
        return Made(f"{answers} answers by {opened.description}", {"messages": messages})


def _its_format(opened: Opened) -> ChatFormat:
    if opened.format is None:
        raise InputError(
            f"{opened.place.name} has no chat template, so it cannot chat; generate without --chat instead"
        )
    return opened.format


def _write(row: int, text: str) -> None:
    print(text, end="", flush=True)
