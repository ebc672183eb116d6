"""Class-folder trees, on disk or in a tar archive: their files, and the class and part of each."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runner.core.errors import ConfigError

PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff", ".gif")
TEST_FOLDERS = ("test", "val", "valid", "validation")
NO_PART, TRAIN, TEST = 0, 1, 2


@dataclass(frozen=True)
class Tree:
    """Files in sorted order, the class index and part (none, train, test) of each, and the sorted class folders."""

    names: tuple[str, ...]
    labels: tuple[int, ...]
    parts: tuple[int, ...]
    classes: tuple[str, ...]


def locate(root: str, folder: str | None, archive: str | None) -> Path:
    """What to read: ROOT/folder, ROOT/archive, or ROOT itself. Errors: `ConfigError` when it is missing."""
    base = Path(root).expanduser()
    for inner in (folder, archive):
        if inner and (base / inner).exists():
            return base / inner
    wanted = " or ".join(f"{base / inner}" for inner in (folder, archive) if inner)
    if not base.exists():
        raise ConfigError(
            f"dataset.root={root}: no such folder or archive; point it at a class-folder tree or a .tar of one"
            + (f" (looked for {wanted} too)" if wanted else "")
        )
    if base.is_file() and not tarfile.is_tarfile(base):
        raise ConfigError(
            f"dataset.root={root}: must be a folder of class folders, or a .tar, .tar.gz or .tar.xz of one"
        )
    return base


def list_pictures(source: Path) -> list[str]:
    """Sorted relative names of all image files of a folder or archive."""
    if source.is_file():
        with tarfile.open(source) as tar:
            found = [_plain(member.name) for member in tar if member.isfile()]
    else:
        found = [name for name, _ in _walk(source)]
    return sorted(name for name in found if name.lower().endswith(PICTURES))


def fingerprint(source: Path) -> str:
    """A digest of names, sizes and modification times, of the archive or of all files in the folder."""
    if source.is_file():
        facts = source.stat()
        return f"{facts.st_size}-{facts.st_mtime_ns}"
    return hashlib.sha256(repr(sorted(_walk(source))).encode()).hexdigest()


def read_pictures(source: Path, names: Sequence[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, open file) for each name; for an archive in its own order, since seeking is slow."""
    if source.is_dir():
        for name in names:
            with (source / name).open("rb") as file:
                yield name, file
        return
    wanted = set(names)
    with tarfile.open(source) as tar:
        for member in tar:
            name = _plain(member.name)
            content = tar.extractfile(member) if name in wanted else None
            if content is not None:
                yield name, io.BytesIO(content.read())


def arrange(names: Sequence[str], source: Path) -> Tree:
    """Read the layout: train/CLASS/FILE + test/CLASS/FILE (or val/), or CLASS/FILE, under any number of single folders.

    If there are both test/ and val/, test/ is used. Errors: `ConfigError` for any other layout.
    """
    paths = [name.split("/") for name in sorted(names)]
    depth = 0
    while paths and all(len(path) > depth + 2 for path in paths) and len({path[depth] for path in paths}) == 1:
        depth += 1
    tops = {path[depth] for path in paths if len(path) > depth}
    held_out = next((name for name in TEST_FOLDERS if name in tops), None)
    if "train" in tops and held_out:
        kept = {"train": TRAIN, held_out: TEST}
        stray = [path for path in paths if path[depth] not in {"train", *TEST_FOLDERS}]
        paths = [path for path in paths if path[depth] in kept]
        return _tree(paths, source, lambda path: path[depth + 1 : -1], lambda path: kept[path[depth]], stray)
    return _tree(paths, source, lambda path: path[depth:-1], lambda path: NO_PART, [])


def _tree(
    paths: list[list[str]],
    source: Path,
    folders: Callable[[list[str]], list[str]],
    part: Callable[[list[str]], int],
    stray: list[list[str]],
) -> Tree:
    misplaced = stray + [path for path in paths if not folders(path)]
    if misplaced or not paths:
        found = f"; found {'/'.join(misplaced[0])}" if misplaced else "; found no image file"
        raise ConfigError(
            f"dataset.root={source}: must hold CLASS/FILE, or train/CLASS/FILE and test/CLASS/FILE{found}"
        )
    classes = sorted({folders(path)[0] for path in paths})
    number = {name: index for index, name in enumerate(classes)}
    labels = tuple(number[folders(path)[0]] for path in paths)
    return Tree(tuple("/".join(path) for path in paths), labels, tuple(part(path) for path in paths), tuple(classes))


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _walk(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for where, _, files in os.walk(folder, followlinks=True):
        relative = os.path.relpath(where, folder).replace(os.sep, "/")
        for file in files:
            facts = os.stat(os.path.join(where, file))
            yield (file if relative == "." else f"{relative}/{file}"), (facts.st_size, facts.st_mtime_ns)
