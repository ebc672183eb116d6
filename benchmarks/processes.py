"""The program in processes of its own, and the folders that it writes into."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

ROOT = Path(__file__).resolve().parents[1]
RUN = str(ROOT / "run.py")


def folder() -> Path:
    """A folder that lasts as long as this process."""
    made = Path(mkdtemp())
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def python(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """A finished Python process, whatever its exit code, with what it wrote. It starts in the repository's root."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
