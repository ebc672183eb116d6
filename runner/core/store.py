"""The store: folders under `outputs/`, written so that a kill at any moment leaves nothing that reads as whole but is not.

A file is written beside its place and renamed. `result.json` comes last: a folder is finished only if it says
`"status": "ok"`. One process at a time works in a folder, under a file lock that the system drops when its holder dies.

The store has a version. It stands in each `result.json` and in each state that a run resumes from, so that folders may be
copied from store to store, many processes may write at once, and a store that nobody may write to can be read.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock, Timeout

from runner.core import stopping
from runner.core.errors import StoreError
from runner.core.secrets import hidden

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

VERSION = 1
"""Version of what is written; everything up to it can be read, and what states none is of version 1."""

VERSION_KEY = "store_version"

log = logging.getLogger(__name__)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; on success it is flushed to disk and takes the place of `path` in one step.

    The path is nobody else's: numbers of processes are not, where containers or nodes share a disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is told without it
        raise
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step, without the secrets of the environment."""
    with replacing(path) as beside:
        beside.write_text(hidden(text), encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one step; keys keep their order, and what JSON has no number for (inf, nan) becomes null."""
    write_text(path, json.dumps(_sayable(content), indent=2, default=str, allow_nan=False) + "\n")


def _sayable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sayable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(item) for item in value]
    if isinstance(value, str):
        return hidden(value)  # here, because JSON would spell some of its characters in another way
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a parquet file in one step."""
    with replacing(path) as beside:
        frame.to_parquet(beside, index=False)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file in one step, readable by whom the umask says. Reading it executes no code."""
    from safetensors.torch import save

    notes = {**(metadata or {}), VERSION_KEY: str(VERSION)}
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, notes)
    with replacing(path) as beside:
        beside.write_bytes(content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Tensors and metadata of a safetensors file; None when there is none or when it is torn.

    Errors: `StoreError` when a newer version of the store wrote it.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            refuse_newer(path, metadata.pop(VERSION_KEY, None))
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        log.warning("%s cannot be read (%s): its work is done again", path, error)
        return None


def refuse_newer(path: Path, version: object) -> None:
    """Raise `StoreError` unless `version`, as a file states it or None, is one that this code reads."""
    stated = str(VERSION if version is None else version)
    if not stated.isdecimal() or int(stated) > VERSION:
        raise StoreError(f"{path}: made by a newer version of the store, {stated}; this code reads up to {VERSION}")


@dataclass(frozen=True)
class Folder:
    """One run's folder."""

    path: Path

    @property
    def scratch(self) -> Path:
        """Where a run keeps the state it resumes from; it goes once the run has ended well."""
        return self.path / "scratch"

    def result(self) -> dict[str, Any] | None:
        """Content of `result.json`, or None. Errors: `StoreError` when a newer version of the store wrote it."""
        file = self.path / "result.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        if not isinstance(content, dict):
            return None
        refuse_newer(file, content.get(VERSION_KEY))
        return content

    def finished(self) -> dict[str, Any] | None:
        """The result if the run ended well, else None."""
        result = self.result()
        return result if result is not None and result.get("status") == "ok" else None

    def record(self, status: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Write `result.json`: the last act of a run. What it would resume from goes only after that."""
        result = {"status": status, VERSION_KEY: VERSION, **content}
        write_json(self.path / "result.json", result)
        if status == "ok":
            self.tidy()
        return result

    def tidy(self) -> None:
        """Remove what a finished run has left: its state, and files that a process did not live to write whole."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        for torn in self.path.rglob(".*.tmp"):
            with suppress(OSError):
                torn.unlink()


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[Folder]:
    """Hold a run's folder for this process; a second process waits (and `waiting` is called once).

    Errors: `StopRequested` when told to stop while it waits.
    """
    file = _lock_file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        _acquire(lock, waiting)
        path.mkdir(parents=True, exist_ok=True)
        yield Folder(path)
    finally:
        lock.release()


def _acquire(lock: FileLock, waiting: Callable[[], None] | None) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting is not None:
            waiting()
    while not lock.is_locked:
        with suppress(Timeout):
            lock.acquire(timeout=1.0)
        stopping.check()


def held(path: Path) -> bool:
    """Whether some process holds a run's folder now; False where this process may not know."""
    file = _lock_file(path)
    if not file.is_file():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def inside(outputs: Path, named: str) -> Path:
    """A folder of the store by the path that a file of the store has for it. Errors: `StoreError` for one that leads out.

    Links are followed: that is how people spread a store over disks.
    """
    if Path(named).is_absolute() or ".." in Path(named).parts:
        raise StoreError(f"{outputs}: a file in it names the folder {named}, which is not in it")
    return outputs / named


def _lock_file(path: Path) -> Path:
    return path.parent / ".locks" / f"{path.name}.lock"
