"""Which finished runs are stale: made by other code than there is now, or from such runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core.identity import Config
from runner.core.store import Folder
from runner.jobs.cells import Cell, cell_of
from runner.jobs.fingerprint import code_of, difference, seal
from runner.jobs.inputs import inputs


@dataclass(frozen=True)
class _Finished:
    """A finished run: its fingerprint in one word, and why it is stale if it is."""

    seal: str | None
    reason: str | None


class Staleness:
    """What is known of the finished runs of a sweep. Each is looked at once, however many cells need it."""

    def __init__(self) -> None:
        self.unknown: set[Path] = set()
        """Runs without a fingerprint: finished before there were any, they count as what they were, done."""
        self._known: dict[Path, _Finished | None] = {}

    def reason(self, cell: Cell, config: Config) -> str | None:
        """Why a finished run is stale, in one line; None when it is not."""
        found = self._look(cell, config)
        return None if found is None else found.reason

    def _look(self, cell: Cell, config: Config) -> _Finished | None:
        if cell.folder not in self._known:
            result = Folder(cell.folder).finished()
            self._known[cell.folder] = None if result is None else self._judged(cell, config, result)
        return self._known[cell.folder]

    def _judged(self, cell: Cell, config: Config, result: Mapping[str, Any]) -> _Finished:
        fingerprint = result.get("fingerprint")
        if fingerprint is None:
            self.unknown.add(cell.folder)
        used = {} if fingerprint is None else fingerprint["inputs"]
        own = None if fingerprint is None else difference(fingerprint["code"], code_of(cell.job, config))
        return _Finished(seal(result), self._of_inputs(cell, config, used) or own)

    def _of_inputs(self, cell: Cell, config: Config, used: Mapping[str, str | None]) -> str | None:
        """An input that is stale itself, or that has been made again by other code since this run used it."""
        for needed in inputs(cell.job, config):
            other = cell_of(needed)
            found = None if other is None else self._look(other, needed)
            if other is None or found is None:
                continue
            if found.reason is not None:
                return found.reason
            if used.get(other.folder.name, found.seal) != found.seal:
                return f"its {'model' if other.job == 'train' else other.job} was made again"
        return None
