"""Class-folder trees: layouts, archives, splits, class orders, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from runner.core.errors import ConfigError
from runner.core.vision import torchvision
from runner.datasets.base import Dataset, Split
from runner.datasets.image_folder import image_folder
from runner.datasets.lazy import LazySplit
from runner.datasets.view import View
from tests.datasets.conftest import pack, pixels_of, write_tree


def load(root: Path | str, **keys: Any) -> Dataset:
    split = {} if {"test_fraction", "test_per_class"} & set(keys) else {"test_per_class": 1}
    return image_folder(**{"root": str(root), "class_count": 3, **split, **keys})


def contents(data: Dataset) -> list[tuple[bytes, int, int]]:
    """Every example of the train, then the test split, as plain values."""
    rows = []
    for split in (data.train, data.test):
        images, labels, ids = split.batch(range(len(split)), "cpu")
        rows += [
            (image.numpy().tobytes(), int(label), int(number))
            for image, label, number in zip(images, labels, ids, strict=True)
        ]
    return rows


def test_a_tree_without_a_test_folder_is_split_by_class(tree: Path) -> None:
    data = load(tree)
    assert data.classes == ("cat", "dog", "eel")
    assert torch.bincount(data.train.labels).tolist() == [3, 3, 3]
    assert torch.bincount(data.test.labels).tolist() == [1, 1, 1]
    assert data.test.ids.sort().values.tolist() == [0, 1, 2]
    assert data.train.shape == (3, 6, 8)
    assert contents(data) == contents(load(tree))
    assert contents(data) != contents(load(tree, seed=1))


def test_pixels_and_labels_are_those_of_the_files(tree: Path) -> None:
    data = load(tree, test_per_class=None, test_fraction=1.0)
    assert len(data.train) == 0
    assert isinstance(data.test, Split)
    for image, label, number in zip(data.test.images, data.test.labels, data.test.ids.tolist(), strict=True):
        name = ("cat", "dog", "eel")[number // 4]
        assert np.array_equal(image.numpy(), pixels_of(tree / name / f"{number % 4}.png"))
        assert label == number // 4


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        *(("train", name) for name in ("test", "val", "valid", "validation", "validate", "dev", "eval")),
        *(("training_set", "test_set"), ("Train", "Test"), ("TRAIN", "VAL"), ("training", "testing")),
        *(("trainset", "testset"), ("Training Set", "Validation-Set")),
    ],
)
def test_a_tree_with_its_own_split_keeps_it(tmp_path: Path, train: str, held_out: str) -> None:
    write_tree(tmp_path / train, 3)
    write_tree(tmp_path / held_out, 2)
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (9, 6)
    assert data.test.ids.sort().values.tolist() == list(range(6))


@pytest.mark.parametrize(
    "parts",
    [
        ("part1", "part2"),
        ("test", "val"),
        ("Train_2019", "Test_2019"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("cat", "dog"),
    ],
)
def test_refuses_parts_that_would_pass_for_classes(tmp_path: Path, parts: tuple[str, str]) -> None:
    for part in parts:
        write_tree(tmp_path / part, 2)
    with pytest.raises(ConfigError, match=r"^dataset.root=.* cannot be classes, as each contains cat, dog; name parts"):
        load(tmp_path, class_count=2)


def test_one_folder_in_each_class_is_no_part(tmp_path: Path) -> None:
    write_tree(tmp_path / "pets")
    for name in ("cat", "dog", "eel"):
        (tmp_path / "nested" / name).mkdir(parents=True)
        (tmp_path / "pets" / name).rename(tmp_path / "nested" / name / "images")
    assert load(tmp_path / "nested").classes == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("train", "held_out"),
    [("training_set/training_set", "test_set/test_set"), ("Train/images", "Test/images"), ("a/train/x/y", "a/val/z/y")],
)
def test_single_folders_in_both_parts_are_no_classes(tmp_path: Path, train: str, held_out: str) -> None:
    write_tree(tmp_path / train, 3)
    write_tree(tmp_path / held_out, 2)
    data = load(tmp_path)
    assert (data.classes, len(data.train), len(data.test)) == (("cat", "dog", "eel"), 9, 6)


def test_a_single_class_to_test_is_one(tmp_path: Path) -> None:
    write_tree(tmp_path / "train", 3)
    write_tree(tmp_path / "all", 2)
    (tmp_path / "test" / "dog").mkdir(parents=True)
    (tmp_path / "all" / "dog").rename(tmp_path / "test" / "dog" / "images")
    shutil.rmtree(tmp_path / "all")
    data = load(tmp_path)
    assert (data.classes, data.test.labels.tolist()) == (("cat", "dog", "eel"), [1, 1])


def test_test_wins_over_val(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        write_tree(tmp_path / part, count)
    assert len(load(tmp_path).test) == 3


@pytest.mark.parametrize(("suffix", "mode"), [("tar", "w"), ("tar.xz", "w:xz")])
def test_an_archive_reads_as_the_folder_it_was_made_of(tree: Path, suffix: str, mode: str) -> None:
    archive = pack(tree, tree.parent / f"pets.{suffix}", mode)
    assert contents(load(archive)) == contents(load(tree))


def test_a_preset_finds_its_folder_or_its_archive_in_the_root(tree: Path, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    pack(tree, apart / "pets.tar")
    names = {"folder": "pets", "archive": "pets.tar"}
    expected = contents(load(tree))
    assert contents(load(tmp_path, **names)) == expected
    assert contents(load(apart, **names)) == expected
    assert contents(load(apart / "pets.tar", **names)) == expected


def test_lazy_gives_what_memory_gives(tree: Path) -> None:
    in_memory, lazy = (load(tree, size=4, in_memory=flag) for flag in (True, False))
    assert isinstance(lazy.train, LazySplit)
    assert contents(lazy) == contents(in_memory)
    plan = torch.arange(9).split(2)
    for one, other in zip(lazy.train.batches(plan, "cpu"), in_memory.train.batches(plan, "cpu"), strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))
    assert lazy.train.shape == in_memory.train.shape == (3, 4, 4)


def test_an_empty_lazy_split_gives_an_empty_batch(tree: Path) -> None:
    data = load(tree, size=4, in_memory=False, test_fraction=1.0)
    assert data.train.batch([], "cpu")[0].shape == (0, 3, 4, 4)


def test_classes_follow_the_order_of_a_synset_file(tree: Path) -> None:
    (tree.parent / "order.txt").write_text("eel\nfox\ncat\ndog\n")
    data = load(tree.parent, folder="pets", synsets="order.txt", class_count=4, test_fraction=1.0)
    assert data.classes == ("eel", "fox", "cat", "dog")
    folders = data.test.ids // 4
    assert torch.equal(data.test.labels, torch.tensor([2, 3, 0])[folders])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_synset_file_of_windows_is_read(tree: Path, encoding: str) -> None:
    (tree.parent / "order.txt").write_text("eel\r\ncat\r\ndog\r\n", encoding=encoding)
    assert load(tree, synsets="order.txt").classes == ("eel", "cat", "dog")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"eel\ncat\neel\n", "must be without duplicates; eel stands"),
        (b"eel\n\xe9\ncat\n", "must be a text in UTF-8"),
        ("eel\ncat\ndog\n".encode("utf-16-be"), "must be a text in UTF-8, or in UTF-16 with its mark"),
        (b"n1 eel\nn2 cat\nn3 dog\n", "must be a tree whose folders are listed in dataset.synsets; cat, dog, eel is"),
    ],
)
def test_refuses_a_synset_file_without_an_order(tree: Path, content: bytes, message: str) -> None:
    (tree.parent / "order.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^dataset\.(synsets=.*order.txt|root=.*pets): {message}"):
        load(tree, synsets="order.txt")


def test_a_line_of_a_synset_file_is_a_folder_with_its_spaces(tree: Path) -> None:
    (tree / "cat").rename(tree / "big cat")
    (tree.parent / "order.txt").write_text("eel\n big cat \n\ndog\n")
    assert load(tree, synsets="order.txt").classes == ("eel", "big cat", "dog")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"class_count": 4}, r"dataset.root=.*dataset.classes=4 class folders; it holds 3: cat, dog, eel"),
        ({"synsets": "nowhere.txt"}, "dataset.synsets=nowhere.txt: no such file"),
        ({"download": True}, "dataset.download=True"),
        ({"size": 4, "resize": 3}, "dataset.resize=3"),
        ({"in_memory": False}, "dataset.size=None"),
        ({"train_size": 10}, "dataset.train_size=10: must be null .all. or 1 to 9"),
    ],
)
def test_refuses_bad_keys(tree: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tree, **keys)


def test_refuses_a_missing_root_an_archive_on_demand_and_a_file_that_is_none(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset.root=nowhere: no such folder or archive; .*nowhere/pets"):
        load("nowhere", folder="pets")
    with pytest.raises(ConfigError, match=r"dataset.in_memory=False: must be true for an archive"):
        load(pack(tree, tree.parent / "pets.tar"), size=4, in_memory=False)
    with pytest.raises(ConfigError, match=r"must be a folder of class folders, or a \.tar"):
        load(tree / "cat" / "0.png")


def test_refuses_files_that_are_no_images_or_stand_in_no_class(tree: Path) -> None:
    (tree / "cat" / "torn.jpg").write_bytes(b"\xff\xd8 torn")
    with pytest.raises(ConfigError, match=r"cat/torn.jpg cannot be read as an image"):
        load(tree)
    (tree / "cat" / "torn.jpg").rename(tree / "torn.jpg")
    with pytest.raises(ConfigError, match=r"must hold CLASS/FILE.*found torn.jpg"):
        load(tree)


def test_refuses_images_of_different_size_without_a_size(tree: Path) -> None:
    Image.new("RGB", (3, 3)).save(tree / "eel" / "small.png")
    with pytest.raises(
        ConfigError, match=r"dataset.size=None: must be given, as images differ in size \(eel/small.png: 3x3"
    ):
        load(tree)
    assert load(tree, size=4).train.shape == (3, 4, 4)


@pytest.mark.parametrize(("width", "height"), [(37, 51), (51, 37), (32, 32), (33, 20)])
def test_crop_is_torchvisions_resize_and_center_crop(width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    transforms = torchvision().transforms
    expected = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(27), transforms.PILToTensor()])(image)
    assert np.array_equal(View(27, 32).arrange(image), expected.numpy())


def test_stretch_and_grey_give_the_shapes_they_promise() -> None:
    image = Image.new("RGB", (10, 4), (255, 0, 0))
    assert View(6, fit="stretch").arrange(image).shape == (3, 6, 6)
    grey = View(6, fit="stretch", channels=1).arrange(image)
    assert grey.shape == (1, 6, 6)
    assert grey[0, 0, 0] == 76  # 0.299 * 255
