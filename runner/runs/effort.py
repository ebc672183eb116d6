"""How long an unfinished run has taken, for what share of its work: a resumed run adds to it, and a dry run estimates from it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.store.files import write_json
from runner.store.folder import Folder

FILE = "effort.json"
"""File name in the run's scratch folder."""


@dataclass(frozen=True)
class Effort:
    """The saved work of an unfinished run."""

    seconds: float
    share: float
    """Of all its work, in [0, 1]."""
    columns: Mapping[str, Any]
    """The identity columns of the run."""

    @property
    def whole(self) -> float:
        """Seconds of the whole run at this speed; `share` must be above 0."""
        return self.seconds / self.share

    @property
    def rest(self) -> float:
        """Seconds of what is left at this speed; `share` must be above 0."""
        return self.whole - self.seconds


def saved_effort(folder: Folder) -> Effort | None:
    """The saved work in a folder; None without any."""
    try:
        content = json.loads((folder.scratch / FILE).read_text(encoding="utf-8"))
        return Effort(float(content.pop("seconds")), float(content.pop("share")), content)
    except (OSError, ValueError, KeyError):
        return None


@dataclass
class Clock:
    """The seconds of a run since its first call, without what was lost, and without the runs that it executed as inputs."""

    file: Path
    columns: Mapping[str, Any]
    origin: float
    """When it would have begun (of `time.perf_counter`), had it done nothing else."""

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.origin


_running: list[Clock] = []


@contextmanager
def measured(folder: Folder, columns: Mapping[str, Any]) -> Iterator[Clock]:
    """Measure the run in this folder while the context is open. The clock of the run that called for it stands still."""
    began, known = time.perf_counter(), saved_effort(folder)
    clock = Clock(folder.scratch / FILE, columns, began - (known.seconds if known else 0.0))
    _running.append(clock)
    try:
        yield clock
    finally:
        _running.pop()
        if _running:
            _running[-1].origin += time.perf_counter() - began


def save_effort(share: float) -> None:
    """Note that this share of the work of the run that is being executed is done and saved."""
    if _running:
        clock = _running[-1]
        write_json(clock.file, {**clock.columns, "seconds": clock.seconds, "share": share})
