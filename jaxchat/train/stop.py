"""Being asked to stop: SIGTERM from a scheduler or Ctrl-C from a person, agreed on by all hosts of a run."""

from __future__ import annotations

import signal
import threading
from types import FrameType

# What a run that saved and stopped because it was asked to exits with: the shell's code for the signal, so that a
# scheduler sees a run to start again rather than one that is finished.
EXIT_CODES = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGINT: 128 + signal.SIGINT}


class StopRequest:
    """Within its block the first SIGTERM or SIGINT is remembered instead of ending the process; a second ends it."""

    def __init__(self, processes: int = 1) -> None:
        self.signal: signal.Signals | None = None
        self._processes = processes
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        # Of several hosts, JAX's coordination service takes a SIGTERM to one and tells all. Python sets handlers in its
        # main thread alone.
        if self._processes == 1 and threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def reached(self, step: int) -> bool:
        """Whether to stop after `step`: the same answer on every host, which is why it is asked at every step."""
        if self._processes > 1:
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(step):
                self.signal = signal.SIGTERM
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What to exit with: 0 when nothing asked for a stop."""
        return EXIT_CODES[self.signal] if self.signal is not None else 0
