"""Finds the class or function that a dotted path of the config names, wherever a user keeps it."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from hydra.utils import get_object

from runner.core.errors import ConfigError, require
from runner.core.vision import torchvision

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs, in several lines, the error that it then raises


def locate(path: str, key: str) -> Any:
    """The object at `package.module.name`, importable from the working directory, PYTHONPATH or the installed packages.

    Errors: `ConfigError` naming `key` for a path that cannot be imported.
    """
    search_working_directory()
    try:
        found = _found(path)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if not line.startswith("Are you sure")]
        raise ConfigError(f"{key}={path}: cannot be imported ({' '.join(lines)})") from error
    require(callable(found), key, path, f"a class or a function, not of type {type(found).__name__}")
    return found


def search_working_directory() -> None:
    """Let imports find modules in the working directory too, after all others. `python run.py` searches that of run.py."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)


def _found(path: str) -> Any:
    """The object; where its import fails for torchvision's missing operators (a CPU build of torch), these are declared first."""
    try:
        return get_object(path)
    except Exception as error:
        if "torchvision::nms" not in str(error):
            raise
    torchvision()
    return get_object(path)
