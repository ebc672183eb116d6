"""`python -m runner.sync [FOLDER ...]`: upload the offline W&B runs of a store, one by one; what is uploaded already is skipped.

One by one, because a torn file makes `wandb sync` give up on all the files beside it. Runs of one id, the segments of a job
that was interrupted, go up in the order in which they began, since W&B appends each to what is there; while a process still
works on that job, none does. A torn file is left alone, with a message: its values are in the store, and sent twice they would
stand twice in a curve.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.core.store import held

State = Literal["uploaded", "skipped", "running", "torn", "failed"]
SECONDS = 600.0
"""What one upload may take: without a network `wandb sync` tries for ever."""

_IDENT, _HEADER, _BLOCK = b":W&B", 7, 32 * 1024
_WAITS: tuple[State, str] = ("failed", "its earlier part failed")
_LAST = (1, 4)
"""Kinds of chunk that end a record: the whole of one, and the last of several."""


@dataclass(frozen=True)
class Run:
    """An offline run: a `.wandb` file in a folder that is named after the time at which it began."""

    file: Path

    @property
    def id(self) -> str:
        """`<job>-<identity>`."""
        return self.file.stem.removeprefix("run-")

    @property
    def synced(self) -> bool:
        """Whether `wandb sync` has marked it."""
        return self.file.with_name(f"{self.file.name}.synced").exists()


def offline_runs(folders: Iterable[Path]) -> list[Run]:
    """All offline runs below some folders, the earlier first."""
    files = {file.resolve() for folder in folders for file in folder.rglob("offline-run-*/*.wandb")}
    return [Run(file) for file in sorted(files, key=lambda file: (file.parent.name, file))]


def torn(content: bytes) -> str | None:
    """Why a log of W&B's cannot be uploaded as a whole, None where it ends with a whole record.

    A log is a header and records in chunks, as in LevelDB: checksum, length and kind (7 bytes), then the content; no chunk
    crosses a border of 32 KiB, and fewer than 7 bytes before one are padding.
    """
    if content[:4] != _IDENT or len(content) < _HEADER:
        return "no header of W&B's"
    place, records, kind = _HEADER, 0, 0
    while place < len(content):
        room = _BLOCK - place % _BLOCK
        if room < _HEADER:
            place += room
            continue
        if place + _HEADER > len(content):
            return f"ends within a record, after {records} whole ones"
        _, length, kind = struct.unpack_from("<IHB", content, place)
        place += _HEADER + length
        records += kind in _LAST and place <= len(content)
    if place > len(content) or kind not in _LAST:
        return f"ends within a record, after {records} whole ones" if records or kind else "holds no record"
    return None


def upload(runs: Sequence[Run], outputs: Sequence[Path], console: Console) -> Counter[State]:
    """Bring every run up, and say what became of it. After a failure the later parts of the same run wait."""
    counts: Counter[State] = Counter()
    lost: set[str] = set()
    for run in runs:
        state, told = _WAITS if run.id in lost else _upload(run, outputs)
        counts[state] += 1
        if state == "failed":
            lost.add(run.id)
        if state != "skipped":
            why = f": {escape(told)}" if told else ""
            console.print(f"{state} {escape(run.file.parent.name)}{why}", soft_wrap=True, highlight=False)
    return counts


def _upload(run: Run, outputs: Sequence[Path]) -> tuple[State, str]:
    if run.synced:
        return "skipped", ""
    if _in_work(run, outputs):
        return "running", "a process works on this job"
    if why := torn(run.file.read_bytes()):
        return "torn", why
    return _call_wandb(run)


def _in_work(run: Run, outputs: Sequence[Path]) -> bool:
    identity = run.id.rsplit("-", 1)[-1]
    return any(held(folder) for store in outputs for folder in store.glob(f"*/*-{identity}"))


def _call_wandb(run: Run) -> tuple[State, str]:
    """Run `wandb sync`. Its exit code is 0 even where it uploaded nothing: what counts is the mark that it leaves."""
    command = [_wandb(), "sync", str(run.file.parent)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return "failed", f"no end after {SECONDS:.0f} seconds; is there a network?"
    if run.synced:
        return "uploaded", ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return "failed", lines[-1] if lines else f"wandb sync ended with {done.returncode} and said nothing"


def _wandb() -> str:
    """The `wandb` command: the first on PATH, or the one beside this Python."""
    return shutil.which("wandb") or str(Path(sys.executable).with_name("wandb"))


def main(arguments: Sequence[str]) -> int:
    """Upload what lies below the given folders. Returns the exit code: 1 when an upload failed, 2 for bad input."""
    console = Console(stderr=True)
    folders = [Path(name) for name in arguments or [os.environ.get("OUTPUTS", "outputs")]]
    for folder in folders:
        if not folder.is_dir():
            console.print(f"error: {escape(str(folder))}: no such folder", soft_wrap=True)
            return 2
    try:
        with FileLock(folders[0] / ".sync.lock", timeout=0):
            counts = upload(offline_runs(folders), folders, console)
    except Timeout:
        console.print(f"error: another sync of {escape(str(folders[0]))} is at work", soft_wrap=True)
        return 2
    table = Table(*get_args(State), title="Offline W&B runs")
    table.add_row(*(str(counts[state]) for state in get_args(State)))
    console.print(table)
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
