"""A tiny tree of images on disk: 3 classes of 4 colours, saved without loss."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDES = (8, 6)


def write_tree(base: Path, per_class: int = 4, sides: tuple[int, int] = SIDES) -> Path:
    """CLASS/NUMBER.png with distinct pixels; width, height = sides."""
    for label, name in enumerate(("cat", "dog", "eel")):
        (base / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.random.default_rng(10 * label + number).integers(
                0, 256, (sides[1], sides[0], 3), dtype=np.uint8
            )
            Image.fromarray(pixels).save(base / name / f"{number}.png")
    return base


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).transpose(2, 0, 1)


def pack(folder: Path, archive: Path, mode: str = "w") -> Path:
    """The folder, under its own name, as an archive, files in reverse order."""
    with tarfile.open(archive, mode) as tar:
        for path in sorted(folder.rglob("*"), reverse=True):
            tar.add(path, arcname=f"{folder.name}/{path.relative_to(folder)}", recursive=False)
    return archive


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "pets")
