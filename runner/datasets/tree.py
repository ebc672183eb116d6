"""Class-folder trees: the class and the part of each file, by its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from runner.core.errors import ConfigError

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation", "validate", "dev", "eval", "evaluation")
"""Names of the part to test, the preferred first. Case does not matter, and neither does `set` behind it, as in `test_set`."""
_FEW = 4
"""One folder without a number among at least so many with numbers is a stray; digits and letters together are classes."""
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
        below = depth + 1 + _single(paths, depth)
        return _tree(paths, source, lambda path: path[below:-1], lambda path: kept[path[depth]], stray)
    skipped = _single(paths, depth)
    _refuse_parts([path[depth : depth + 1] + path[depth + 1 + skipped : -1] for path in paths], source)
    return _tree(paths, source, lambda path: path[depth:-1], lambda path: NO_PART, [])


def _single(paths: list[list[str]], depth: int) -> int:
    """Levels below `depth` at which each folder of that depth has a single folder, as in test_set/test_set/CLASS."""
    inside: dict[str, set[str]] = {}
    for path in paths:
        inside.setdefault(path[depth], set()).add(path[depth + 1] if len(path) > depth + 3 else "")
    if not inside or any(len(names) > 1 or "" in names for names in inside.values()):
        return 0
    return 1 + _single([path[: depth + 1] + path[depth + 2 :] for path in paths], depth)


def stray_class(tree: Tree) -> str | None:
    """What is odd about a class folder that was hardly meant as one: alone without training images, or without a number."""
    trained = {label for label, part in zip(tree.labels, tree.parts, strict=True) if part != TEST}
    untrained = [name for label, name in enumerate(tree.classes) if label not in trained]
    if untrained:
        return f"{untrained[0]} is in the test part alone"
    unnumbered = [name for name in tree.classes if not name.isdecimal()]
    numbered = len(tree.classes) - len(unnumbered)
    if 0 < _FEW * len(unnumbered) <= numbered:
        return f"{unnumbered[0]} stands among {numbered} folders with numbers"
    return None


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
