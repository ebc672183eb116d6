"""The file that lists class folders in class order, one a line, such as ImageNet's synsets."""

from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path

from runner.core.errors import ConfigError, require


def read_synsets(synsets: str, root: Path) -> tuple[Path, tuple[str, ...]]:
    """The file, which may be a path, in `root`, or next to `root`, and its names. Errors: `ConfigError` naming the key."""
    for path in (Path(synsets).expanduser(), root / synsets, root.parent / synsets):
        if path.is_file():
            order = tuple(line.strip() for line in _text(path).splitlines() if line.strip())
            twice = [name for name, times in Counter(order).items() if times > 1]
            require(not twice, "dataset.synsets", path, f"without duplicates; {', '.join(twice[:3])} stands twice")
            return path, order
    raise ConfigError(
        f"dataset.synsets={synsets}: no such file, nor in dataset.root={root} or beside it; "
        "it names the class folders in class order, one a line"
    )


def _text(path: Path) -> str:
    """UTF-8 or, by its first bytes, UTF-16, as Windows writes them. Errors: `ConfigError` naming a file that is neither."""
    content = path.read_bytes()
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
        reason = "it has zeros" if "\0" in text else ""  # UTF-16 without its mark
    except UnicodeDecodeError as error:
        reason = error.reason
    if reason:
        raise ConfigError(f"dataset.synsets={path}: must be a text in UTF-8, or in UTF-16 with its mark ({reason})")
    return text
