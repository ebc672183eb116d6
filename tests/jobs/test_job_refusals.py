"""What a training refuses before anything is written: networks whose numbers would mean nothing, and batches of one image."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from running import do, train_run
from torch import Tensor, nn

from runner.core.errors import ConfigError
from runner.store.files import read_tensors


class Network(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Writes(Network):
    def forward(self, images: Tensor) -> Tensor:
        images -= 0.5
        return super().forward(images)


class WritesUnseen(Network):
    """Past torch's count of changes, in a network that looks at values, which no meta tensor has."""

    def forward(self, images: Tensor) -> Tensor:
        images.detach().numpy()[:] = 0.0
        return super().forward(images)


class OneLogit(Network):
    def __init__(self) -> None:
        super().__init__(classes=1)


class NotFinite(Network):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * images.log().sum()  # -inf at black pixels


class Looks(Network):
    def forward(self, images: Tensor) -> Tensor:
        assert float(images.max()) <= 1.0
        return super().forward(images)


def described(config: dict[str, Any], network: type[nn.Module]) -> dict[str, Any]:
    return {**config, "model": {"name": network.__name__, "_target_": f"{__name__}.{network.__name__}"}}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Writes, r"model=Writes: writes into its input; must leave it as it is"),
        (WritesUnseen, r"model=WritesUnseen: writes into its input; must leave it as it is"),
        (OneLogit, r"model=OneLogit: gives logits \(N, 1\); must be of two classes or more: torch.cat"),
        (NotFinite, r"model=NotFinite: gives logits that are NaN or inf; must be finite"),
    ],
)
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_network_without_meaning(compose, network: type[nn.Module], message: str, epochs: int) -> None:
    config = described(compose("job=train", f"training.epochs={epochs}"), network)
    with pytest.raises(ConfigError, match=f"^{message}[^\n]*$"):
        do(config)
    assert not (Path(config["outputs"]) / "models").exists()


@pytest.mark.parametrize("network", [Network, Looks])
@pytest.mark.parametrize(("size", "images"), [(1, 20), (8, 17)])
def test_a_last_batch_of_one_image_under_batch_normalisation(
    compose, network: type[nn.Module], size: int, images: int
) -> None:
    config = described(compose("job=train", f"training.batch_size={size}", f"dataset.train_size={images}"), network)
    message = rf"^training.batch_size={size}: must be at least 2, and leave no single image of the {images}: BatchNorm"
    with pytest.raises(ConfigError, match=message):
        do(config)
    assert not (Path(config["outputs"]) / "models").exists()


def test_a_batch_larger_than_the_training_set_is_told_and_is_one_step(compose, caplog) -> None:
    config = compose("job=train", "training.batch_size=500", "training.epochs=1")
    with caplog.at_level(logging.WARNING):
        do(config)
    assert "training.batch_size=500: there are 200 training images; an epoch is one step on all" in caplog.messages
    whole = {**config, "training": {**config["training"], "batch_size": 200}}
    do(whole)
    (first, _), (second, _) = (read_tensors(train_run(one).folder / "model.safetensors") for one in (config, whole))
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_a_set_without_test_images_is_refused_before_anything_is_written(compose, tmp_path: Path) -> None:
    for name in ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "pets" / name)
    pets = ("dataset=image_folder", f"dataset.root={tmp_path / 'pets'}", "dataset.size=8", "metrics.k=4")
    sizes = ("dataset.train_size=null", "dataset.test_size=null", "dataset.cache=null", "dataset.test_fraction=0.1")
    config = compose("job=train", *pets, *sizes)
    with pytest.raises(
        ConfigError, match=r"^dataset: holds no test images; must have some: [^\n]*dataset.test_fraction"
    ):
        do(config)
    assert not (Path(config["outputs"]) / "models").exists()
