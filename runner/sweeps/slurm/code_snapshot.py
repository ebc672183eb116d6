"""The code that a queued job runs: a copy made at submission, in a folder named by a digest of its content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner.core.hashing import DIGITS
from runner.runs.provenance import COMMIT_FILE, provenance

ROOT = Path(__file__).resolve().parents[3]
"""The folder of the running code: a checkout, a folder of installed packages, or a snapshot."""

COPIED = ("runner", "conf", "run.py")
_LEFT_OUT = ("__pycache__", "*.pyc")


def digest(root: Path = ROOT) -> str:
    """Hex digits of the SHA-256 over the names and contents of the code and the configs under `root`."""
    total = hashlib.sha256()
    for path in _files(root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()[: 2 * DIGITS]


def take(folder: Path) -> Path:
    """Copy the running code to a folder below `folder` named by its digest, unless it exists; returns that folder."""
    copy = folder.absolute() / digest()
    if copy.is_dir():
        return copy
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".copying-") as temporary:
        made = Path(temporary) / "code"
        for name in COPIED:
            _copy(ROOT / name, made / name)
        copy = folder.absolute() / digest(made)  # of the copy: the code may have changed meanwhile
        (made / COMMIT_FILE).write_text(json.dumps(provenance()["git"]), encoding="utf-8")
        try:
            os.replace(made, copy)
        except OSError:  # another process was faster; a non-empty folder cannot be replaced
            if not copy.is_dir():
                raise
    return copy


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _files(root: Path) -> Iterator[Path]:
    for name in COPIED:
        for folder, below, files in os.walk(root / name, followlinks=True):
            below[:] = sorted(set(below) - set(_LEFT_OUT))
            yield from (Path(folder) / file for file in sorted(files) if not file.endswith(".pyc"))
    if (root / "run.py").is_file():
        yield root / "run.py"
