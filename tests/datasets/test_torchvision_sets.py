"""The torchvision loaders on tiny files in the real formats, and what a user without the files reads."""

import csv
import gzip
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from runner.core.errors import ConfigError
from runner.core.vision import torchvision
from runner.datasets.cifar import cifar10, cifar100
from runner.datasets.fashion_mnist import fashion_mnist
from runner.datasets.imagenet import imagenet
from runner.datasets.photos import flowers102, gtsrb
from runner.datasets.svhn import svhn


@pytest.mark.parametrize(
    ("loader", "keys", "advice"),
    [
        (cifar10, {}, "set dataset.download=true, or put the folder cifar-10-batches-py there"),
        (cifar100, {}, "set dataset.download=true, or put the folder cifar-100-python there"),
        (svhn, {}, "set dataset.download=true, or put train_32x32.mat"),
        (fashion_mnist, {}, "set dataset.download=true, or put FashionMNIST/raw"),
        (gtsrb, {"size": 32}, "set dataset.download=true, or put the folder gtsrb"),
        (flowers102, {"size": 32}, "set dataset.download=true, or put the folder flowers-102"),
        (imagenet, {"size": 224}, r"put train/SYNSET/\*.JPEG"),
    ],
)
def test_missing_files_are_one_line_that_says_what_to_do(
    tmp_path: Path, loader: Any, keys: dict[str, Any], advice: str
) -> None:
    root = tmp_path / "nowhere"
    with pytest.raises(ConfigError, match=advice) as caught:
        loader(root=str(root), **keys)
    assert str(caught.value).startswith(f"dataset.root={root}: ")
    assert "\n" not in str(caught.value)
    assert "download=True" not in str(caught.value)
    assert not root.exists()


def test_imagenet_has_no_download(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset.download=True: must be false: ImageNet needs an account"):
        imagenet(root=str(tmp_path), size=224, download=True)


def test_a_failed_download_names_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision().datasets, "CIFAR10", refuse)
    with pytest.raises(ConfigError, match=r"dataset.download=true: no CIFAR-10 \(no route to host\); put the folder"):
        cifar10(root=str(tmp_path), download=True)


def _idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


@pytest.fixture
def fashion_files(tmp_path: Path) -> Path:
    for prefix, count in (("train", 30), ("t10k", 20)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        _idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", pixels)
        _idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def test_fashion_mnist_reads_the_four_files_as_torchvision_does(fashion_files: Path) -> None:
    data = fashion_mnist(root=str(fashion_files))
    raw = fashion_files / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in fashion_files.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        path.rename(raw / path.name)
    other = fashion_mnist(root=str(fashion_files))
    assert (len(data.train), len(data.test), data.test.shape) == (30, 20, (1, 28, 28))
    assert torch.equal(data.train.images, other.train.images)
    assert torch.equal(data.test.labels, other.test.labels)
    assert data.classes == tuple(torchvision().datasets.FashionMNIST.classes)


@pytest.mark.parametrize("lost", [1, 8, 20])
def test_a_torn_gz_file_is_refused(fashion_files: Path, lost: int) -> None:
    path = fashion_files / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ConfigError, match=r"t10k-images-idx3-ubyte.gz cannot be read"):
        fashion_mnist(root=str(fashion_files))


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("fewer labels", r"train-labels-idx1-ubyte\S* has 20 labels for 30 images"),
        ("exchanged", r"train-images-idx3-ubyte\S* is no whole IDX file of images of 28x28"),
        ("unknown label", r"train-labels-idx1-ubyte\S* has the label 10"),
        ("cut", r"train-labels-idx1-ubyte\S* is no whole IDX file of labels"),
    ],
)
def test_idx_files_that_do_not_fit_are_refused(fashion_files: Path, raw: bool, damage: str, message: str) -> None:
    images, labels = (fashion_files / f"train-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    if damage == "fewer labels":
        labels.write_bytes((fashion_files / "t10k-labels-idx1-ubyte.gz").read_bytes())
    elif damage == "exchanged":
        one, other = images.read_bytes(), labels.read_bytes()
        images.write_bytes(other)
        labels.write_bytes(one)
    elif damage == "cut":
        labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes())[:-5]))
    else:
        _idx(labels, np.full(30, 10, dtype=np.uint8))
    if raw:
        (fashion_files / "FashionMNIST" / "raw").mkdir(parents=True)
        for path in fashion_files.glob("*.gz"):
            (fashion_files / "FashionMNIST" / "raw" / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    with pytest.raises(ConfigError, match=rf"^dataset.root=[^\n]*: {message}[^\n]*$"):
        fashion_mnist(root=str(fashion_files))


def test_cifar_is_transposed_to_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        classes = ("a", "b")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            self.data = np.arange(2 * 32 * 32 * 3, dtype=np.int64).astype(np.uint8).reshape(2, 32, 32, 3)
            self.targets = [0, 1]

    monkeypatch.setattr(torchvision().datasets, "CIFAR10", Fake)
    data = cifar10(root=str(tmp_path))
    images = Fake("", True, False).data[data.train.ids.numpy()]
    assert torch.equal(data.train.images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))


