"""Every dataset YAML: opens with its command, has the keys that jobs read, and fits its target."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from composing import option
from hydra.utils import get_object
from omegaconf import OmegaConf

from runner.core.build import build

FOLDER = Path(__file__).parents[2] / "conf" / "dataset"
FILES = sorted(FOLDER.glob("*.yaml"))
META = {"name", "content", "shape", "classes", "top_k", "augmentation"}
NAMES = {
    *("mnist5k", "digits", "fashion_mnist", "cifar10", "cifar100", "svhn", "gtsrb", "flowers102", "imagenet"),
    *("image_folder", "cifar10_folder", "flower17", "imagenet_sample"),
}


def resolve(path: Path) -> dict[str, Any]:
    config = OmegaConf.create({"outputs": "o", "dataset": option("dataset", path.stem)})
    if path.stem == "image_folder":
        OmegaConf.update(config, "dataset", {"name": "mine", "classes": 3})
    return OmegaConf.to_container(config, resolve=True)["dataset"]


def test_all_are_there() -> None:
    assert {path.stem for path in FILES} == NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_opens_with_the_command_and_has_the_keys(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# python run.py ")
    assert f"dataset={path.stem}" in lines[0]
    assert lines[1].startswith("# ")
    node = resolve(path)
    assert META - {"content"} | {"root", "download", "train_size", "test_size", "seed"} <= set(node)
    assert all(isinstance(side, int) for side in node["shape"])
    assert 0 < node["top_k"] <= node["shape"][1] * node["shape"][2]
    assert set(node["augmentation"]) == {"flip", "pad"}
    assert node["download"] is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_keys_are_exactly_the_parameters_of_the_target(path: Path) -> None:
    node = resolve(path)
    parameters = set(inspect.signature(get_object(node["_target_"])).parameters)
    assert set(node) - META - {"_target_"} == parameters


@pytest.mark.parametrize("name", ["mnist5k", "digits"])
def test_embedded_sets_build_and_are_what_the_yaml_says(name: str) -> None:
    node = resolve(FOLDER / f"{name}.yaml")
    data = build({key: value for key, value in node.items() if key not in META}, "dataset")
    data.check(node["shape"], node["classes"])


@pytest.mark.parametrize("name", ["image_folder", "gtsrb", "flowers102"])
def test_decoded_images_are_kept_in_the_outputs_of_the_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASET_CACHE", raising=False)
    assert resolve(FOLDER / f"{name}.yaml")["cache"] == "o/cache"
    monkeypatch.setenv("DATASET_CACHE", "/fast")
    assert resolve(FOLDER / f"{name}.yaml")["cache"] == "/fast"
