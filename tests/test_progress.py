"""Progress reads well in a log and on a terminal, and costs little."""

from __future__ import annotations

import io

import pytest

from jaxchat.progress import LOG_EVERY, Bar, track


class Clock:
    """A clock that moves when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(seconds: float, *, units: int, clock: Clock, bar: Bar, **fields) -> None:
    for _ in range(units):
        clock.now += seconds / units
        bar.advance(1, **fields)


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end():
    log, clock = io.StringIO(), Clock()
    with Bar("training", 100, "steps", stream=log, clock=clock) as bar:
        run(3 * LOG_EVERY, units=60, clock=clock, bar=bar, loss=3.21987, **{"tokens/s": 1234})
        run(2 * LOG_EVERY, units=40, clock=clock, bar=bar)
    lines = log.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0] == "training: 20/100 steps, 20%, 2 steps/s, 40 s left, loss 3.22, tokens/s 1,234"
    assert lines[-1] == "training: 100/100 steps, 2 steps/s, in 50 s, loss 3.22, tokens/s 1,234"
    assert "\x1b" not in log.getvalue() and "\r" not in log.getvalue()


def test_the_rate_forgets_a_slow_start_and_leaves_out_what_was_done_before():
    log, clock = io.StringIO(), Clock()
    with Bar("training", 2000, "steps", done=1000, stream=log, clock=clock) as bar:
        run(100, units=1, clock=clock, bar=bar)
        assert "1,001/2,000 steps, 50%, 100 s/step" in bar.status()
        run(100, units=500, clock=clock, bar=bar)
        assert ", 5 steps/s, 0:01:40 left" in bar.status()
    assert log.getvalue().splitlines()[-1] == "training: 1,501/2,000 steps, 2.505 steps/s, in 0:03:20"


def test_a_slow_unit_shows_seconds_a_unit_and_hours_left():
    clock = Clock()
    with Bar("training", 1000, "steps", stream=io.StringIO(), clock=clock) as bar:
        run(40, units=4, clock=clock, bar=bar)
        assert "10 s/step, 2:46:00 left" in bar.status()


def test_an_unknown_total_shows_count_and_rate_alone():
    log, clock = io.StringIO(), Clock()
    with Bar("reading", unit="lines", stream=log, clock=clock) as bar:
        run(5, units=10, clock=clock, bar=bar)
    assert log.getvalue() == "reading: 10 lines, 2 lines/s, in 5.0 s\n"


def test_bytes_are_shown_in_megabytes():
    log, clock = io.StringIO(), Clock()
    with Bar("reading", 40_300_000, "bytes", stream=log, clock=clock) as bar:
        clock.now += 2
        bar.advance(40_300_000)
    assert log.getvalue() == "reading: 40.3/40.3 MB, 20.15 MB/s, in 2.0 s\n"


def test_values_that_are_no_numbers_are_shown_as_they_are():
    bar = Bar("x", stream=io.StringIO())
    with bar:
        bar.advance(1, loss=float("nan"), best=float("inf"), stage="warm-up", MFU=0.123456)
        assert bar.status().endswith("loss nan, best inf, stage warm-up, MFU 0.1235")


def test_track_yields_everything_and_knows_the_length(capsys: pytest.CaptureFixture[str]):
    assert list(track([1, 2, 3], label="reading")) == [1, 2, 3]
    assert list(track(iter("ab"), label="looking", unit="letters")) == ["a", "b"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "reading: 3/3 rows" in shown.err and "looking: 2 letters" in shown.err


def test_a_failure_passes_through_and_claims_no_end():
    log = io.StringIO()
    with pytest.raises(RuntimeError):
        for _ in track([1, 2], label="reading"):
            raise RuntimeError
    with pytest.raises(RuntimeError), Bar("x", stream=log):
        raise RuntimeError
    assert log.getvalue() == ""


def test_a_terminal_gets_a_bar_that_shows_the_same_figures():
    screen, clock = Terminal(), Clock()
    with Bar("training [a]", 10, "steps", stream=screen, clock=clock) as bar:
        run(20, units=10, clock=clock, bar=bar, loss=1.5)
        bar.write("a sample [of] text")
    assert "training [a]" in screen.getvalue() and "━" in screen.getvalue()
    assert "10/10 steps, 100%, 2 s/step, loss 1.5" in screen.getvalue()
    assert "a sample [of] text" in screen.getvalue()


def test_lines_written_in_a_log_stand_alone():
    log = io.StringIO()
    with Bar("x", 1, stream=log) as bar:
        bar.write("a sample")
        bar.advance()
    assert log.getvalue().splitlines()[0] == "a sample"
