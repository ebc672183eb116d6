"""Any class-folder tree of images, on disk or in a tar archive, as a dataset."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runner.core.errors import require
from runner.datasets.base import Dataset, Examples, Split, assemble
from runner.datasets.cache import Decoded, cached
from runner.datasets.classes import ClassCheck
from runner.datasets.eight_bits import Background
from runner.datasets.lazy import LazySplit
from runner.datasets.pictures import fingerprint, list_pictures, locate, read_pictures
from runner.datasets.stratify import stratified_split
from runner.datasets.tree import NO_PART, TEST, TRAIN, Tree, arrange
from runner.datasets.view import Channels, Fit, Pixels, View

_log = logging.getLogger(__name__)


def image_folder(  # noqa: PLR0913  (one parameter a key of the YAML)
    *,
    root: str,
    class_count: int,
    download: bool = False,
    folder: str | None = None,
    archive: str | None = None,
    synsets: str | None = None,
    size: int | None = None,
    resize: int | None = None,
    fit: Fit = "crop",
    channels: Channels = 3,
    background: Background | None = None,
    test_fraction: float | None = None,
    test_per_class: int | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    in_memory: bool = True,
    workers: int = 4,
    cache: str | None = None,
) -> Dataset:
    """The dataset of a tree: ROOT/train/CLASS/FILE + ROOT/test/CLASS/FILE (or val/), or ROOT/CLASS/FILE.

    `root` is the tree, a folder that contains it as `folder`, a tar archive, or a folder that contains it as `archive`.
    Without a test folder the split is stratified and fixed by `seed`: `test_per_class`, or `test_fraction` (1: for
    evaluation only). Classes are numbered in sorted order, or by line of the file `synsets`. `in_memory=false` decodes
    on demand with `workers` threads. Errors: `ConfigError` naming the wrong key.
    """
    require(not download, "dataset.download", download, f"false for a folder; point dataset.root={root} at the images")
    view = View(size, resize, fit, channels, background)
    source = locate(root, folder, archive)
    check = ClassCheck.make(source, class_count, synsets, Path(root).expanduser())
    if in_memory:
        files = _from_memory(source, view, check, cache, folder or source.stem)
    else:
        files = _from_disk(source, view, check, workers)
    if (files.parts == NO_PART).all():
        train, test = stratified_split(files.labels, seed, fraction=test_fraction, per_class=test_per_class)
    else:
        train, test = ((files.parts == part).nonzero().squeeze(1) for part in (TRAIN, TEST))
    labels = check.labels(files.labels, files.classes)
    splits = (files.split(train, labels[train]), files.split(test, labels[test]))
    return assemble(splits, check.names(files.classes), (train_size, test_size), seed)


@dataclass(frozen=True)
class _Files:
    """The examples of a tree, and the function that makes a split from some of them (positions, labels)."""

    labels: Tensor
    parts: Tensor
    classes: tuple[str, ...]
    split: Callable[[Tensor, Tensor], Examples]


def _from_memory(source: Path, view: View, check: ClassCheck, cache: str | None, label: str) -> _Files:
    def make() -> Decoded:
        places = list_pictures(source)
        tree = arrange(places, source)
        check(tree.classes)
        _log.info("decoding %d images of %s (once)", len(tree.names), source)
        return Decoded(
            _stack(source, tree, places, view), torch.tensor(tree.labels), torch.tensor(tree.parts), tree.classes
        )

    key = {"source": str(source.resolve()), "state": fingerprint(source), "view": asdict(view)}
    decoded = cached(cache, label, key, make)
    check(decoded.classes)

    def split(index: Tensor, labels: Tensor) -> Split:
        return Split.full(decoded.images[index], labels)

    return _Files(decoded.labels, decoded.parts, decoded.classes, split)


def _from_disk(source: Path, view: View, check: ClassCheck, workers: int) -> _Files:
    require(source.is_dir(), "dataset.in_memory", False, f"true for an archive ({source}), or unpack it first")
    require(view.size is not None, "dataset.size", view.size, "a number of pixels where dataset.in_memory=false")
    tree = arrange(list_pictures(source), source)
    check(tree.classes)

    def split(index: Tensor, labels: Tensor) -> LazySplit:
        names = tuple(tree.names[position] for position in index.tolist())
        return LazySplit(source, names, labels, torch.arange(len(names)), view, workers)

    return _Files(torch.tensor(tree.labels), torch.tensor(tree.parts), tree.classes, split)


def _stack(source: Path, tree: Tree, places: Mapping[str, int], view: View) -> Tensor:
    """(N, C, H, W) uint8 in the order of the tree. Errors: `ConfigError` when the images differ in size."""
    place = {name: index for index, name in enumerate(tree.names)}
    images: Pixels | None = None
    for name, file in read_pictures(source, {name: places[name] for name in tree.names}):
        pixels = view.decode(file, name)
        if images is None:
            images = np.empty((len(place), *pixels.shape), dtype=np.uint8)
        height, width = pixels.shape[1:]
        same = pixels.shape == images.shape[1:]
        require(same, "dataset.size", view.size, f"given, as images differ in size ({name}: {height}x{width})")
        images[place[name]] = pixels
    assert images is not None
    return torch.from_numpy(images)
