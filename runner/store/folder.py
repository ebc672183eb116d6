"""A run's folder under `outputs/`. `result.json` is written last: a run is finished only if it says `"status": "ok"`."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runner.core.errors import StoreError
from runner.store.files import write_json
from runner.store.version import VERSION, VERSION_KEY, refuse_newer

_STATED = {
    "train": ("seconds", "test_accuracy"),
    "attack": ("seconds", "dataset", "model", "defense", "seed", "metrics", "examples"),
    "evaluate": ("seconds", "runs"),
}
"""Keys that the result of a finished run has, by its job, as others read them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folder:
    """The folder of one run."""

    path: Path

    @property
    def scratch(self) -> Path:
        """The saved state that a run resumes from; removed when the run succeeds."""
        return self.path / "scratch"

    def result(self) -> dict[str, Any] | None:
        """Content of `result.json`, or None; then the run is not finished. Errors: as `stated`, for a newer version."""
        try:
            return self.stated()
        except ValueError as error:
            _warn(self.path / "result.json", str(error))
            return None

    def stated(self) -> dict[str, Any] | None:
        """Content of `result.json`, None if there is none.

        Errors: `ValueError` when it is damaged, `StoreError` when a newer version of the store wrote it.
        """
        file = self.path / "result.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not isinstance(content, dict):
            raise ValueError("it holds no result")
        refuse_newer(file, content.get(VERSION_KEY))
        if content.get("status") not in ("ok", "failed"):
            raise ValueError("it says neither ok nor failed")
        ended = content.get("status") == "ok"
        if missing := [
            key for key in ("job", *_STATED.get(str(content.get("job")), ())) if ended and key not in content
        ]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return content

    def finished(self) -> dict[str, Any] | None:
        """The result if the run succeeded, else None."""
        result = self.result()
        return result if result is not None and result.get("status") == "ok" else None

    def record(self, status: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write `result.json`, the last step of a run, and only then remove its saved state."""
        result = {"status": status, VERSION_KEY: VERSION, **content}
        write_json(self.path / "result.json", result)
        if status == "ok":
            self.tidy()
        return result

    def tidy(self) -> None:
        """Remove what a finished run no longer needs: its saved state, and temporary files of killed processes."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        for torn in self.path.rglob(".*.tmp"):
            with suppress(OSError):
                torn.unlink()


@cache
def _warn(file: Path, why: str) -> None:
    log.warning("%s cannot be read (%s): its run counts as not finished", file, why)


def inside(outputs: Path, named: str) -> Path:
    """The folder at a path that is stored relative to the store. Errors: `StoreError` for a path that leads out of the store.

    Symbolic links are followed, since a store may be spread over several disks.
    """
    if Path(named).is_absolute() or ".." in Path(named).parts:
        raise StoreError(f"{outputs}: a file in it names the folder {named}, which is not in it")
    return outputs / named
