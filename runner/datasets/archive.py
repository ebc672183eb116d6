"""The files of a tar archive, as a folder would have them: the last of equal names counts, and links inside are followed."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from runner.core.errors import ConfigError
from runner.datasets.disk import LeftOut, hidden

_HOPS = 40
"""Links that one name may lead over, as in Linux; more are a loop."""

_PIECE = 2**20
"""Bytes read at once."""


class _Member(tarfile.TarInfo):
    """A member of an archive that was not cut: `tarfile` itself takes a missing or broken header for the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the zeros at the end; not in typeshed
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"cut or damaged: {error}") from error


def members(source: Path, left: LeftOut) -> dict[str, int]:
    """Relative name of each file -> place of its content. Errors: `ConfigError` naming an archive that is cut or damaged."""
    names = _Names()
    with _opened(source) as tar:
        for member in tar:
            names.add(member)
        _read_on(tar)
    return dict(names.walk("", "", ("",), left))


def read_members(source: Path, places: Mapping[str, int]) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) for each name of `members`, in the archive's own order, since seeking is slow. Errors: as `members`."""
    at: dict[int, list[str]] = defaultdict(list)
    for name, place in places.items():
        at[place].append(name)
    with _opened(source) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.offset in at else None
            content = b"" if file is None else file.read()
            for name in at.get(member.offset, ()):
                yield name, io.BytesIO(content)


class _Names:
    """Files and links by their names in the archive, and the names in each of its folders."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.links: dict[str, str] = {}
        self.inside: dict[str, set[str]] = {"": set()}

    def add(self, member: tarfile.TarInfo) -> None:
        """Take a member in, in place of an earlier one of its name."""
        name = _plain(member.name)
        if name in {"", ".."} or name.startswith("../"):
            return
        self.files.pop(name, None)
        self.links.pop(name, None)
        if member.isfile():
            self.files[name] = member.offset
        elif member.issym():
            self.links[name] = posixpath.join(posixpath.dirname(name), member.linkname)
        elif member.islnk():
            self.links[name] = _plain(member.linkname)
        elif member.isdir():
            self.inside.setdefault(name, set())
        while name:
            folder, _, last = name.rpartition("/")
            self.inside.setdefault(folder, set()).add(last)
            name = folder

    def walk(self, shown: str, folder: str, above: tuple[str, ...], left: LeftOut) -> Iterator[tuple[str, int]]:
        """Name and place of each file in `folder`, which is reached as `shown` through the folders `above`."""
        for entry in sorted(self.inside[folder]):
            name, real = (posixpath.join(where, entry) for where in (shown, folder))
            found = self._followed(real)
            if hidden(entry):
                left.add("hidden", name)
            elif found in self.files:
                yield name, self.files[found]
            elif found not in self.inside:
                left.add("dangling link" if real in self.links else "no picture", name)
            elif found in above:
                left.add("link back", name)
            else:
                yield from self.walk(name, found, (*above, found), left)

    def _followed(self, name: str) -> str:
        """The name that is meant, without links; `..` if they lead out of the archive or in a circle."""
        for _ in range(_HOPS):
            parts = name.split("/")
            heads = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
            link = next((head for head in heads if head in self.links), None)
            if link is None:
                return name
            target = posixpath.normpath(self.links[link] + name[len(link) :])
            name = "" if target == "." else target
        return ".."


@contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source, tarinfo=_Member) as tar:
            yield tar
    except ConfigError:
        raise
    except Exception as error:  # OSError, EOFError, or the decompressor's own
        reason = "cut or damaged" if "\n" in str(error) else error  # tarfile lists what it tried
        raise ConfigError(f"dataset.root={source}: the archive cannot be read to its end ({reason})") from error


def _read_on(tar: tarfile.TarFile) -> None:
    """To the end of the file, where gzip and xz keep what they are checked with; `tarfile` stops at the tar's own end."""
    rest: IO[bytes] = tar.fileobj  # type: ignore[assignment]  # None where it is closed
    while rest.read(_PIECE):
        pass


def _plain(name: str) -> str:
    plain = posixpath.normpath(name).lstrip("/")
    return "" if plain == "." else plain
