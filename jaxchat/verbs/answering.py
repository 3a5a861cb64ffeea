"""What the verbs share that answer with a model: how its weights are kept and where, and whether it guesses ahead."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, arg

from jaxchat.errors import InputError
from jaxchat.verbs.verb import Verb

if TYPE_CHECKING:
    from jaxchat.hub.open import Opened
    from jaxchat.models.config import DecoderConfig
    from jaxchat.sample.engine import Engine
    from jaxchat.serve.served import Served

_CLOSE_SECONDS = 2.0


@dataclass(frozen=True)
class Devices:
    """How a model lies on several, by the axes of a training mesh. -1 takes all that are left."""

    data: int = 1
    """Copies of the model; each answers its part of the requests."""
    fsdp: int = 1
    """Devices that hold a part of each weight, gather the others' to use it, and answer a part of the requests."""
    tensor: int = 1
    """Devices that compute with a part of each weight."""


@dataclass(frozen=True, kw_only=True)
class Answering(Verb):
    """A verb that answers with a model."""

    computes = True

    weights: Literal["whole", "int8"] = "whole"
    """int8 keeps weights in eight bits, in a quarter of the memory."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """bfloat16, for TPUs and GPUs, takes half the memory and less time, and is less exact."""
    mesh: Devices = field(default_factory=Devices)
    fast: FlagCreatePairsOff[bool] = False
    """On a CPU, answer one request alone, and read prompts, somewhat sooner; what a seed gives may then depend, where
    two tokens are nearly as likely, on what else is being answered."""
    speculate: Annotated[str | None, arg(metavar="lookup|MODEL")] = None
    """Guess tokens ahead, from the text itself or by a smaller model of the same vocabulary; it changes no answer."""

    def opened(self, name: str, label: str | None = None) -> Opened:
        """MODEL on the devices that were asked for."""
        from jaxchat.hub.open import open_model
        from jaxchat.mesh import MeshConfig, make_mesh
        from jaxchat.models.decoder import Model
        from jaxchat.train.checks import check_model

        mesh = make_mesh(MeshConfig(**asdict(self.mesh)))

        def handle(config: DecoderConfig) -> Model:
            model = Model(config, dtype=self.compute)
            check_model(config, dict(mesh.shape), model.rules)
            return model

        return open_model(name, mesh, model=handle, label=label)

    def engine(self, opened: Opened, stops: Any, **room: Any) -> Engine:
        """An engine of a model that was opened; room: its slots, context and queue. It keeps what it compiles."""
        from jaxchat.compiled import keep_compiled
        from jaxchat.sample.engine import Engine

        keep_compiled()
        return Engine(
            opened.model,
            opened.params,
            opened.tokenizer,
            opened.mesh,
            sorted(stops),
            weights=self.weights,
            invariant=not self.fast,
            speculation=self._speculation(opened),
            **room,
        )

    def served(
        self,
        name: str,
        source: str,
        template: str | None = None,
        *,
        context: int | Callable[[Opened], int] | None,
        **room: Any,
    ) -> Served:
        """A model under a name, compiled and ready; template: instead of its own; context: of the engine, or what says
        it once the model is open. It is closed by `close`."""
        from jaxchat.chat.template import ChatFormat, load_template
        from jaxchat.hub.generation import generation_config
        from jaxchat.serve.served import Served

        opened = self.opened(source, f"opening {name}")
        chat = ChatFormat(opened.tokenizer, load_template(template)) if template else opened.format
        eos = opened.tokenizer.eos_id
        ends = frozenset(() if eos is None else (eos,)) | (chat.stop_ids if chat else frozenset())
        engine = self.engine(opened, ends, context=context(opened) if callable(context) else context, **room)
        engine.compile()
        came_with = generation_config(opened)
        known = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        defaults = {key: came_with[key] for key in known if came_with.get(key) is not None}
        return Served(name, engine, opened.tokenizer, chat, engine.context, opened.config.vocab_size, ends, defaults)

    def _speculation(self, opened: Opened) -> Any:
        from jaxchat.sample.speculation import Draft, Lookup

        if self.speculate is None:
            return None
        if self.speculate == "lookup":
            return Lookup()
        draft = self.opened(self.speculate)
        if draft.tokenizer.fingerprint != opened.tokenizer.fingerprint:
            raise InputError(
                f"{self.speculate} has another vocabulary than {opened.place.name}; take one with the same"
            )
        return Draft(draft.model, draft.params)


def close(models: Iterable[Served]) -> None:
    """Ends the engines' work. One that is compiling, which nothing interrupts, ends with the process; Python's own way
    to end would stumble over it."""
    threads = [threading.Thread(target=model.engine.close, daemon=True) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_CLOSE_SECONDS)
    if any(thread.is_alive() for thread in threads):
        atexit.register(os._exit, 0)  # runs when all is said and flushed


def named(models: tuple[str, ...]) -> dict[str, str]:
    """Models by the name that clients call them: given with NAME=, else their file's or folder's."""
    found: dict[str, str] = {}
    for model in models:
        name, equals, source = model.partition("=")
        if not equals or "/" in name:
            name, source = _short(model), model
        if name in found:
            raise InputError(f"two models would be called {name}; name them: NAME={model}")
        found[name] = source
    return found


def _short(model: str) -> str:
    last = model.rstrip("/").removesuffix(".gguf").removesuffix(".jsonl").rpartition("/")[2]
    return last.removeprefix("package:") or model
