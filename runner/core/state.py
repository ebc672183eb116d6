"""Nested plain data with tensors in one file, written and read by torch without running any code that stands in it."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from runner.core.store import VERSION, VERSION_KEY, refuse_newer, replacing

log = logging.getLogger(__name__)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what a run resumes from, in one step."""
    content = BytesIO()
    torch.save({**state, VERSION_KEY: VERSION}, content)
    with replacing(path) as beside:
        beside.write_bytes(content.getbuffer())  # by us: of a full disk torch says only that it failed


def read_state(path: Path) -> dict[str, Any] | None:
    """What `write_state` wrote, on the CPU; None when there is none, or when it is damaged or would run code.

    Errors: `StoreError` when a newer version of the store wrote it.
    """
    if not path.is_file():
        return None
    try:
        content = load_plain(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no state")
    except ValueError as error:
        log.warning("%s cannot be read (%s): its work is done again", path, error)
        return None
    refuse_newer(path, content.pop(VERSION_KEY, None))
    return content


def load_plain(path: Path) -> Any:
    """Content of a torch file: tensors and plain data. Errors: `ValueError`, in one line, for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read is refused below
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ValueError("it is damaged, or would run code when loaded") from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ValueError((str(error).strip().splitlines() or ["damaged"])[0]) from error
