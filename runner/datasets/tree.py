"""Class-folder trees: the class and the part of each file, by its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from runner.core.errors import ConfigError

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation", "validate", "dev", "eval", "evaluation")
"""Names of the part to test, the preferred first. Case does not matter, and neither does `set` behind it, as in `test_set`."""
NO_PART, TRAIN, TEST = 0, 1, 2


@dataclass(frozen=True)
class Tree:
    """Files in sorted order, the class index and part (none, train, test) of each, and the sorted class folders."""

    names: tuple[str, ...]
    labels: tuple[int, ...]
    parts: tuple[int, ...]
    classes: tuple[str, ...]


def arrange(names: Iterable[str], source: Path) -> Tree:
    """Read the layout: train/CLASS/FILE + test/CLASS/FILE (or val/), or CLASS/FILE, under any number of single folders.

    If there are both test/ and val/, test/ is used. Errors: `ConfigError` for any other layout.
    """
    paths = [name.split("/") for name in sorted(names)]
    depth = 0
    while paths and all(len(path) > depth + 2 for path in paths) and len({path[depth] for path in paths}) == 1:
        depth += 1
    tops = {path[depth] for path in paths if len(path) > depth}
    trained = [top for top in tops if _part_name(top) in TRAIN_NAMES]
    held_out = [top for name in TEST_NAMES for top in sorted(tops) if _part_name(top) == name]
    if trained and held_out:
        kept = {**dict.fromkeys(trained, TRAIN), held_out[0]: TEST}
        stray = [path for path in paths if path[depth] not in {*trained, *held_out}]
        paths = [path for path in paths if path[depth] in kept]
        return _tree(paths, source, lambda path: path[depth + 1 : -1], lambda path: kept[path[depth]], stray)
    _refuse_parts([path[depth:-1] for path in paths], source)
    return _tree(paths, source, lambda path: path[depth:-1], lambda path: NO_PART, [])


def _part_name(folder: str) -> str:
    """`Test-Set` and `testset` are `test`."""
    return folder.lower().removesuffix("set").rstrip("_- ")


def _refuse_parts(folders: list[list[str]], source: Path) -> None:
    """Refuse parts of another name, which would pass for classes: folders that all contain two folders of equal names."""
    inside: dict[str, set[str]] = {}
    for path in folders:
        inside.setdefault(path[0] if path else "", set()).add(path[1] if len(path) > 1 else "")
    shared = sorted(set.intersection(*inside.values()) - {""}) if len(inside) > 1 else []
    if len(shared) > 1:
        raise ConfigError(
            f"dataset.root={source}: {', '.join(sorted(inside)[:2])} cannot be classes, as each contains {', '.join(shared[:2])}; "
            "name parts train and test, or put the images of a class into one folder"
        )


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
