"""A run that nobody trains: for tests of what plans, launchers and tables do with runs. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.runs.job_table import JOBS, Job
from runner.store.folder import Folder


@dataclass(frozen=True)
class FakeRun:
    """What the code above asks of a `Run`; it travels between processes as one does."""

    kind: str
    folder: Path
    columns: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    outputs: Path = Path()
    sweep: str = "tiny"
    inputs: tuple[FakeRun, ...] = ()
    keeps_images: bool = False

    @property
    def job(self) -> Job:
        return JOBS[self.kind]

    @property
    def identity(self) -> str:
        return "" if self.kind == "report" else self.folder.name.rsplit("-", 1)[-1]

    def result(self) -> dict[str, Any] | None:
        return Folder(self.folder).finished()
