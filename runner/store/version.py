"""The version of the store's format, in each `result.json` and each saved state.

It is in every file, so folders can be copied between stores, many processes can write, and read-only stores can be read.
"""

from __future__ import annotations

from pathlib import Path

from runner.core.errors import StoreError

VERSION = 1
"""Version that is written. All versions up to it can be read; files that state none have version 1."""

VERSION_KEY = "store_version"


def refuse_newer(path: Path, version: object) -> None:
    """Raise `StoreError` unless this code can read `version`, as stated in a file (None if it states none)."""
    stated = str(VERSION if version is None else version)
    if not stated.isdecimal() or int(stated) > VERSION:
        raise StoreError(f"{path}: made by a newer version of the store, {stated}; this code reads up to {VERSION}")
