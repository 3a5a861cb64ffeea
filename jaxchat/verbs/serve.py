"""Models as a service: the server and its keys."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from jaxchat.errors import InputError
from jaxchat.verbs.answering import Answering, close, named
from jaxchat.verbs.verb import Made, Verb, some

if TYPE_CHECKING:
    from jaxchat.hub.open import Opened
    from jaxchat.serve.served import Served

File = Annotated[Path, arg(metavar="FILE")]
OrNone = Annotated[Path | None, arg(metavar="FILE")]


@dataclass(frozen=True, kw_only=True)
class Serve(Answering):
    """Answer OpenAI's API with one model or several, and chat on a page.

    Listens on this machine alone unless --host says otherwise. SIGTERM lets open requests end and then leaves.
    """

    usage = "MODEL ..."

    models: Positional[Annotated[tuple[str, ...], arg(metavar="MODEL ...")]]
    """Runs (RUN@STEP for one checkpoint), Hugging Face folders or hub names, .gguf files, package:NAME/FILE. NAME=MODEL
    gives one the name that clients call it by."""
    host: str = "127.0.0.1"
    """Where to listen: 0.0.0.0 is everywhere."""
    port: int = 8000
    """0 is any that is free."""
    keys: OrNone = None
    """A file of API keys, made with `jaxchat key`; only who brings one is answered."""
    certificate: OrNone = None
    """For TLS: the certificate, PEM, with those that vouch for it."""
    private_key: OrNone = None
    """For TLS: its key, PEM."""
    cors: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="ORIGIN")]] = ()
    """The origin of pages that may ask, https://shop.example; * is all; repeats."""
    template: Annotated[str | None, arg(metavar="NAME|FILE")] = None
    """A chat template that ships with jaxchat, or a Jinja file, instead of the model's own."""
    context: Annotated[int | None, arg(metavar="N")] = None
    """Tokens of a prompt and its answer at most; otherwise the model's own, or as many as --cache-share lets in."""
    cache_share: Annotated[float, arg(metavar="X")] = 0.25
    """Of the memory that is free, what keys and values of all answers may take where --context is not given."""
    slots: int = 8
    """Answers written at once."""
    queue: int = 64
    """Requests that may wait; more are told to come back."""
    max_tokens: int = 1024
    """Tokens of an answer at most, also where a request names no limit."""
    timeout: float = 600.0
    """Seconds of an answer at most, its wait in the queue included; it then ends where it is."""
    max_body: int = 2 * 1024**2
    """Bytes of a request at most."""
    requests_per_minute: Annotated[int | None, arg(metavar="N")] = None
    """Of one key, or without keys of one address; no limit otherwise."""
    guard: Literal["off", "mask", "block"] = "off"
    """Personal data in questions and answers: masked, or refused and ended."""
    guard_words: OrNone = None
    """A file with a word or phrase a line; questions with one are refused, answers end before it."""
    feedback: OrNone = None
    """Keep thumbs up and down in this file; `jaxchat data import preference` pairs them."""
    drain: float = 30.0
    """Seconds that open requests have to end in, once the server is to stop."""
    log_content: FlagCreatePairsOff[bool] = False
    """Log what is asked as well; without it, only who asked, when, and how it went."""

    def run(self) -> Made:
        try:
            from jaxchat.serve.app import Service, make_app
            from jaxchat.serve.feedback import Feedback
            from jaxchat.serve.guard import Guard, guard_of
            from jaxchat.serve.keys import Keys
            from jaxchat.serve.sampled import Limits
            from jaxchat.serve.server import Address, log_requests, serve
        except ModuleNotFoundError as error:
            raise InputError(f"serving needs {error.name}; pip install 'jaxchat[serve]'") from None

        sources = named(some(self.models, "MODEL"))
        address = Address(self.host, self.port, self.certificate, self.private_key)
        keys = Keys(self.keys) if self.keys else None
        feedback = Feedback(self.feedback) if self.feedback else None
        guard = guard_of(personal_data=None if self.guard == "off" else self.guard, words=self.guard_words)
        if not 0 < self.cache_share <= 1:
            raise InputError(f"--cache-share is {self.cache_share}; it must be above 0 and at most 1")
        limits = Limits(self.max_tokens, self.timeout, self.max_body, self.requests_per_minute)
        address.bind().close()  # before the minutes that opening a model may take
        if not address.loopback and keys is None:
            print(
                f"warning: {self.host} lets other machines in, and no --keys are asked for: whoever reaches port "
                f"{self.port} can use these models; make a key with `jaxchat key FILE --name NAME`",
                file=sys.stderr,
            )
        models = {name: self._served(name, source) for name, source in sources.items()}
        service = Service(models, limits, keys, guard or Guard(), feedback, self.cors, self.log_content)
        log_requests()
        try:
            serve(
                make_app(service),
                service,
                address,
                self.drain,
                lambda url: print(f"serving {', '.join(models)} on {url}", flush=True),
            )
        finally:
            close(models.values())
        count = sum(sum(model.engine.stats().finished.values()) for model in models.values())
        return Made(f"served {count:,} answers", {"answers": count, "models": list(models)})

    def _served(self, name: str, source: str) -> Served:
        context = self.context or partial(self._context, name)
        return self.served(name, source, self.template, context=context, slots=self.slots, queue=self.queue)

    def _context(self, name: str, opened: Opened) -> int:
        """How long the conversations of one of the models may be; says why."""
        from jaxchat.sample.room import cache_bytes, context_within, free_bytes

        free = free_bytes(opened.mesh)
        context = context_within(opened.model, self.slots, free * self.cache_share / len(self.models))
        whole = opened.config.context_length
        print(
            f"{name}: {self.slots} answers at once of {context:,} tokens"
            f"{f' ({whole:,} by the model itself)' if context < whole else ''}, for which "
            f"{cache_bytes(opened.model, self.slots, context) / 1e9:.2f} GB of {free / 1e9:.2f} GB free are taken; "
            "--context and --slots decide otherwise",
            file=sys.stderr,
        )
        return context


@dataclass(frozen=True, kw_only=True)
class NewKey(Verb):
    """Make an API key for `jaxchat serve --keys FILE`, or take one back.

    The key is shown once; the file holds its hash. A server that is running reads the file anew.
    """

    usage = "FILE --name NAME"

    file: Positional[File]
    """The file of keys; made where it is not."""
    name: str
    """Whose key it is; the log tells requests apart by it."""
    requests_per_minute: Annotated[int | None, arg(metavar="N")] = None
    """A limit of its own."""
    remove: FlagCreatePairsOff[bool] = False
    """Take back the key of that name."""

    def run(self) -> Made:
        from jaxchat.serve.keys import add_key, remove_key

        if self.requests_per_minute is not None and self.requests_per_minute < 1:
            raise InputError(f"--requests-per-minute is {self.requests_per_minute}; it must be 1 or more")
        if self.remove:
            remove_key(self.file, self.name)
            return Made(f"the key of {self.name} is no longer in {self.file}", {"name": self.name})
        secret = add_key(self.file, self.name, self.requests_per_minute)
        print(secret)
        return Made(f"that is the key of {self.name}, which is shown this once; its hash is in {self.file}",
                    {"name": self.name, "key": secret})  # fmt: skip
