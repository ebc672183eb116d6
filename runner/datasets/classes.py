"""Which number a class folder has: its place in sorted order, or its line in a file such as ImageNet's synsets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from runner.core.errors import require
from runner.datasets.synsets import read_synsets


@dataclass(frozen=True)
class ClassCheck:
    """The classes of `source` according to the config: their number, and their order (None: sorted)."""

    source: Path
    count: int
    order: tuple[str, ...] | None

    @classmethod
    def make(cls, source: Path, count: int, synsets: str | None, root: Path) -> ClassCheck:
        """Read the order from the file `synsets`, which may be a path, in `root`, or next to `root`."""
        if synsets is None:
            return cls(source, count, None)
        path, order = read_synsets(synsets, root)
        require(len(order) == count, "dataset.synsets", path, f"{count} lines (dataset.classes), not {len(order)}")
        return cls(source, count, order)

    def __call__(self, classes: tuple[str, ...]) -> None:
        """Compare with the folders found. Errors: `ConfigError` before any image is decoded."""
        if self.order is None:
            found = f"{len(classes)}: {', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''}"
            allowed = f"a tree of dataset.classes={self.count} class folders; it holds {found}"
            require(len(classes) == self.count, "dataset.root", self.source, allowed)
            return
        unknown = sorted(set(classes) - set(self.order))
        allowed = f"a tree whose folders are listed in dataset.synsets; {', '.join(unknown[:3])} is not"
        require(not unknown, "dataset.root", self.source, allowed)

    def names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """All class names in class order."""
        return self.order or classes

    def labels(self, labels: Tensor, classes: tuple[str, ...]) -> Tensor:
        """Numbers of the sorted folders to numbers of the classes."""
        if self.order is None:
            return labels
        place = {name: index for index, name in enumerate(self.order)}
        return torch.tensor([place[name] for name in classes])[labels]
