"""Making a finished run again: beside its folder, whose place the new one takes only once it is whole."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from runner.core.identity import digest
from runner.core.store import Folder, write_json

log = logging.getLogger(__name__)


def beside(path: Path) -> Folder:
    """Where the run of a folder is made again."""
    return Folder(path.parent / ".again" / path.name)


def failure(path: Path) -> str | None:
    """Why a run failed when it was last tried, or could not be made again, in one line; None where it did not."""
    results = (folder.result() or {} for folder in (Folder(path), beside(path)))
    return next((str(result.get("error", "")) for result in results if result.get("status") == "failed"), None)


def stamp(path: Path) -> str | None:
    """What there is of a run, in one word: another one after each time that it ended, well or not; None before the first."""
    results = [Folder(path).result(), beside(path).result()]
    return digest({"results": results}) if any(results) else None


def replace(path: Path) -> None:
    """Put the new run in the place of the old one. Between two renames neither is there, and both are whole beside it."""
    new, old = beside(path).path, _old(path)
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def tidy(path: Path) -> None:
    """Remove what the makers of a finished run have left, should they have been killed after their last write."""
    Folder(path).tidy()
    shutil.rmtree(_old(path), ignore_errors=True)


def _old(path: Path) -> Path:
    return path.parent / ".again" / f"{path.name}.old"


def settle(path: Path) -> None:
    """Put a new run in its place that was whole already when an earlier call ended; by whom holds the folder."""
    if beside(path).finished():
        beside(path).tidy()
        replace(path)


def resume_with(code: Mapping[str, str], folder: Folder) -> None:
    """Keep what an earlier call left half-done if the same code did it, else drop it: rows are of one code.

    Work that does not say what code began it, being older than that, is kept.
    """
    file = folder.scratch / "code.json"
    begun = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    if begun is not None and begun != code:
        log.warning("%s begins anew: the code that it was begun with has changed", folder.path.name)
        for state in folder.scratch.iterdir():
            if state != file:  # that goes last: a kill in between must not leave old state without it
                state.unlink()
    write_json(file, code)
