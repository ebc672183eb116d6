"""Files of the store. Each is written to a temporary file, flushed and renamed, so that a kill leaves the old or the new file."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from runner.core.secrets import hidden
from runner.store.version import VERSION, VERSION_KEY, refuse_newer

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

log = logging.getLogger(__name__)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path next to `path` to write to; on success it is flushed to disk and replaces `path` in one step.

    Its name is random: process ids are not unique where containers or nodes share a disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk raises without a file name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step, without the secrets of the environment."""
    with replacing(path) as temporary:
        temporary.write_text(hidden(text), encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one step; keys keep their order; inf and nan, which JSON lacks, become null."""
    write_text(path, json.dumps(_as_json(content), indent=2, default=str, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Saved state of `write_json`; None when it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no state")
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s cannot be read (%s): its work starts from the beginning", path, error)
        return None
    return content


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, str):
        return hidden(value)  # before JSON escapes some of its characters
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a parquet file in one step."""
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file in one step, with the permissions of the umask. Reading it executes no code."""
    from safetensors.torch import save

    notes = {**(metadata or {}), VERSION_KEY: str(VERSION)}
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, notes)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Tensors and metadata of a safetensors file; None when it is missing or damaged.

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
        log.warning("%s cannot be read (%s): its work starts from the beginning", path, error)
        return None
