"""Notices a loss that has left the road, before the state that shows it is saved."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable

from jaxchat.errors import InputError

WINDOW = 64  # steps that the median is taken over
ENOUGH = 16  # steps that must have gone before a jump is called a spike
LAG = 2  # a step is dispatched before the one before it is looked at, so it is judged by those up to the second before


class DivergedError(InputError):
    """A step's loss or gradient is not a number, or its loss is a spike; the checkpoints before it are intact."""


class Watch:
    """Looks at each step's loss and gradient norm.

    A loss more than `spike` nats a token above the median of the last WINDOW good steps is a spike: 2 nats are a
    perplexity seven times worse. None looks for NaN and infinity alone. `history`: the good steps before, in order,
    with their losses, so that a run that was stopped and goes on decides as one that never stopped.
    """

    def __init__(self, spike: float | None, history: Iterable[tuple[int, float]] = ()) -> None:
        self.spike = spike
        self._good = deque(history, maxlen=WINDOW + LAG)

    def limit(self, step: int) -> float:
        """The loss above which `step` is a spike; infinity where none is. The same whenever it is asked."""
        losses = self._losses(step)
        return math.inf if self.spike is None or len(losses) < ENOUGH else statistics.median(losses) + self.spike

    def check(self, step: int, loss: float, grad_norm: float) -> str | None:
        """What is wrong with a step, in words; None when nothing is, and then it counts among the good ones."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(grad_norm):
            return f"the gradient's norm is {grad_norm}"
        if loss > self.limit(step):
            usual = statistics.median(self._losses(step))
            return f"the loss jumped to {loss:.3f} from about {usual:.3f} (more than {self.spike:g} above it)"
        self._good.append((step, loss))
        return None

    def _losses(self, step: int) -> list[float]:
        return [loss for at, loss in self._good if at <= step - LAG][-WINDOW:]
