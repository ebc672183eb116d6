"""What was measured on: a short name of the hardware, and the head of a results file."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.timing import cores

_PACKAGES = ("torch", "numpy", "scipy", "captum", "quantus", "torchattacks", "foolbox")


def machine_name() -> str:
    """A short name of the hardware: model of the CPU, number of cores, model of the GPU."""
    names = [_cpu(), f"{cores()}-cores"]
    if torch.cuda.is_available():
        names.append(torch.cuda.get_device_name())
    return re.sub(r"[^a-z0-9]+", "-", " ".join(names).lower()).strip("-")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        told = next(line.split(":", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        told = platform.processor() or platform.machine()
    return re.sub(r"\((R|TM)\)|CPU|Processor|@.*", "", told, flags=re.IGNORECASE).strip()


def head(title: str, command: str, note: str = "") -> str:
    """What was measured on, with what, and how to repeat it."""
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"""# {title}

- Hardware: {_cpu()}, {cores()} cores{gpu}.
- Software: Python {platform.python_version()}, {versions}.
- Commit: {_commit()}.
- To repeat: `{command}`.{note and f" {note}"}
- Values are medians over rounds in which both sides took turns, with their ranges. One thread is timed in CPU seconds, all cores
  and a GPU in wall-clock seconds. MiB: most memory that one call took beyond what was in use. Sides were compared before they
  were timed; `agreement` says how. [How to read it](../README.md).
"""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _commit() -> str:
    def git(*words: str) -> str:
        told = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        return told.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../runner", "../conf")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (" with changes" if changed else "")
