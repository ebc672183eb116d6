"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): torchvision's layout, or the four files as Debian packages them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runner.core.errors import ConfigError
from runner.datasets.base import Dataset, Split, assemble
from runner.datasets.source import Source

FASHION = Source("FashionMNIST", "Fashion-MNIST", "FashionMNIST/raw/*-ubyte, or the four *-ubyte.gz files,")
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def fashion_mnist(
    *, root: str, download: bool = False, train_size: int | None = None, test_size: int | None = None, seed: int = 0
) -> Dataset:
    """60,000 and 10,000 grey images, 28x28, 10 classes, from ROOT/FashionMNIST/raw or from ROOT/*-ubyte.gz."""
    base = Path(root).expanduser()
    if (base / "train-images-idx3-ubyte.gz").exists():
        splits = [Split.full(*_read_pair(base, prefix)) for prefix in ("train", "t10k")]
    else:
        parts = FASHION.load(root, download, {"train": True}, {"train": False})
        splits = [Split.full(part.data.unsqueeze(1), part.targets) for part in parts]
    return assemble((splits[0], splits[1]), CLASSES, (train_size, test_size), seed)


def _read_pair(base: Path, prefix: str) -> tuple[Tensor, Tensor]:
    images = _read_idx(base / f"{prefix}-images-idx3-ubyte.gz", header=16)
    return images.reshape(-1, 1, 28, 28), _read_idx(base / f"{prefix}-labels-idx1-ubyte.gz", header=8)


def _read_idx(path: Path, header: int) -> Tensor:
    """The bytes of an IDX file after its header; gzip's own checksum finds a torn file."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise ConfigError(f"dataset.root={path.parent}: {path.name} cannot be read ({error})") from error
    return torch.from_numpy(np.frombuffer(bytearray(content), dtype=np.uint8, offset=header))
