"""Requests to stop, from a cluster, a time limit or a user: a signal is noted, and the job stops when its state is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""SIGTERM: preemption, `kill`, `scancel`. SIGUSR2: sent by SLURM before a time limit."""

_received: list[int] = []


class StopRequested(BaseException):
    """The job was asked to stop and has saved its state. Not an `Exception`, so that it is not recorded as a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


@contextmanager
def listening() -> Iterator[None]:
    """While the context is open, signals are only noted; afterwards the earlier handlers are back.

    Main thread only. A signal after the last `check` is ignored, since the work is done by then.
    """
    _received.clear()
    before = {number: signal.signal(number, _note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def _note(number: int, frame: FrameType | None) -> None:
    _received.append(number)


def requested() -> bool:
    """Whether a signal has arrived."""
    return bool(_received)


def check() -> None:
    """Stop here if a signal has arrived; call it only where all work is saved. Errors: `StopRequested`."""
    if _received:
        raise StopRequested(_received[0])
