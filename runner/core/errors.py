"""Errors that a user can mend: one clear line that names the key and what is allowed."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException


class ConfigError(ValueError):
    """Bad input, found before any work starts. The message names the key, its value and what would be allowed."""

    @classmethod
    def choice(cls, key: str, value: object, allowed: Iterable[object]) -> ConfigError:
        """Refuse a value outside a closed set, and suggest the nearest allowed one."""
        names = sorted(str(name) for name in allowed)
        close = difflib.get_close_matches(str(value), names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return cls(f"{key}={value}: allowed are {', '.join(names) or 'none'}{hint}")


class StoreError(RuntimeError):
    """The store holds something that cannot be used (a newer version, a torn or foreign file)."""


DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""Errors of a disk that is full, whose quota is used up, or that may not be written to."""


def of_the_disk(error: BaseException) -> bool:
    """Whether the store's disk is to blame: then no run has failed, and once that is mended all go on where they were."""
    return isinstance(error, OSError) and error.errno in DISK


class FailedEarlierError(RuntimeError):
    """A run that failed when it was tried is left alone. The message is what it failed with, in one line."""


def reason(error: Exception) -> str:
    """Why a run failed, in one line."""
    told = str(error) if isinstance(error, FailedEarlierError) else f"{type(error).__name__}: {error}"
    return (told.splitlines() or [""])[0]


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise `ConfigError` for a key out of range; `allowed` says what would be accepted."""
    if not condition:
        raise ConfigError(f"{key}={value}: must be {allowed}")


def one_line(error: BaseException) -> str:
    """What a user should read of an error from Hydra, OmegaConf or this project: one line, with the allowed values."""
    cause = error.__cause__
    for candidate in (cause, error):
        if isinstance(candidate, OmegaConfBaseException) and "not in struct" in str(candidate):
            parent = candidate.parent_node
            allowed = [str(key) for key in parent] if isinstance(parent, Iterable) else []
            return unknown_key(str(candidate.full_key or candidate.key), allowed)
    told = str(error).split("Config search path:")[0]
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    if isinstance(error, HydraException) and cause is not None and str(cause) not in str(error):
        lines += [line.strip() for line in str(cause).splitlines()[:1]]
    return " ".join(lines).replace("Available options in", "available in")


def unknown_key(name: str, allowed: Iterable[str]) -> str:
    """What to tell of a key that does not exist: its full name, the keys that do, and the nearest of them."""
    visible = sorted(key for key in allowed if not key.startswith("_"))
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], visible, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"{name}: no such key; allowed here are {', '.join(visible) or 'none'}{hint}"
