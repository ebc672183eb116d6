"""Hashes of plain data: equal content has equal hashes, whatever the order of keys and the way numbers are written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from runner.core.errors import ConfigError
from runner.core.grid import exact

DIGITS = 12
"""Hex digits of a hash in ids and folder names."""

_WHOLE = 1e15
"""Below this, every whole number is exact as a float."""

_FRACTION = re.compile(r"\d+(\.\d+)?\s*/\s*\d+")


def plain(value: Any) -> Any:
    """Nested plain data with every number in one form: 0.30000000000000004 becomes 0.3, and 1.0 becomes 1."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if not isinstance(value, float):
        return value
    short = float(format(value, ".12g"))
    return int(short) if short.is_integer() and abs(short) < _WHOLE else short


def digest(identity: Mapping[str, Any]) -> str:
    """The first 12 hex digits of the SHA-256 of the canonical form."""
    text = json.dumps(canonical(identity), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def canonical(value: Any) -> Any:
    """Nested plain data with every number as text in one form."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return canonical(float(exact(value, "config"))) if _FRACTION.fullmatch(value) else f"s:{value}"
    if isinstance(value, int):
        return f"n:{value}"
    if isinstance(value, float):
        return f"n:{plain(value)}"
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    raise ConfigError(f"config: {value!r} ({type(value).__name__}) cannot be part of an experiment's identity")


def folder_name(labels: Sequence[str], identity: str | None = None) -> str:
    """`label-label-...-identity`; labels keep only letters, digits and `._`, so that none can leave the parent folder."""
    safe = [re.sub(r"[^A-Za-z0-9._]+", "_", label).strip("._") or "x" for label in labels]
    return "-".join(safe)[:180] + (f"-{identity}" if identity else "")
