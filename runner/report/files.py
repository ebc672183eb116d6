"""Files that are either the old ones or the new ones, never torn; and names that any file system takes."""

from __future__ import annotations

import os
import re
from pathlib import Path


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write beside and rename: a reader or a killed job sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with beside.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def slug(*parts: str) -> str:
    """The parts joined by '-', with everything but letters, digits, '.', '_' and '-' turned into '_'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts))
