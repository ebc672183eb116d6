"""The flag that signals set."""

import os
import pickle
import signal

import pytest

from runner.core import signals


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_sets_a_flag_and_nothing_else(number: int) -> None:
    before = signal.getsignal(number)
    with signals.listening():
        signals.check()
        os.kill(os.getpid(), number)
        assert signals.requested()
        with pytest.raises(signals.StopRequested) as stop:
            signals.check()
    assert stop.value.number == number
    assert signal.getsignal(number) is before
    assert not signals.requested()


def test_the_first_signal_is_the_reason() -> None:
    with signals.listening():
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(signals.StopRequested, match="stopped by SIGUSR2"):
            signals.check()


def test_a_stop_is_no_exception_and_travels_between_processes() -> None:
    stop = signals.StopRequested(signal.SIGTERM)
    assert not isinstance(stop, Exception)
    copy = pickle.loads(pickle.dumps(stop))
    assert (str(copy), copy.number) == ("stopped by SIGTERM", signal.SIGTERM)
