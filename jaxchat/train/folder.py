"""The folder of a run: what is written there once, when it begins, and what a later command must agree with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from jaxchat.errors import InputError
from jaxchat.files import replacing
from jaxchat.models.config import DecoderConfig
from jaxchat.models.config_json import to_json as model_json
from jaxchat.train.record import Json, differences

if TYPE_CHECKING:
    from jaxchat.chat.tokenizer import Tokenizer

COMPILED = "compiled"  # what the processes compiled, that a restart of them all need not
# What a run that was killed before it began may have left.
_BEFORE_IT_BEGINS = {"tokenizer", "model.json", "checkpoints", COMPILED}
RESOLVED = "resolved"


class RunFolder:
    """`config.json` marks a run that has begun: the config as it was resolved and, under `resolved`, what it came to.

    Of several processes only the first writes; all read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokenizer = path / "tokenizer"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples.jsonl"
        self.curve = path / "loss.png"
        self._config = path / "config.json"

    def saved(self) -> dict[str, Any] | None:
        """What config.json holds; None before the run begins. Raises InputError when it is damaged."""
        try:
            saved = json.loads(self._config.read_text(encoding="utf-8"))
            return {**saved, RESOLVED: dict(saved[RESOLVED])}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{self._config} cannot be read ({type(error).__name__}: {error}); name another folder with --run"
            ) from None

    def check(self, config: dict[str, Json], may_change: tuple[str, ...], *, accept: bool) -> None:
        """Raises InputError unless this is a folder to begin a run in, or holds a run of the same config.

        may_change: shell patterns of the fields that need not be the same; `accept` lets all others change too.
        """
        saved = self.saved()
        if saved is not None:
            before = {name: value for name, value in saved.items() if name != RESOLVED}
            self._compare(before, config, may_change, accept)
        elif self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; name a folder with --run")
        elif self.path.exists() and not {entry.name for entry in self.path.iterdir()} <= _BEFORE_IT_BEGINS:
            raise InputError(f"{self.path} is not empty and holds no run; name another folder with --run")

    def begin(
        self,
        config: dict[str, Json],
        resolved: dict[str, Json],
        model: DecoderConfig,
        tokenizer: Tokenizer,
        *,
        must_agree: tuple[str, ...],
        accept: bool,
    ) -> None:
        """Writes the run's description, or compares it with the one there: the fields of `resolved` in `must_agree`."""
        saved = self.saved()
        if saved is not None:
            before, now = ({name: of.get(name) for name in must_agree} for of in (saved[RESOLVED], resolved))
            self._compare(before, now, (), accept)
        if jax.process_index() != 0:
            return
        if saved is None:
            tokenizer.save(self.tokenizer)
            with replacing(self.path / "model.json") as file:
                json.dump(model_json(model), file, indent=2)
        with replacing(self._config) as file:
            json.dump({**config, RESOLVED: resolved}, file, indent=2)

    def _compare(self, before: Json, now: Json, may_change: tuple[str, ...], accept: bool) -> None:
        changed = [] if accept else differences(before, now, may_change)
        if changed:
            first, *others = changed
            more = f" (and {len(others)} more fields differ)" if others else ""
            raise InputError(
                f"the run in {self.path} began with {first.field} {json.dumps(first.before)} and now it is "
                f"{json.dumps(first.now)}{more}; set it back, name another folder with --run, or go on with "
                "--accept-changes"
            )
