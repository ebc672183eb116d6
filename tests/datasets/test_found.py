"""What an image folder needs no key for: name, classes and shape are found, and its runs are those of these images."""

from pathlib import Path

import numpy as np
import pytest
from composing import composed
from PIL import Image

from runner.core.config import Config, resolved
from runner.core.errors import ConfigError
from runner.datasets import found
from runner.runs.identity import train_identity
from runner.runs.parts import Parts
from tests.datasets.conftest import pack, write_tree


@pytest.fixture(autouse=True)
def forgotten() -> None:
    found._listed.cache_clear()
    found._first_size.cache_clear()


def config(root: Path, *overrides: str) -> Config:
    return resolved(composed("dataset=image_folder", f"dataset.root={root}", "model=mlp", "outputs=o", *overrides))


def test_a_root_is_enough(tree: Path) -> None:
    dataset = config(tree)["dataset"]
    assert (dataset["name"], dataset["classes"], dataset["shape"]) == ("pets", 3, [3, 64, 64])
    assert config(tree)["model"]["classes"] == 3
    small = config(tree, "dataset.size=null", "dataset.channels=1", "metrics.k=4", "dataset.cache=null")
    assert small["dataset"]["shape"] == [1, 6, 8]
    assert Parts(small, {}).dataset.test.shape == (1, 6, 8)
    assert config(pack(tree, tree.parent / "zoo.tar.gz", "w:gz"))["dataset"]["name"] == "zoo"


def test_what_is_stated_is_not_looked_for() -> None:
    dataset = config(Path("/nowhere"), "dataset.name=mine", "dataset.classes=7")["dataset"]
    assert (dataset["name"], dataset["content"], dataset["classes"]) == ("mine", None, 7)


def test_classes_may_be_those_of_a_synset_file(tree: Path) -> None:
    (tree.parent / "order.txt").write_text("eel\nfox\ncat\ndog\n")
    assert config(tree, "dataset.synsets=order.txt")["dataset"]["classes"] == 4


def test_two_folders_of_one_name_are_two_datasets_at_any_place(tree: Path, tmp_path: Path) -> None:
    moved = write_tree(tmp_path / "elsewhere" / "pets")
    same = [train_identity(config(root))["dataset"] for root in (tree, moved)]
    assert same[0] == same[1]
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(moved / "cat" / "more.png")
    found._listed.cache_clear()
    assert train_identity(config(moved))["dataset"] != same[0]


def test_a_root_without_classes_is_refused(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"^dataset.root=/nowhere: no such folder"):
        config(Path("/nowhere"))
    with pytest.raises(ConfigError, match=r"^dataset.root=.*/cat: must hold CLASS/FILE"):
        config(tree / "cat")
    (tree.parent / "one").mkdir()
    (tree / "cat").rename(tree.parent / "one" / "cat")
    with pytest.raises(
        ConfigError, match=r"^dataset.root=.*/one: must be a tree of two or more class folders; it holds cat"
    ):
        config(tree.parent / "one")


def test_a_stray_folder_is_no_class_unless_it_is_stated(tmp_path: Path) -> None:
    for name in ("00000", "00001", "00002", "00003", "Images_old"):
        (tmp_path / "signs" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "signs" / name / "0.png")
    with pytest.raises(ConfigError, match="Images_old stands among 4 folders with numbers, .*state dataset.classes=5$"):
        config(tmp_path / "signs")
    assert config(tmp_path / "signs", "dataset.classes=5")["dataset"]["classes"] == 5
    (tmp_path / "signs" / "00003").rename(tmp_path / "signs" / "a")
    found._listed.cache_clear()
    assert config(tmp_path / "signs")["dataset"]["classes"] == 5


def test_a_class_in_the_test_part_alone_is_refused(tree: Path) -> None:
    write_tree(tree.parent / "split" / "train")
    write_tree(tree.parent / "split" / "test")
    (tree.parent / "split" / "test" / "eel").rename(tree.parent / "split" / "test" / "Images")
    with pytest.raises(ConfigError, match="split: Images is in the test part alone, and would be a class; move it"):
        config(tree.parent / "split")
