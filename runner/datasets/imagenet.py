"""ImageNet, ILSVRC 2012 (Russakovsky et al. 2015): too large for memory, decoded on demand."""

from __future__ import annotations

from pathlib import Path

import torch

from runner.core.errors import ConfigError, require
from runner.core.vision import torchvision
from runner.datasets.base import Dataset, assemble
from runner.datasets.disk import hidden
from runner.datasets.lazy import LazySplit
from runner.datasets.pictures import is_picture
from runner.datasets.view import Fit, View

_FILES = (
    "train/SYNSET/*.JPEG and val/SYNSET/*.JPEG, or the archives ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_val.tar "
    "and (to train) ILSVRC2012_img_train.tar of image-net.org,"
)


def imagenet(  # noqa: PLR0913  (one parameter a key of the YAML)
    *,
    root: str,
    size: int,
    download: bool = False,
    resize: int | None = None,
    fit: Fit = "crop",
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    workers: int = 4,
) -> Dataset:
    """1,281,167 training and 50,000 validation photos of 1,000 classes; a label is the rank of its synset.

    Read from ROOT/train and ROOT/val, or from ROOT/imagenet/...; archives there are unpacked by torchvision first.
    Without a train folder the set is for evaluation only. Errors: `ConfigError` saying which files to put where.
    """
    require(
        not download,
        "dataset.download",
        download,
        f"false: ImageNet needs an account; put {_FILES} in dataset.root={root}",
    )
    base = Path(root).expanduser()
    base = base / "imagenet" if (base / "imagenet").is_dir() else base
    for part in ("val", "train"):
        _unpack(base, part)
    if not (base / "val").is_dir():
        raise ConfigError(f"dataset.root={root}: no ImageNet there; put {_FILES} in it")
    view = View(size, resize, fit)
    classes = sorted(entry.name for entry in (base / "val").iterdir() if entry.is_dir() and not hidden(entry.name))
    require(
        len(classes) == 1000, "dataset.root", root, f"a folder with val/SYNSET for 1000 synsets; it has {len(classes)}"
    )
    splits = (_split(base / "train", classes, view, workers), _split(base / "val", classes, view, workers))
    return assemble(splits, classes, (train_size, test_size), seed)


def _unpack(base: Path, part: str) -> None:
    """Let torchvision check and unpack the archives that are not unpacked yet."""
    if (base / part).is_dir() or not (base / f"ILSVRC2012_img_{part}.tar").exists():
        return
    try:
        torchvision().datasets.ImageNet(str(base), split=part)
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            f"dataset.root={base}: the archives cannot be unpacked ({str(error).splitlines()[0]})"
        ) from error


def _split(folder: Path, classes: list[str], view: View, workers: int) -> LazySplit:
    names, labels = [], []
    for label, synset in enumerate(classes if folder.is_dir() else []):
        found = sorted(entry.name for entry in (folder / synset).iterdir() if is_picture(entry.name))
        names += [f"{synset}/{name}" for name in found]
        labels += [label] * len(found)
    targets = torch.tensor(labels, dtype=torch.int64)
    return LazySplit(folder, tuple(names), targets, torch.arange(len(names)), view, workers)
