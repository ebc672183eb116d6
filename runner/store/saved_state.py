"""Saved state: nested plain data with tensors in one file, written and read by torch without executing code from the file."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from runner.store.files import replacing
from runner.store.version import VERSION, VERSION_KEY, refuse_newer

log = logging.getLogger(__name__)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state that a run resumes from, in one step."""
    content = BytesIO()
    torch.save({**state, VERSION_KEY: VERSION}, content)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())  # not by torch, whose error does not mention a full disk


def read_state(path: Path) -> dict[str, Any] | None:
    """The state that `write_state` wrote, on the CPU; None when it is missing, damaged, or would run code.

    Errors: `StoreError` when a newer version of the store wrote it.
    """
    if not path.is_file():
        return None
    try:
        content = load_plain(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no state")
    except ValueError as error:
        log.warning("%s cannot be read (%s): its work starts from the beginning", path, error)
        return None
    refuse_newer(path, content.pop(VERSION_KEY, None))
    return content


def load_plain(path: Path) -> Any:
    """Content of a torch file: tensors and plain data. Errors: `ValueError`, in one line, for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; unreadable files raise below
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ValueError("it is damaged, or would run code when loaded") from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ValueError((str(error).strip().splitlines() or ["damaged"])[0]) from error
