"""`python -m runner.sync [FOLDER ...]`: upload the offline W&B runs of a store; runs that are uploaded already are skipped.

They are uploaded one by one, because one torn file makes `wandb sync` give up on all others. Runs with the same id are the
segments of an interrupted job; they are uploaded in the order in which they began, since W&B appends them, and not while a
process still works on that job. A torn file is skipped with a message: its values are in the store, and uploading it twice
would show them twice in a curve.
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

from runner.store.locks import held

State = Literal["uploaded", "skipped", "running", "torn", "failed"]
SECONDS = 600.0
"""Time limit of one upload: without a network, `wandb sync` tries forever."""

_IDENT, _HEADER, _BLOCK = b":W&B", 7, 32 * 1024
_NO_LOGIN = "No API key configured"
"""What `wandb sync` says without a login."""
_WAITS: tuple[State, str] = ("failed", "its earlier part failed")
_LAST = (1, 4)
"""Kinds of chunk that end a record: a whole record, and the last part of one."""


@dataclass(frozen=True)
class Run:
    """An offline run: a `.wandb` file in a folder named after the time at which it began."""

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
    """All offline runs below some folders, earliest first."""
    files = {file.resolve() for folder in folders for file in folder.rglob("offline-run-*/*.wandb")}
    return [Run(file) for file in sorted(files, key=lambda file: (file.parent.name, file))]


def torn(content: bytes) -> str | None:
    """Why a W&B log cannot be uploaded completely; None if it ends with a complete record.

    A log is a header and records in chunks, as in LevelDB: checksum, length and kind (7 bytes), then the content. No chunk
    crosses a block boundary (32 KiB); fewer than 7 bytes before a boundary are padding.
    """
    if content[:4] != _IDENT or len(content) < _HEADER:
        return "it has no W&B header"
    place, records, kind = _HEADER, 0, 0
    while place < len(content):
        room = _BLOCK - place % _BLOCK
        if room < _HEADER:
            place += room
            continue
        if place + _HEADER > len(content):
            return f"it ends within a record, after {records} complete ones"
        _, length, kind = struct.unpack_from("<IHB", content, place)
        place += _HEADER + length
        records += kind in _LAST and place <= len(content)
    if place > len(content) or kind not in _LAST:
        return f"it ends within a record, after {records} complete ones" if records or kind else "it holds no record"
    return None


def upload(runs: Sequence[Run], outputs: Sequence[Path], console: Console) -> Counter[State]:
    """Upload every run and print the outcome. After a failure, later segments of the same run are not uploaded.

    Without a login nothing can be uploaded: that is said once, and the runs that wait count as failed.
    """
    counts: Counter[State] = Counter()
    failed_ids: set[str] = set()
    for place, run in enumerate(runs):
        state, reason = _WAITS if run.id in failed_ids else _upload(run, outputs)
        if _NO_LOGIN in reason:
            waiting = sum(not later.synced for later in runs[place:])
            console.print(
                f"not logged in to W&B, so {waiting} runs wait: `wandb login`, or set WANDB_API_KEY, and try again",
                soft_wrap=True,
            )
            counts["failed"] += waiting
            return counts
        counts[state] += 1
        if state == "failed":
            failed_ids.add(run.id)
        if state != "skipped":
            why = f": {escape(reason)}" if reason else ""
            console.print(f"{state} {escape(run.file.parent.name)}{why}", soft_wrap=True, highlight=False)
    return counts


def _upload(run: Run, outputs: Sequence[Path]) -> tuple[State, str]:
    if run.synced:
        return "skipped", ""
    if _is_running(run, outputs):
        return "running", "a process is working on this job"
    if why := torn(run.file.read_bytes()):
        return "torn", why
    return _call_wandb(run)


def _is_running(run: Run, outputs: Sequence[Path]) -> bool:
    identity = run.id.rsplit("-", 1)[-1]
    return any(held(folder) for store in outputs for folder in store.glob(f"*/*-{identity}"))


def _call_wandb(run: Run) -> tuple[State, str]:
    """Run `wandb sync`. Success is the mark that it leaves, since its exit code is 0 even if it uploaded nothing."""
    command = [_wandb(), "sync", str(run.file.parent)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return "failed", f"not finished after {SECONDS:.0f} seconds; is there a network?"
    if run.synced:
        return "uploaded", ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return "failed", lines[-1] if lines else f"wandb sync ended with {done.returncode} and said nothing"


def _wandb() -> str:
    """The `wandb` command: the first on PATH, else the one next to this Python."""
    return shutil.which("wandb") or str(Path(sys.executable).with_name("wandb"))


def main(arguments: Sequence[str]) -> int:
    """Upload the runs below the given folders. Returns the exit code: 1 when an upload failed, 2 for bad input."""
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
        console.print(f"error: another sync of {escape(str(folders[0]))} is running", soft_wrap=True)
        return 2
    table = Table(*get_args(State), title="Offline W&B runs")
    table.add_row(*(str(counts[state]) for state in get_args(State)))
    console.print(table)
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
