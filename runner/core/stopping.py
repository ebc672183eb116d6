"""A wish to stop, from a cluster, a time limit or a person: a signal sets a flag, and a job stops where its state is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""SIGTERM: preemption, `kill`, `scancel`; SIGUSR2: what SLURM sends ahead of a time limit."""

_received: list[int] = []


class StopRequested(BaseException):
    """The job was asked to stop, and has saved its state. No `Exception`: what records failures must not take it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


@contextmanager
def listening() -> Iterator[None]:
    """While this is open, the signals set the flag and do nothing else; afterwards they do what they did before.

    For the main thread. What arrives after the last `check` is forgotten: the work was done by then.
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
    """Whether a signal has come."""
    return bool(_received)


def check() -> None:
    """Stop here if a signal has come; called where all that was done is saved. Errors: `StopRequested`."""
    if _received:
        raise StopRequested(_received[0])
