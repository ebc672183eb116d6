"""Which finished runs are stale: their code, or the code of their inputs, has changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.runs.fingerprint import changes_since, code_of, fingerprint_hash
from runner.runs.run import Run
from runner.store.folder import Folder


@dataclass(frozen=True)
class _Finished:
    """A finished run: the hash of its fingerprint, and why it is stale, if it is."""

    fingerprint: str | None
    reason: str | None


class Staleness:
    """Finds stale runs among the finished runs of a sweep. Each run is checked once, however many cells need it."""

    def __init__(self) -> None:
        self.unknown: set[Path] = set()
        """Finished runs that are older than fingerprints; they count as done."""
        self._known: dict[Path, _Finished | None] = {}

    def reason(self, run: Run) -> str | None:
        """Why a finished run is stale, in one line; None if it is not."""
        found = self._look(run)
        return None if found is None else found.reason

    def _look(self, run: Run) -> _Finished | None:
        if run.folder not in self._known:
            result = Folder(run.folder).finished()
            self._known[run.folder] = None if result is None else self._judged(run, result)
        return self._known[run.folder]

    def _judged(self, run: Run, result: Mapping[str, Any]) -> _Finished:
        stated = result.get("fingerprint")
        if stated is None:
            self.unknown.add(run.folder)
        used = {} if stated is None else stated["inputs"]
        own = None if stated is None else changes_since(stated, code_of(run))
        return _Finished(fingerprint_hash(result), self._of_inputs(run, used) or own)

    def _of_inputs(self, run: Run, used: Mapping[str, str | None]) -> str | None:
        """The reason if an input is stale itself, or was rerun with other code since this run used it."""
        for needed in run.inputs:
            found = self._look(needed)
            if found is None:
                continue
            if found.reason is not None:
                return found.reason
            if used.get(needed.folder.name, found.fingerprint) != found.fingerprint:
                return f"its {'model' if needed.job.name == 'train' else needed.job.name} was rerun with other code"
        return None
