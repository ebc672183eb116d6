"""Where a result comes from: commit, versions, machine and SLURM job. Only facts from a fixed list, so that no secret of the
environment can slip in."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "hydra-core", "numpy", "pandas", "wandb")
SLURM_IDS = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")
_SOURCE = Path(__file__).resolve().parents[2]
COMMIT_FILE = "commit.json"
"""File in a copy of the code with the commit that it was made from, and whether that was dirty."""
_GIT_TIMEOUT = 10.0


def provenance() -> dict[str, Any]:
    """Plain facts about this process: what ran (git, versions), where (host, CPUs, GPU, SLURM) and when (UTC)."""
    return {
        "git": dict(_git(_SOURCE)),
        "versions": dict(_versions()),
        "host": platform.node(),
        "platform": platform.platform(),
        "cpus": _usable_cpus(),
        **_torch_facts(),
        "slurm": {name: os.environ[name] for name in SLURM_IDS if name in os.environ},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def _git(source: Path) -> Mapping[str, str | bool | None]:
    """Commit of a checkout and whether tracked files have changed; None unless `source` is its root.

    Only the root counts: a package installed inside another checkout must not report that checkout's commit.
    """
    unknown: dict[str, str | bool | None] = {"commit": None, "dirty": None}
    if (source / COMMIT_FILE).is_file():
        return {**unknown, **json.loads((source / COMMIT_FILE).read_text(encoding="utf-8"))}
    if not (source / ".git").exists():
        return unknown
    command = ["git", "-C", str(source), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    # GIT_DIR and similar variables would point git elsewhere; without optional locks, parallel jobs do not touch the index.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_TIMEOUT,
            env=clean | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return unknown
    lines = done.stdout.splitlines()
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if not commits or commits[0] == "(initial)":
        return unknown
    return {"commit": commits[0], "dirty": any(not line.startswith("#") for line in lines)}


@cache
def _versions() -> Mapping[str, str | None]:
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _usable_cpus() -> int | None:
    """CPUs that this process may use; in a SLURM job or a container these can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _torch_facts() -> dict[str, Any]:
    """Threads and GPU, if torch is loaded already; importing it only for this would be slow."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"torch_threads": None, "gpu": None}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"torch_threads": torch.get_num_threads(), "gpu": gpu}
