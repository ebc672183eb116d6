"""The files of a folder of images: links followed, loops ended, and what is left out counted by reason."""

from __future__ import annotations

import errno
import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runner.core.errors import ConfigError

Facts = tuple[int, int]
"""Size in bytes and time of modification in nanoseconds."""
NAMED = 3
"""Names that stand in the line about what was left out, for each reason."""


@dataclass
class LeftOut:
    """Names that are not read, by reason; a folder counts once."""

    names: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, reason: str, name: str) -> None:
        """Note a name."""
        self.names[reason].add(name)

    def __str__(self) -> str:
        """`2 hidden (._a.png, .cache), 1 no picture (notes.txt)`; empty if nothing was left out."""
        return ", ".join(f"{len(names)} {reason} ({_few(sorted(names))})" for reason, names in self.names.items())


def hidden(name: str) -> bool:
    """Whether a file or folder is a program's own: thumbnails, checkpoints, and what macOS puts beside each file."""
    return name.startswith(".") or name == "__MACOSX"


def walk(folder: Path, left: LeftOut) -> Iterator[tuple[str, Facts]]:
    """Relative name and facts of each file under `folder`. Errors: `ConfigError` naming a folder that cannot be read."""
    status = folder.stat()
    yield from _walk(folder, "", ((status.st_dev, status.st_ino),), left)


def _walk(top: Path, relative: str, above: tuple[tuple[int, int], ...], left: LeftOut) -> Iterator[tuple[str, Facts]]:
    """`above`: the folders that contain this one, by device and inode; a link back to one of them is a loop."""
    try:
        entries = sorted(os.listdir(top / relative))
    except OSError as error:
        raise ConfigError(
            f"dataset.root={top}: the folder {relative or '.'} cannot be read ({error.strerror})"
        ) from error
    for entry in entries:
        name = f"{relative}/{entry}" if relative else entry
        if hidden(entry):
            left.add("hidden", name)
            continue
        status = _status(top, name)
        if status is None:
            left.add("dangling link", name)
        elif stat.S_ISREG(status.st_mode):
            yield name, (status.st_size, status.st_mtime_ns)
        elif not stat.S_ISDIR(status.st_mode):
            left.add("no picture", name)
        elif (here := (status.st_dev, status.st_ino)) in above:
            left.add("link back", name)
        else:
            yield from _walk(top, name, (*above, here), left)


def _status(top: Path, name: str) -> os.stat_result | None:
    """Of the file that a name leads to; None for a link to nothing or to itself, and for what has just been removed."""
    try:
        return os.stat(top / name)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return None
        raise ConfigError(f"dataset.root={top}: {name} cannot be read ({error.strerror})") from error


def _few(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
