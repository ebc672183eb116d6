"""The flag that signals set."""

import os
import pickle
import signal
import threading

import pytest

from runner.core import stopping
from runner.core.store import locked


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_signal_sets_a_flag_and_nothing_else(number: int) -> None:
    before = signal.getsignal(number)
    with stopping.listening():
        stopping.check()
        os.kill(os.getpid(), number)
        assert stopping.requested()
        with pytest.raises(stopping.StopRequested) as stop:
            stopping.check()
    assert stop.value.number == number
    assert signal.getsignal(number) is before
    assert not stopping.requested()


def test_the_first_signal_is_the_reason() -> None:
    with stopping.listening():
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(stopping.StopRequested, match="stopped by SIGUSR2"):
            stopping.check()


def test_a_stop_is_no_exception_and_travels_between_processes() -> None:
    stop = stopping.StopRequested(signal.SIGTERM)
    assert not isinstance(stop, Exception)
    copy = pickle.loads(pickle.dumps(stop))
    assert (str(copy), copy.number) == ("stopped by SIGTERM", signal.SIGTERM)


def test_a_wait_for_a_folder_ends_when_told(tmp_path) -> None:
    waits = threading.Event()

    def told() -> None:
        waits.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=told)
    thread.start()
    with locked(tmp_path / "run"):
        with stopping.listening(), pytest.raises(stopping.StopRequested), locked(tmp_path / "run", waits.set):
            raise AssertionError("entered")
        thread.join()
    with locked(tmp_path / "run"):
        pass
