"""What a person asks to see of a run's time and memory: a trace of some steps, and what lies on the devices.

RUN/tensorboard/plugins/profile/    traces, which xprof and TensorBoard's profile page show
RUN/profile/memory-STEP.pb.gz       arrays on the devices by the code that made them, for `pprof -http=: FILE`
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jax

from jaxchat.errors import InputError


@dataclass(frozen=True)
class Profile:
    """steps: the first and the last to trace. memory: those after which the devices' memory is written down."""

    steps: tuple[int, int] | None = None
    memory: tuple[int, ...] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> Profile:
        """From `steps=10:15` and `memory=12`. Raises InputError for other words."""
        steps, memory = None, []
        for word in words:
            if match := re.fullmatch(r"steps=(\d+):(\d+)", word):
                steps = int(match[1]), int(match[2])
                if not 0 < steps[0] <= steps[1]:
                    raise InputError(f"--profile {word}: name a first step from 1 and a last that is not before it")
            elif match := re.fullmatch(r"memory=(\d+)", word):
                memory.append(int(match[1]))
            else:
                raise InputError(f"--profile takes steps=FIRST:LAST and memory=STEP, not {word}")
        return cls(steps, tuple(memory))


@dataclass
class Profiler:
    """Does it, on the first process, as the run comes by. say: where it tells what was written.

    Within its block SIGUSR1 asks for the memory after the next step, whatever the profile says.
    """

    profile: Profile
    run: Path
    say: Callable[[str], None]
    _tracing: bool = field(default=False, init=False)
    _asked: bool = field(default=False, init=False)

    @contextmanager
    def listening(self) -> Iterator[None]:
        heard = threading.current_thread() is threading.main_thread()  # Python sets handlers in it alone
        before = signal.signal(signal.SIGUSR1, self._ask) if heard else None
        try:
            yield
        finally:
            self._stop()
            if heard:
                signal.signal(signal.SIGUSR1, before)

    @contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Around the dispatch of a step."""
        if self.profile.steps and step == self.profile.steps[0] and jax.process_index() == 0:
            jax.profiler.start_trace(str(self.run / "tensorboard"))
            self._tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def done(self, step: int) -> None:
        """After a step's metrics have come back."""
        if self.profile.steps and step == self.profile.steps[1]:
            self._stop()
        if (self._asked or step in self.profile.memory) and jax.process_index() == 0:
            self._asked = False
            file = self.run / "profile" / f"memory-{step}.pb.gz"
            file.parent.mkdir(exist_ok=True)
            jax.profiler.save_device_memory_profile(str(file))
            self.say(f"step {step}: the devices' memory is in {file}")

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            self.say(f"a trace of the steps is in {self.run / 'tensorboard' / 'plugins' / 'profile'}")
