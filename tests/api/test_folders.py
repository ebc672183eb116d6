"""A folder of pictures is read as the jobs read it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from runner.api import load_images
from runner.core.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for number in range(10):
        for name in ("cat", "dog"):
            path = tmp_path / "pets" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pets"


def test_images_labels_and_names_are_those_of_the_jobs(folder: Path, compose) -> None:
    from running import parts_of

    images, labels, names = load_images(folder, size=8, test_fraction=0.5)
    data = parts_of(
        compose(
            *("dataset=image_folder", f"dataset.root={folder}", "dataset.name=pets", "dataset.classes=2"),
            *("dataset.size=8", "dataset.test_fraction=0.5", "dataset.train_size=null", "dataset.test_size=null"),
            *("dataset.cache=null", "metrics.k=4"),
        )
    ).dataset
    expected = data.test.batch(range(len(data.test)), "cpu")
    assert torch.equal(images, expected[0])
    assert torch.equal(labels, expected[1])
    assert names == ("cat", "dog")
    assert images.shape == (10, 3, 8, 8)
    assert labels.bincount().tolist() == [5, 5]

    both = [load_images(str(folder), part, size=None, channels=1)[0] for part in ("train", "test")]
    assert [tuple(part.shape) for part in both] == [(16, 1, 12, 10), (4, 1, 12, 10)]
    assert list(folder.parent.iterdir()) == [folder]


def test_a_list_of_classes_numbers_them(folder: Path) -> None:
    (folder.parent / "order.txt").write_text("dog\nbird\ncat\n")
    _, labels, names = load_images(folder, synsets=str(folder.parent / "order.txt"))
    assert names == ("dog", "bird", "cat")
    assert labels.unique().tolist() == [0, 2]


def test_paths_may_be_paths_and_hold_any_character(folder: Path) -> None:
    odd = folder.rename(folder.with_name("my pets, = {x}"))
    images = [load_images(odd, size=8, cache=cache)[0] for cache in (None, odd.parent / "cache")]
    assert torch.equal(*images)


def test_what_cannot_be_read_is_one_line(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset.root=/none/such: no such folder"):
        load_images("/none/such")
    with pytest.raises(ConfigError, match="split=tset: .*did you mean test"):
        load_images(folder, "tset")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"dataset\.szie: no such key"):
        load_images(folder, szie=3)
    with pytest.raises(ConfigError, match=r"no\.txt: no such file"):
        load_images(folder, synsets="no.txt")
