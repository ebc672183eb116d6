"""Rerunning a finished run: in another folder, which replaces the old one only when it is complete."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from runner.core.hashing import digest
from runner.store.files import read_json, write_json
from runner.store.folder import Folder

log = logging.getLogger(__name__)

_CODE = "code.json"
"""File name in the scratch folder of the hashes of the code that wrote the saved state."""


def rerun_folder(path: Path) -> Folder:
    """Where a finished run is rerun."""
    return Folder(path.parent / ".again" / path.name)


def failure(path: Path) -> str | None:
    """Why the last attempt or rerun of a run failed, in one line; None if it did not fail."""
    results = (folder.result() or {} for folder in (Folder(path), rerun_folder(path)))
    return next((str(result.get("error", "")) for result in results if result.get("status") == "failed"), None)


def stamp(path: Path) -> str | None:
    """A hash of a run's stored results, which changes each time the run ends, successful or not; None before the first end."""
    results = [Folder(path).result(), rerun_folder(path).result()]
    return digest({"results": results}) if any(results) else None


def replace(path: Path) -> None:
    """Put the new run in place of the old one. A kill between the two renames leaves both complete, in other folders."""
    new, old = rerun_folder(path).path, _old(path)
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def tidy(path: Path) -> None:
    """Remove leftovers of a finished run whose process was killed after its last write."""
    Folder(path).tidy()
    shutil.rmtree(_old(path), ignore_errors=True)


def _old(path: Path) -> Path:
    return path.parent / ".again" / f"{path.name}.old"


def finish_replacing(path: Path) -> None:
    """Put a rerun in place that an earlier process completed but did not move. The caller must hold the folder's lock."""
    if rerun_folder(path).finished():
        rerun_folder(path).tidy()
        replace(path)


def resume_with(code: Mapping[str, str], folder: Folder) -> None:
    """Keep the saved state of an earlier call if the same code wrote it, else remove it: all rows come from one code.

    State that does not record its code (written by an older version) is kept.
    """
    file = folder.scratch / _CODE
    if not resumes(code, folder):
        log.warning("%s starts from the beginning: its code has changed since its state was saved", folder.path.name)
        for state in folder.scratch.iterdir():
            if state != file:  # rewritten last: a kill in between must not leave old state without it
                state.unlink()
    write_json(file, code)


def resumes(code: Mapping[str, str], folder: Folder) -> bool:
    """Whether this code may continue from the saved state in a folder, if there is any: the same code wrote it."""
    file = folder.scratch / _CODE
    return not file.is_file() or read_json(file) == code
