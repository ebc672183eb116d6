"""The code that a queued job runs: a copy of the code it was submitted with, named by a digest of its content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner.core.identity import DIGITS
from runner.core.provenance import COMMIT_FILE, provenance

ROOT = Path(__file__).resolve().parents[2]
"""Where the running code lies: a checkout, a folder of installed packages, or such a copy."""

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
    """The copy of the running code under `folder`; the same code is copied once. Its folder's name is its digest."""
    copy = folder.absolute() / digest()
    if copy.is_dir():
        return copy
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".copying-") as beside:
        made = Path(beside) / "code"
        for name in COPIED:
            _copy(ROOT / name, made / name)
        copy = folder.absolute() / digest(made)  # what was copied, should the code have changed since it was looked at
        (made / COMMIT_FILE).write_text(json.dumps(provenance()["git"]), encoding="utf-8")
        try:
            os.replace(made, copy)
        except OSError:  # another process was faster; a folder that is not empty cannot be replaced
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
