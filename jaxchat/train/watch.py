"""Stops a run whose loss has left the road, before the state that shows it is saved."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable

from jaxchat.errors import InputError

WINDOW = 64  # steps that the median is taken over
ENOUGH = 16  # steps that must have gone before a jump is called a spike


class DivergedError(InputError):
    """A step's loss or gradient is not a number, or its loss is a spike; the checkpoints before it are intact."""


class Watch:
    """Looks at each step's loss and gradient norm.

    A loss more than `spike` nats a token above the median of the last WINDOW steps is a spike: 2 nats are a perplexity
    seven times worse. None looks for NaN and infinity alone. `history`: the losses before, in order, so that a run that
    was stopped and goes on decides as one that never stopped.
    """

    def __init__(self, spike: float | None, history: Iterable[float] = ()) -> None:
        self.spike = spike
        self._recent = deque(history, maxlen=WINDOW)

    def check(self, loss: float, grad_norm: float) -> str | None:
        """What is wrong with a step, in words; None when nothing is."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(grad_norm):
            return f"the gradient's norm is {grad_norm}"
        if self.spike is not None and len(self._recent) >= ENOUGH:
            usual = statistics.median(self._recent)
            if loss > usual + self.spike:
                return f"the loss jumped to {loss:.3f} from about {usual:.3f} (more than {self.spike:g} above it)"
        self._recent.append(loss)
        return None
