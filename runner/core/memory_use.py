"""How much memory a computation holds at once, and how much the machine has."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_LIMITS = ("memory.max", "memory.limit_in_bytes")
"""The limit of a control group, version 2 and version 1."""


def peak_bytes(compute: Callable[[], Any]) -> int:
    """Largest number of bytes that tensors made by `compute` hold at one time. The same on every machine and at every load.

    Workspaces inside an operation are not counted.
    """
    with _Live() as live:
        compute()
    peak: int = live.peak
    return peak


class _Live(TorchDispatchMode):
    """Counts the storages of all results while they live, backward passes included."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # torch would import its compiler, 7 seconds, to leave this class out of it
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What the function returns."""
        result = function(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor) and type(each) is Tensor:
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, storage._cdata, storage.nbytes()).atexit = False

    def _free(self, name: int, size: int) -> None:
        self._known.discard(name)
        self.now -= size


def total_bytes(device: torch.device) -> int:
    """Memory of the device, or of this machine within the limits of the control groups that the process is in."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *_group_limits()])


def _group_limits(process: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """Limits of this process's control groups and of all groups around them."""
    lines = process.read_text(encoding="utf-8").splitlines() if process.is_file() else []
    for _, controllers, name in (line.split(":", 2) for line in lines):
        if controllers in ("", "memory"):
            inner = root / controllers / name.strip("/")
            for group in (inner, *inner.parents):
                yield from (int(text) for file in _LIMITS if (text := _text(group / file)).isdigit())


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""
