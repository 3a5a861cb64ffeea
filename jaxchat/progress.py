"""Progress on standard error: a bar on a terminal, a plain line now and then in a log; both with rate and time left."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

# Seconds between plain lines, between redraws of a bar, and the stretch that a rate is measured over.
LOG_EVERY, DRAW_EVERY, RATE_OVER = 10.0, 0.1, 60.0


def track(iterable: Iterable[T], *, label: str, total: int | None = None, unit: str = "rows") -> Iterator[T]:
    """Yields from `iterable` and shows how far it is. `total` defaults to its length, where it has one."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # type: ignore[arg-type]
    with Bar(label, total, unit) as bar:
        for item in iterable:
            yield item
            bar.advance()


class Bar:
    """Shows work of `total` units (None: unknown). `done` are those finished before, left out of the rate.

        with Bar("training", total=60, unit="steps") as bar:
            bar.advance(1, loss=3.2, **{"tokens/s": 512})

    A line is written at most every LOG_EVERY seconds, and one at the end. The unit "bytes" is shown in MB.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        unit: str = "rows",
        *,
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.label, self.total, self.unit = label, total, unit
        self.done = self._first = done
        self.fields: dict[str, Any] = {}
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._rich: Progress | None = None

    def __enter__(self) -> Self:
        self._started = self._shown = self._clock()
        self._marks: deque[tuple[float, int]] = deque([(self._started, self.done)])
        if self._stream.isatty():
            self._open_bar()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._rich:
            self._draw()
            self._rich.stop()
            self._rich = None
        elif kind is None:
            self._write_line(last=True)

    def advance(self, n: int = 1, **fields: Any) -> None:
        """Counts `n` more units; `fields` (loss=..., MFU=...) are shown with their latest values."""
        self.done += n
        self.fields |= fields
        now = self._clock()
        if now - self._shown < (DRAW_EVERY if self._rich else LOG_EVERY):
            return
        self._shown = now
        if self._rich:
            self._draw()
        else:
            self._write_line()

    def write(self, text: str) -> None:
        """Writes `text` as lines of its own on the same stream, above the bar where there is one."""
        if self._rich:
            self._rich.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def status(self, last: bool = False) -> str:
        """`1,200/7,168 rows, 48%, 310 rows/s, 19 s left, loss 3.21`."""
        of = f"/{_count(self.total, self.unit)}" if self.total is not None else ""
        parts = [f"{_count(self.done, self.unit)}{of} {_name(self.unit)}"]
        if self.total and not last:
            parts.append(f"{100 * self.done // self.total}%")
        rate = self._average() if last else self._recent()
        if rate > 0:
            parts.append(_rate(rate, self.unit))
            if self.total is not None and not last and self.done < self.total:
                parts.append(f"{_clock_time((self.total - self.done) / rate)} left")
        if last:
            parts.append(f"in {_clock_time(self._clock() - self._started)}")
        parts += [f"{name} {_figure(value)}" for name, value in self.fields.items()]
        return ", ".join(parts)

    def _average(self) -> float:
        return (self.done - self._first) / max(self._clock() - self._started, 1e-9)

    def _recent(self) -> float:
        """Units a second over the last RATE_OVER seconds: a slow start, such as compiling, is soon forgotten."""
        now = self._clock()
        if now - self._marks[-1][0] >= RATE_OVER / 20:
            self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= RATE_OVER:
            self._marks.popleft()
        then, done = self._marks[0]
        return (self.done - done) / (now - then) if now > then else 0.0

    def _write_line(self, last: bool = False) -> None:
        self._stream.write(f"{self.label}: {self.status(last)}\n")
        self._stream.flush()

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        # Standard output may be a file that a program reads: only a terminal's is rerouted above the bar.
        self._rich = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}", markup=False),
            console=Console(file=self._stream),
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._rich.add_task(self.label, total=self.total, completed=self.done, status="")
        self._rich.start()

    def _draw(self) -> None:
        assert self._rich is not None
        self._rich.update(self._task, total=self.total, completed=self.done, status=self.status())


def _count(count: int, unit: str) -> str:
    return f"{count / 1e6:,.1f}" if unit == "bytes" else f"{count:,}"


def _name(unit: str) -> str:
    return "MB" if unit == "bytes" else unit


def _rate(rate: float, unit: str) -> str:
    if unit == "bytes":
        return f"{_figure(rate / 1e6)} MB/s"
    if rate >= 1:
        return f"{_figure(rate)} {unit}/s"
    return f"{_figure(1 / rate)} s/{unit.removesuffix('s')}"


def _figure(value: Any) -> str:
    """A number in few figures: 12,345 or 45.6 or 3.213; anything else as it prints."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    if not abs(number) < 1e15:  # infinite or not a number
        return str(number)
    if isinstance(value, int) or abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.4g}"


def _clock_time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
