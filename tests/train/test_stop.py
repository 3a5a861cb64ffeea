from __future__ import annotations

import os
import signal

import pytest

from jaxchat.train.stop import StopRequest


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_is_remembered_and_the_second_has_its_old_meaning(number: signal.Signals, code: int):
    heard = []
    before = signal.signal(number, lambda *_: heard.append(number))
    try:
        with StopRequest() as stop:
            assert not stop.reached(1)
            os.kill(os.getpid(), number)
            assert stop.reached(2)
            assert stop.exit_code == code
            assert heard == []
            os.kill(os.getpid(), number)
            assert heard == [number]
        assert signal.getsignal(number) is not before
    finally:
        signal.signal(number, before)


def test_no_signal_is_success():
    with StopRequest() as stop:
        pass
    assert stop.exit_code == 0
