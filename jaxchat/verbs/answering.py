"""What the verbs share that answer with a model: how its weights are kept, and whether it guesses ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from jaxchat.errors import InputError
from jaxchat.verbs.verb import Verb

if TYPE_CHECKING:
    from jaxchat.hub.open import Opened
    from jaxchat.sample.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Answering(Verb):
    """A verb that answers with a model."""

    computes = True

    weights: Literal["whole", "int8"] = "whole"
    """int8 keeps weights in eight bits, in a quarter of the memory."""
    speculate: Annotated[str | None, arg(metavar="lookup|MODEL")] = None
    """Guess tokens ahead, from the text itself or by a smaller model of the same vocabulary; it changes no answer."""

    def engine(self, opened: Opened, stops: Any, **room: Any) -> Engine:
        """An engine of a model that was opened; room: its slots, context and queue. It keeps what it compiles."""
        from jaxchat.sample.compiled import keep_compiled
        from jaxchat.sample.engine import Engine

        keep_compiled()
        return Engine(
            opened.model,
            opened.params,
            opened.tokenizer,
            opened.mesh,
            sorted(stops),
            weights=self.weights,
            speculation=self._speculation(opened),
            **room,
        )

    def _speculation(self, opened: Opened) -> Any:
        from jaxchat.hub.open import open_model
        from jaxchat.sample.speculation import Draft, Lookup

        if self.speculate is None:
            return None
        if self.speculate == "lookup":
            return Lookup()
        draft = open_model(self.speculate, opened.mesh)
        if draft.tokenizer.fingerprint != opened.tokenizer.fingerprint:
            raise InputError(
                f"{self.speculate} has another vocabulary than {opened.place.name}; take one with the same"
            )
        return Draft(draft.model, draft.params)
