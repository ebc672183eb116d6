"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): torchvision's layout, or the four files as Debian packages them."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runner.core.errors import ConfigError
from runner.datasets.base import Dataset, Split, assemble
from runner.datasets.source import Source

FASHION = Source("FashionMNIST", "Fashion-MNIST", "FashionMNIST/raw/*-ubyte, or the four *-ubyte.gz files,")
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

_FILES = [f"{prefix}-{kind}-ubyte" for prefix in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def fashion_mnist(
    *, root: str, download: bool = False, train_size: int | None = None, test_size: int | None = None, seed: int = 0
) -> Dataset:
    """60,000 and 10,000 grey images, 28x28, 10 classes, from ROOT/FashionMNIST/raw or from ROOT/*-ubyte.gz."""
    base = Path(root).expanduser()
    raw = base / "FashionMNIST" / "raw"
    if (base / "train-images-idx3-ubyte.gz").exists():
        splits = [_read_pair(base, prefix, ".gz") for prefix in ("train", "t10k")]
    else:
        if not all((raw / name).exists() for name in _FILES):
            FASHION.load(
                root, download, {"train": True}, {"train": False}
            )  # fetches and unpacks them, or says what to do
        splits = [_read_pair(raw, prefix, "") for prefix in ("train", "t10k")]
    return assemble((splits[0], splits[1]), CLASSES, (train_size, test_size), seed)


def _read_pair(folder: Path, prefix: str, suffix: str) -> Split:
    """Errors: `ConfigError` naming a file that is cut, is the other's, or does not fit the other's count."""
    images = _read_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", (28, 28))
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", ())
    name = f"{prefix}-labels-idx1-ubyte{suffix}"
    if len(images) != len(labels):
        raise ConfigError(
            f"dataset.root={folder}: {name} has {len(labels)} labels for {len(images)} images; get the files again"
        )
    if len(labels) and int(labels.max()) >= len(CLASSES):
        raise ConfigError(f"dataset.root={folder}: {name} has the label {int(labels.max())}; get the files again")
    return Split.full(images.unsqueeze(1), labels)


def _read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The bytes (N, *shape) of an IDX file, whose header states that shape; gzip's own checksum finds a torn file."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"dataset.root={path.parent}: {path.name} cannot be read ({error})") from error
    sides = 1 + len(shape)
    start = 4 + 4 * sides
    stated = struct.unpack(f">4B{sides}I", content[:start]) if len(content) >= start else ()
    if stated[:4] != (0, 0, 8, sides) or stated[5:] != shape or len(content) - start != math.prod(stated[4:]):
        kind = f"images of {shape[0]}x{shape[1]}" if shape else "labels"
        raise ConfigError(
            f"dataset.root={path.parent}: {path.name} is no whole IDX file of {kind}; get the files again"
        )
    return torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.uint8, offset=start)).reshape(-1, *shape)
