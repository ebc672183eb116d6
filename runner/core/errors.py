"""Errors that a user can fix: one clear line that names the key and what is allowed."""

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
        """The error for a value outside a closed set, with the nearest allowed value as a suggestion."""
        names = sorted(str(name) for name in allowed)
        close = difflib.get_close_matches(str(value), names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return cls(f"{key}={value}: allowed are {', '.join(names) or 'none'}{hint}")

    @classmethod
    def near(cls, key: str, value: object, allowed: Iterable[str], where: str) -> ConfigError:
        """The error for a value outside a long list that `where` has: the nearest of it."""
        names = list(allowed)
        close = difflib.get_close_matches(str(value), names, n=5, cutoff=0.5)
        return cls(f"{key}={value}: must be one of the {len(names)} of {where}; near are {', '.join(close) or 'none'}")


class StoreError(RuntimeError):
    """The store holds something that cannot be used (a newer version, a torn or foreign file)."""


class NotFiniteError(RuntimeError):
    """Weights, logits or maps hold nan or inf. The message names the tensor."""


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""The disk is full, its quota is used up, or it cannot be written to."""


def is_disk_error(error: BaseException) -> bool:
    """Whether the disk is the cause: then no run counts as failed, and all can resume once the disk is fixed."""
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


class FailedEarlierError(RuntimeError):
    """A run that failed earlier is skipped. The message is the one-line reason of that failure."""


def reason(error: Exception) -> str:
    """Why a run failed, in one line."""
    text = str(error) if isinstance(error, FailedEarlierError) else f"{type(error).__name__}: {error}"
    return (text.splitlines() or [""])[0]


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise `ConfigError` unless `condition` holds; `allowed` says what would be accepted."""
    if not condition:
        raise ConfigError(f"{key}={value}: must be {allowed}")


def require_at_least(key: str, value: float | None, least: int) -> None:
    """Reject a number below `least`; None passes."""
    require(value is None or value >= least, key, value, f"at least {least}")


def require_positive(key: str, value: float | None, allowed: str = "above 0") -> None:
    """Reject a number that is not above 0; None passes."""
    require(value is None or value > 0, key, value, allowed)


def one_line(error: BaseException) -> str:
    """The message of an error from Hydra, OmegaConf or this project as one line, with the allowed values."""
    cause = error.__cause__
    for candidate in (cause, error):
        if isinstance(candidate, OmegaConfBaseException) and "not in struct" in str(candidate):
            parent = candidate.parent_node
            allowed = [str(key) for key in parent] if isinstance(parent, Iterable) else []
            return unknown_key(str(candidate.full_key or candidate.key), allowed)
    text = str(error).split("Config search path:")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(error, HydraException) and cause is not None and str(cause) not in str(error):
        lines += [line.strip() for line in str(cause).splitlines()[:1]]
    return " ".join(lines).replace("Available options in", "available in")


def unknown_key(name: str, allowed: Iterable[str]) -> str:
    """The message for a key that does not exist: its full name, the keys that do exist, and the nearest of them."""
    visible = sorted(key for key in allowed if not key.startswith("_"))
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], visible, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"{name}: no such key; allowed here are {', '.join(visible) or 'none'}{hint}"
