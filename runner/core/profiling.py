"""Profiles a run: the time of each operation (`profile=true`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROWS = 40
"""Operations listed in `profile.txt`, slowest first (own time)."""

_open: list[Path] = []


@contextmanager
def profiled(folder: Path) -> Iterator[None]:
    """Write `profile.txt` (a table) and `trace.json` (for chrome://tracing) to `folder` when the block ends.

    Does nothing inside another profiled block, so the inputs that a run makes are part of its own profile.
    """
    import torch
    from torch.profiler import profile

    if _open:
        yield
        return
    _open.append(folder)
    try:
        with profile() as found:
            yield
    finally:
        _open.clear()
    order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    (folder / "profile.txt").write_text(found.key_averages().table(sort_by=order, row_limit=ROWS), encoding="utf-8")
    found.export_chrome_trace(str(folder / "trace.json"))