def _photo(path: Path, seed: int, side: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    """One photo a class to train, four to test."""
    base = tmp_path / "gtsrb"
    for label in range(43):
        _photo(base / "GTSRB" / "Training" / f"{label:05d}" / "00000.ppm", label)
    with (base / "GT-final_test.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Filename", "ClassId"])
        for number in range(4):
            _photo(base / "GTSRB" / "Final_Test" / "Images" / f"{number}.ppm", 100 + number)
            writer.writerow([f"{number}.ppm", number * 10])
    return base


def test_gtsrb_is_stretched_and_kept(signs: Path, tmp_path: Path) -> None:
    first, again = (gtsrb(root=str(tmp_path), size=8, cache=str(tmp_path / "cache")) for _ in range(2))
    assert (len(first.train), len(first.test), len(first.classes)) == (43, 4, 43)
    assert first.test.shape == (3, 8, 8)
    assert torch.equal(first.test.labels, first.test.ids * 10)
    assert torch.equal(first.train.images, again.train.images)
    (signs / "GTSRB" / "Training" / "00007" / "00001.ppm").write_bytes(b"P6 junk")
    with pytest.raises(ConfigError, match=r"^dataset.root: \S*/00007/00001.ppm cannot be read as an image [^\n]*$"):
        gtsrb(root=str(tmp_path), size=8)


@pytest.mark.parametrize("stray", ["Images_old", ".cache", "00007 (copy)"])
def test_folders_of_gtsrb_that_would_change_labels_are_refused(signs: Path, tmp_path: Path, stray: str) -> None:
    _photo(signs / "GTSRB" / "Training" / stray / "00000.ppm", 0)
    wrong = re.escape(f"must hold the folders 00000 to 00042 alone; {stray} would change the labels of others")
    with pytest.raises(ConfigError, match=rf"^dataset.root: \S*Training {wrong}"):
        gtsrb(root=str(tmp_path), size=8)
    (signs / "GTSRB" / "Training" / stray).rename(tmp_path / "away")
    (signs / "GTSRB" / "Training" / "00007").rename(tmp_path / "00007")
    with pytest.raises(ConfigError, match=r"alone; 00007 is missing$"):
        gtsrb(root=str(tmp_path), size=8)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ClassId", "Klasse", r"no usable GTSRB there \(KeyError: 'ClassId'\)"),
        (";10", ";ten", r"no usable GTSRB there \(ValueError: invalid literal"),
        (";30", ";43", r"a photo has the class 43; the last of the 43 is 42"),
    ],
)
def test_a_broken_list_of_gtsrb_is_refused(signs: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    (listed := signs / "GT-final_test.csv").write_text((signs / "GT-final_test.csv").read_text().replace(old, new))
    assert listed.is_file()
    with pytest.raises(ConfigError, match=rf"^dataset.root[^\n]*: {message}[^\n]*$"):
        gtsrb(root=str(tmp_path), size=8)


def test_flowers102_trains_on_train_and_val(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "flowers-102"
    for number in range(1, 10):
        _photo(base / "jpg" / f"image_{number:05d}.jpg", number)
    savemat(base / "imagelabels.mat", {"labels": np.arange(1, 10)[None]})
    savemat(base / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4, 5]], "tstid": [[6, 7, 8, 9]]})
    monkeypatch.setattr(torchvision().datasets.Flowers102, "_check_integrity", lambda _: True)
    data = flowers102(root=str(tmp_path), size=16)
    assert (len(data.train), len(data.test), len(data.classes)) == (5, 4, 102)
    assert data.train.labels.sort().values.tolist() == [0, 1, 2, 3, 4]
    assert data.test.labels.sort().values.tolist() == [5, 6, 7, 8]


def test_svhn_reads_its_mat_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": pixels, "y": np.array([[1], [2], [10], [3]])})
    monkeypatch.setattr(torchvision().datasets.SVHN, "_check_integrity", lambda _: True)  # skips the checksums
    data = svhn(root=str(tmp_path))
    assert torch.equal(data.test.labels, torch.tensor([1, 2, 0, 3])[data.test.ids])
    expected = torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy())
    assert torch.equal(data.test.images, expected[data.test.ids])


def test_imagenet_reads_its_folders_on_demand(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / "imagenet" / "val" / f"n{number:08d}").mkdir(parents=True)
    for number in (3, 700):
        _photo(tmp_path / "imagenet" / "val" / f"n{number:08d}" / "one.JPEG", number)
    data = imagenet(root=str(tmp_path), size=8, resize=10, workers=2)
    assert len(data.classes) == 1000
    assert data.test.labels.sort().values.tolist() == [3, 700]
    assert data.test.batch([0, 1], "cpu")[0].shape == (2, 3, 8, 8)
    with pytest.raises(ConfigError, match="evaluation only"):
        data.training_split()
