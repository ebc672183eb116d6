"""Where the pictures of a class-folder tree are, on disk or in a tar archive: found, listed and opened."""

from __future__ import annotations

import hashlib
import logging
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from PIL import Image

from runner.core.errors import ConfigError
from runner.datasets.archive import members, read_members
from runner.datasets.disk import LeftOut, hidden, walk

_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".ppm", ".pgm", ".pbm", ".pnm", ".bmp", ".webp", ".tif", ".tiff"),
    *(".gif", ".jp2", ".j2k", ".avif"),
}
_log = logging.getLogger(__name__)


def is_picture(name: str) -> bool:
    """Whether a file is read: by the end of its name, as far as Pillow reads that format here."""
    suffix = Path(name).suffix.lower()
    return (
        suffix in _SUFFIXES and Image.registered_extensions().get(suffix) in Image.OPEN and not hidden(Path(name).name)
    )


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
    if base.is_file() and not _archived(base):
        raise ConfigError(
            f"dataset.root={root}: must be a folder of class folders, or a .tar, .tar.gz or .tar.xz of one"
        )
    return base


def list_pictures(source: Path) -> dict[str, int]:
    """Sorted relative names of all image files of a folder or archive -> place in the archive (0 for a folder).

    One line in the log says what was left out. Errors: `ConfigError` naming what cannot be read.
    """
    left = LeftOut()
    found = members(source, left) if source.is_file() else dict.fromkeys((name for name, _ in walk(source, left)), 0)
    for name in found:
        if not is_picture(name):
            left.add("no picture", name)
    if left.names and any(map(is_picture, found)):
        _log.info("left out of %s: %s", source, left)
    return {name: found[name] for name in sorted(found) if is_picture(name)}


def fingerprint(source: Path) -> str:
    """A digest of names, sizes and modification times, of the archive or of all files in the folder that are not hidden."""
    if source.is_file():
        facts = source.stat()
        return f"{facts.st_size}-{facts.st_mtime_ns}"
    return hashlib.sha256(repr(sorted(walk(source, LeftOut()))).encode()).hexdigest()


def read_pictures(source: Path, places: Mapping[str, int]) -> Iterator[tuple[str, Path | IO[bytes]]]:
    """(name, file) for each name of `list_pictures`; for an archive in its own order."""
    return read_members(source, places) if source.is_file() else ((name, source / name) for name in places)


def _archived(path: Path) -> bool:
    """A .tar by its content, or a compressed one by its first bytes: it may be cut, which is told when it is read."""
    with path.open("rb") as file:
        start = file.read(6)
    compressed = start.startswith((b"\x1f\x8b", b"\xfd7zXZ\x00", b"BZh"))
    return compressed or tarfile.is_tarfile(path)
