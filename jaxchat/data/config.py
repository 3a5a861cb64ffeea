"""What a run says about its data. The field names are the flags: `--data.batch 64 --data.seq-len 512`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jaxchat.data.dataset import TrainOn
from jaxchat.data.packing import SplitTurns
from jaxchat.errors import InputError


@dataclass(frozen=True)
class Corpus:
    """A corpus in one of the formats of `corpora`, imported when it is first needed."""

    format: str = "chitchat"
    paths: tuple[Path, ...] = ()
    """Its files or folders; none for a corpus that comes as a Python package."""
    options: tuple[tuple[str, str], ...] = ()
    """The reader's options by name: (("language", "chinese"),)."""
    weight: float | None = None
    """Share of the rows trained on, relative to the other sources' weights; see DataConfig.sources."""


@dataclass(frozen=True)
class Folder:
    """A folder of conversations (or a .jsonl file of them), as `jaxchat data import` and `data clean` write it."""

    path: Path
    weight: float | None = None


@dataclass(frozen=True)
class Packed:
    """A folder of rows that `jaxchat data pack` has packed, for this tokenizer and length."""

    path: Path
    weight: float | None = None


@dataclass(frozen=True)
class DataConfig:
    """What is trained on, and in what batches."""

    sources: tuple[Corpus | Folder | Packed, ...] = (Corpus(),)
    """Without weights the sources are one: every row is seen once an epoch. With weights (on all of them, then) every
    1,000 rows are shared out in exactly that proportion, and a small source is repeated as needed."""
    batch: int = 8
    """Rows in one step, over all devices and accumulation steps."""
    seq_len: int = 1024
    """Tokens in a row."""
    heldout: float = 0.05
    """Share of the conversations that is never trained on."""
    train_on: TrainOn = "assistant"
    """The tokens that are trained on: the assistant's turns, or all (a language model of whole conversations)."""
    long: SplitTurns = field(default_factory=SplitTurns)
    cache: Path | None = None
    """Where imported and packed data are kept; $JAXCHAT_CACHE or ~/.cache/jaxchat when not set."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("the data has no sources; name a corpus or a folder")
        if self.batch < 1 or self.seq_len < 2:
            raise InputError(f"data.batch is {self.batch} and data.seq_len {self.seq_len}; set at least 1 and 2")
        if not 0 <= self.heldout < 1:
            raise InputError(f"data.heldout is {self.heldout}; it is a share, at least 0 and below 1")
        weights = [source.weight for source in self.sources]
        if any(weight is not None for weight in weights) and not all(weight and weight > 0 for weight in weights):
            raise InputError(f"the sources' weights are {weights}; give all of them one above 0, or none")

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The sources' weights, None where they have none."""
        weights = tuple(source.weight for source in self.sources if source.weight is not None)
        return weights or None
