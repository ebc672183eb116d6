"""A cache of decoded images on disk. A file is used only if its key and checksum match; otherwise the images are decoded."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import save
from torch import Tensor

from runner.core.errors import ConfigError
from runner.store.files import read_tensors, replacing

FORMAT = 3
"""Raised when the same file is decoded to other pixels: 2 scales pictures of more than 8 bits, 3 finds their transparent value."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """Images (N, C, H, W) uint8, labels (N,) and parts (N,) int64 (`runner.datasets.tree`), and the class names."""

    images: Tensor
    labels: Tensor
    parts: Tensor
    classes: tuple[str, ...]


def cached(folder: str | None, label: str, key: Mapping[str, Any], make: Callable[[], Decoded]) -> Decoded:
    """The result of `make`, read from `folder` if a valid file with this key is there (None: no cache).

    `key` is JSON data that determines the content. If several processes start together, one decodes.
    Errors: `ConfigError` when the folder cannot be written.
    """
    if folder is None:
        return make()
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    path = (
        Path(folder).expanduser() / f"{Path(label).name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"
    )
    lock = FileLock(f"{path}.lock")
    with _blamed_on(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        with _blamed_on(folder):
            found = _read(path, text)
        if found is None:
            found = make()
            with _blamed_on(folder):
                _write(path, text, found)
    finally:
        lock.release()
    return found


@contextmanager
def _blamed_on(folder: str) -> Iterator[None]:
    """What fails in here is the cache's fault; a picture that cannot be read is not."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"dataset.cache={folder}: cannot be used ({error}); name a writable folder, or null"
        ) from error


def _write(path: Path, text: str, decoded: Decoded) -> None:
    tensors = {"images": decoded.images.contiguous(), "labels": decoded.labels, "parts": decoded.parts}
    notes = {"key": text, "classes": json.dumps(decoded.classes), "checksum": _checksum(tensors)}
    with replacing(path) as beside:
        beside.write_bytes(save(tensors, metadata=notes))


def _read(path: Path, text: str) -> Decoded | None:
    """The content of a cache file; None if it is missing, damaged, or has another key."""
    stored = read_tensors(path)
    if stored is None:
        return None
    tensors, notes = stored
    if notes.get("key") != text or notes.get("checksum") != _checksum(tensors):
        _log.warning("cache file %s is damaged or belongs to other data: it is rebuilt", path)
        return None
    return Decoded(tensors["images"], tensors["labels"], tensors["parts"], tuple(json.loads(notes["classes"])))


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].contiguous().view(torch.uint8).numpy().reshape(-1).data, value)
    return f"{value:08x}"
